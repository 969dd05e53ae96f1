"""One way to check a value: "NAME is VALUE, but must be VALID."."""

from __future__ import annotations

from numbers import Integral, Real


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


def check_counts(config: object, *names: str, low: int = 1) -> None:
    """Raise ValueError unless each named attribute is a whole number of at least `low`."""
    for name in names:
        value = getattr(config, name)
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        check(whole and value >= low, name, value, f"a whole number of at least {low}")


def check_shares(config: object, *names: str) -> None:
    """Raise ValueError unless each named attribute is a number from 0 to 1."""
    for name in names:
        value = getattr(config, name)
        number = isinstance(value, Real) and not isinstance(value, bool)
        check(number and 0 <= value <= 1, name, value, "between 0 and 1")
