"""Many sequences of whole numbers in two flat arrays: a million users in a hundred megabytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[np.int64]


class Sequences(Sequence[tuple[int, ...]]):
    """U sequences, one after the other in one array. It reads as a tuple of tuples does.

    >>> histories = Sequences.of([[3, 1], [], [2]])
    >>> histories[0], len(histories), histories[1:] == ((), (2,))
    ((3, 1), 3, True)
    >>> histories.offsets, histories.values
    (array([0, 2, 2, 3]), array([3, 1, 2]))

    Attributes:
        offsets: (U+1,) int64, where each sequence begins; the last one is I.
        values: (I,) int64.

    Raises:
        ValueError: if the offsets do not rise from 0 to I.
    """

    def __init__(self, offsets: ArrayLike, values: ArrayLike) -> None:
        self.offsets: Integers = np.asarray(offsets, dtype=np.int64)
        self.values: Integers = np.asarray(values, dtype=np.int64)
        whole = self.offsets.ndim == self.values.ndim == 1 and len(self.offsets) > 0
        if not whole or self.offsets[0] != 0 or self.offsets[-1] != len(self.values):
            raise ValueError(f"offsets must rise from 0 to {len(self.values)}, one more than rows.")
        if (self.lengths < 0).any():
            raise ValueError(f"offsets fall at row {int((self.lengths < 0).argmax())}.")

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Sequences:
        """Python sequences as arrays; `Sequences` are returned as they are."""
        if isinstance(sequences, Sequences):
            return sequences
        offsets = offsets_of([*map(len, sequences)])
        return cls(offsets, np.fromiter(chain.from_iterable(sequences), np.int64, offsets[-1]))

    @property
    def lengths(self) -> Integers:
        """(U,) int64."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> Integers:
        """(I,) int64, the sequence of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def spans(self, starts: Integers, ends: Integers) -> Self:
        """The values from start to end of each row, as positions in `values`: (R,) int64 each."""
        offsets = offsets_of(ends - starts)
        shift = np.repeat(starts - offsets[:-1], ends - starts)
        return type(self)(offsets, self.values[np.arange(offsets[-1]) + shift])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> tuple[int, ...] | Self:
        if isinstance(index, slice):
            rows = np.arange(*index.indices(len(self)))
            return self.spans(self.offsets[rows], self.offsets[rows + 1])
        row = range(len(self))[index]
        return tuple(self.values[self.offsets[row] : self.offsets[row + 1]].tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequences):
            same = np.array_equal(self.offsets, other.offsets)
            return same and np.array_equal(self.values, other.values)
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        same = len(self) == len(other)
        return same and all(mine == tuple(row) for mine, row in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = [*map(repr, self[:8]), *[f"… {len(self):,} in all"] * (len(self) > 8)]
        return f"Sequences([{', '.join(shown)}])"


def offsets_of(lengths: Any) -> Integers:
    """Where sequences of these lengths begin, and the end of the last: (U,) → (U+1,) int64."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
