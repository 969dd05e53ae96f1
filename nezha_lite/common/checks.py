"""One way to check a value: "NAME is VALUE, but must be VALID."."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from inspect import get_annotations
from math import inf
from numbers import Integral, Real
from typing import Annotated, Any


def check(valid: bool, name: str, value: object, must_be: str) -> None:
    """Raise ValueError unless `valid`.

    >>> check(False, "beam", 0, "at least 1")
    Traceback (most recent call last):
    ValueError: beam is 0, but must be at least 1.
    """
    if not valid:
        shown = repr(value)
        shown = shown if len(shown) <= 100 else f"{shown[:100]}…"
        raise ValueError(f"{name} is {shown}, but must be {must_be}.")


@dataclass(frozen=True)
class Valid:
    """What a field's value must be: `Annotated[float, Valid(lambda x: x < 1, "below 1")]`."""

    test: Callable[[Any], bool]
    must_be: str


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _at_least(low: int) -> Valid:
    def whole(value: Any) -> bool:
        integral = isinstance(value, Integral) and _number(value)
        return integral and bool(value >= low)

    return Valid(whole, f"a whole number of at least {low}")


Count = Annotated[int, _at_least(1)]
CountOrZero = Annotated[int, _at_least(0)]
BelowOne = Annotated[float, Valid(lambda share: _number(share) and 0 <= share < 1, "in [0, 1)")]
Share = Annotated[float, Valid(lambda share: _number(share) and 0 <= share <= 1, "in [0, 1]")]
Weight = Annotated[float, Valid(lambda x: _number(x) and 0 <= x < inf, "in [0, inf)")]
Flag = Annotated[bool, Valid(lambda value: isinstance(value, bool), "True or False")]


class Checked:
    """Base of a dataclass that checks its fields by the `Valid` in their annotations.

    >>> @dataclass
    ... class Config(Checked):
    ...     beam: Count = 10
    >>> Config(beam=0)
    Traceback (most recent call last):
    ValueError: beam is 0, but must be a whole number of at least 1.
    """

    def __post_init__(self) -> None:
        config: Any = type(self)
        for name, valid in _valid_fields(config):
            check(valid.test(getattr(self, name)), name, getattr(self, name), valid.must_be)


@cache
def _valid_fields(config: Any) -> list[tuple[str, Valid]]:
    # A foreign base, such as transformers', may have annotations that cannot be evaluated.
    own = [base for base in config.__mro__ if issubclass(base, Checked)]
    hints = [item for base in own for item in get_annotations(base, eval_str=True).items()]
    return [(name, valid) for name, hint in hints for valid in getattr(hint, "__metadata__", ())]


def check_counts(config: object, *names: str, low: int = 1) -> None:
    """Raise ValueError unless each named attribute is a whole number of at least `low`."""
    valid = _at_least(low)
    for name in names:
        check(valid.test(getattr(config, name)), name, getattr(config, name), valid.must_be)


def check_shares(config: object, *names: str) -> None:
    """Raise ValueError unless each named attribute is a number from 0 to 1."""
    for name in names:
        value = getattr(config, name)
        check(_number(value) and 0 <= value <= 1, name, value, "between 0 and 1")
