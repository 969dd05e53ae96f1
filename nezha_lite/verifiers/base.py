"""The one interface of all verifiers, and what a beam step asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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

    Attributes:
        keys: (N,) int64.
        radices: T_1 … T_L.
    """

    keys: Tensor
    radices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The continuations that a verifier offers to a beam step.

    Candidates are numbered k · C + c: code c after beam k. The count F depends on the catalogue,
    the level and K only, never on the beams' contents, so that shapes stay static.

    Attributes:
        exists: (B, F) bool, which of them begin an existing ID; None if nobody asked.
        index: (B, F) int64, their numbers in rising order where they exist, any valid number
            elsewhere; None for all K · C in order.
    """

    exists: Tensor | None
    index: Tensor | None = None


class Verifier(Protocol):
    """Membership of keys in the catalogue, exact: no false accept, no false reject.

    Threads may ask at once, but not while another one adds or removes: change a copy then, and ask
    that from there on, as `Recommender` does.
    """

    @property
    def radices(self) -> tuple[int, ...]:
        """T_1 … T_L of the IDs it knows."""

    @property
    def n_ids(self) -> int:
        """How many different IDs exist now."""

    @property
    def nbytes(self) -> int:
        """Memory of the structure, in bytes."""

    @property
    def generation(self) -> int:
        """Grows whenever a change replaced tensors, so that programs compiled on them are stale.

        Changes made in place leave it as it is: a captured program sees them by itself.
        """

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """Which prefixes of `level` codes (1 … L) begin an existing ID: int64 (...) → bool (...).

        Negative keys, the mark of an empty slot, never exist.
        """

    def contains(self, keys: Tensor) -> Tensor:
        """Which finished IDs exist: int64 (...) → bool (...)."""

    def candidates(self, level: int, prefixes: Tensor) -> Candidates:
        """The continuations by a code of `level` (1 … L) of prefixes of level − 1 codes.

        Args:
            level: of the code to be chosen.
            prefixes: (B, K) int64 keys, those of a row all different; 0 at level 1; negative ones,
                of which there may be several, have no continuation.
        """

    def add(self, keys: Tensor) -> None:
        """Let these IDs exist: (M,) int64 keys; those that already do stay as they are.

        Raises:
            ValueError: for a key outside the ID space; nothing is changed then.
        """

    def remove(self, keys: Tensor) -> None:
        """Let these IDs exist no more: (M,) int64 keys; those that do not stay as they are.

        Raises:
            ValueError: for a key outside the ID space; nothing is changed then.
        """


def child_keys(prefixes: Tensor, level: int, radices: Sequence[int]) -> Tensor:
    """Keys of all continuations at `level`: (B, K) → (B, K, C) int64, -1 after what is no prefix.

    That is a negative number, or one too large for level − 1 codes, whose continuations would
    carry the keys of others.
    """
    stride = radix_strides(radices)[level - 1]
    codes = torch.arange(radices[level - 1], device=prefixes.device)
    keys = prefixes.unsqueeze(-1) + codes * stride
    return keys.masked_fill(((prefixes < 0) | (prefixes >= stride)).unsqueeze(-1), -1)
