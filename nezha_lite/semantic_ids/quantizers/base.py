"""What every quantizer does, and how every quantizer is configured."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self

from torch import Tensor

from nezha_lite.semantic_ids.quantizers.validation import check_range

# More than any ID has; a file that asks for a billion is refused before they are made.
_MOST_LEVELS = 64


class Quantizer(Protocol):
    """Item vectors in, one code per level out. L levels, C_l codes at level l, D the input width.

    Whatever the kind, a vector's codes are a plain function of that vector alone: equal vectors
    share all codes, and items that arrive after `fit` are encoded like those it saw.
    """

    kind: ClassVar[str]

    @property
    def config(self) -> "QuantizerConfig":
        """What it was asked to be."""
        ...

    @property
    def radices(self) -> tuple[int, ...]:
        """Codes per level as configured, (C_1, ..., C_L): the base of each digit of an item key."""
        ...

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Learn from `vectors` (N, D) and return self; `progress` shows a bar."""
        ...

    def encode(self, vectors: Tensor) -> Tensor:
        """The codes of `vectors` (N, D): int64 (N, L), level l in 0..C_l - 1.

        Greedy: the argmin of `level_costs` level by level, ties to the lowest code.
        """
        ...

    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        """What each code would cost at the level after `prefix` (N, l), 0 <= l < L.

        float64 (N, C_{l+1}), lower is better, inf for a code that the codebook does not have.
        """
        ...

    def save(self, path: str | Path) -> None:
        """Write everything `load` needs to one safetensors file; an old one is replaced whole."""
        ...

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. FileNotFoundError; ValueError if it is no file of this kind."""
        ...


@dataclass(frozen=True)
class QuantizerConfig:
    """What all quantizers are told: how many levels, how many codes at each, and the seed.

    `codes` is one number for all levels or one per level; 1 is allowed and makes a level that
    tells no items apart. Raises ValueError naming the field for values out of range.
    """

    levels: int = 3
    codes: int | tuple[int, ...] = 64
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("levels", self.levels, 1, _MOST_LEVELS)
        if isinstance(self.codes, tuple) and len(self.codes) != self.levels:
            raise ValueError(
                f"codes is {self.codes!r}: one number, or one per level ({self.levels}), is needed"
            )
        for code_count in self.radices:
            check_range("codes", code_count, 1)
        check_range("seed", self.seed, 0, 2**32 - 1)
        if math.prod(self.radices) > 2**63 - 1:
            raise ValueError(
                f"codes is {self.codes!r} at {self.levels} levels: more IDs than the keys, which "
                "are int64, can tell apart; fewer levels or codes are needed"
            )

    @property
    def radices(self) -> tuple[int, ...]:
        """Codes per level, (C_1, ..., C_L)."""
        return self.codes if isinstance(self.codes, tuple) else (self.codes,) * self.levels
