"""The interface of all verifiers, and the candidates that they give to a beam step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from nezha_lite.semantic_ids import radix_strides


class Catalogue(Protocol):
    """What a verifier is built from; `SemanticIds` is one, `CatalogueKeys` another."""

    @property
    def radices(self) -> tuple[int, ...]:
        """T_1 … T_L."""

    @property
    def keys(self) -> Tensor:
        """(N,) int64, the items' keys, in any order; several items may share one."""


@dataclass(frozen=True, eq=False)
class CatalogueKeys:
    """A catalogue as bare keys, for those too large to name every item.

    >>> CatalogueKeys(torch.tensor([3, 5]), (4, 6)).radices
    (4, 6)

    Attributes:
        keys: (N,) int64.
        radices: T_1 … T_L.
    """

    keys: Tensor
    radices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The continuations that a verifier offers to a beam step.

    Candidates are numbered k · C + c: code c after beam k. Their count F depends on the verifier,
    the level and K only, never on the beams' contents, so shapes are static.

    Attributes:
        exists: (B, F) bool, which of them begin an existing ID; None where this was not checked.
        index: (B, F) int64, their numbers in ascending order where they exist, any valid number
            elsewhere; None for all K · C in order.
    """

    exists: Tensor | None
    index: Tensor | None = None

    def grid(self, batch: int, beams: int, n_codes: int) -> Tensor:
        """`exists` as (B, K, C) bool; it must not be None."""
        assert self.exists is not None
        if self.index is None:
            return self.exists.view(batch, beams, n_codes)
        counts = self.exists.new_zeros(batch, beams * n_codes, dtype=torch.uint8)
        # Some numbers of candidates that do not exist may be those of others that do.
        return counts.scatter_add(1, self.index, self.exists.byte()).view(batch, beams, -1) > 0


class Verifier(Protocol):
    """Membership of keys in the catalogue, exact: no false accept, no false reject.

    Threads may query a verifier together, but not while another thread adds or removes keys: change
    a copy (`copy.deepcopy`) instead and query the copy from then on, as `Recommender` does.
    """

    @property
    def tensors(self) -> Sequence[Tensor]:
        """Every tensor that queries read. A compiled program takes them as inputs."""

    @property
    def radices(self) -> tuple[int, ...]:
        """T_1 … T_L of its IDs."""

    @property
    def n_ids(self) -> int:
        """The current number of distinct IDs."""

    @property
    def nbytes(self) -> int:
        """Memory of the structure, in bytes."""

    @property
    def signature(self) -> Hashable:
        """Verifiers of one signature differ in the values of `tensors` alone.

        They can therefore run in the same compiled program. A copy has its original's signature,
        and a change made in place keeps it. Where a change needs larger tensors, the signature is
        new.
        """

    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        """The same verifier for queries on other `tensors` of the same shapes and types."""

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """Which prefixes of `level` codes (1 … L) begin an existing ID: int64 (...) → bool (...).

        Negative keys, which mark padding, never exist.
        """

    def contains(self, keys: Tensor) -> Tensor:
        """Which finished IDs exist: int64 (...) → bool (...)."""

    def candidates(self, level: int, prefixes: Tensor) -> Candidates:
        """The continuations of prefixes of level − 1 codes by a code of `level` (1 … L).

        Args:
            level: of the next code.
            prefixes: (B, K) int64 keys, different within a row; 0 at level 1. Negative ones, of
                which a row may hold several, have no continuation.
        """

    def add(self, keys: Tensor) -> None:
        """Insert IDs: (M,) int64 keys; those that exist already stay.

        Raises:
            ValueError: for a key outside the ID space; then nothing is changed.
        """

    def remove(self, keys: Tensor) -> None:
        """Delete IDs: (M,) int64 keys; those that do not exist are ignored.

        Raises:
            ValueError: for a key outside the ID space; then nothing is changed.
        """


def child_keys(prefixes: Tensor, level: int, radices: Sequence[int]) -> Tensor:
    """Keys of all continuations at `level`: (B, K) → (B, K, C) int64.

    -1 follows a number that is no prefix: a negative one, or one too large for level − 1 codes,
    whose continuations would have the keys of other prefixes.

    >>> child_keys(torch.tensor([[1, -1]]), 2, (2, 3))
    tensor([[[ 1,  3,  5],
             [-1, -1, -1]]])
    """
    stride = radix_strides(radices)[level - 1]
    codes = torch.arange(radices[level - 1], device=prefixes.device)
    keys = prefixes.unsqueeze(-1) + codes * stride  # (B, K, C)
    return keys.masked_fill(((prefixes < 0) | (prefixes >= stride)).unsqueeze(-1), -1)
