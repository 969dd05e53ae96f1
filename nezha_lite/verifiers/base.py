"""What all verifiers are: answers on prefixes and IDs, and IDs added and removed level by level."""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds, radix_strides

_signatures = itertools.count()  # unique in this process; a copy shares its original's


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


Catalogue = SemanticIds | CatalogueKeys


@dataclass(frozen=True, eq=False)
class Candidates:
    """The continuations that a verifier offers to a beam step.

    Candidates are numbered k · C + c: code c after beam k. Their count F depends on the verifier,
    the level and K only, never on the beams' contents, so shapes are static.

    Attributes:
        exists: (B, F) bool, which of them begin an existing ID; None where this was not checked.
        index: (B, F) int64, their numbers in ascending order where they exist, any valid number
            elsewhere; None for all K · C in order.
        parents: (B, F) int64, their beams' numbers k; None where `index` is.
    """

    exists: Tensor | None
    index: Tensor | None = None
    parents: Tensor | None = None

    def grid(self, batch: int, beams: int, n_codes: int) -> Tensor:
        """`exists` as (B, K, C) bool; it must not be None."""
        assert self.exists is not None
        if self.index is None:
            return self.exists.view(batch, beams, n_codes)
        counts = self.exists.new_zeros(batch, beams * n_codes, dtype=torch.uint8)
        # Some numbers of candidates that do not exist may be those of others that do.
        return counts.scatter_add(1, self.index, self.exists.byte()).view(batch, beams, -1) > 0


class Verifier(ABC):
    """Membership of keys in the catalogue, exact: no false accept, no false reject.

    A subclass is a data structure: it answers `prefix_contains`, and it holds, at every level,
    exactly the prefixes that have an ID below them. It says how one level inserts and erases
    prefixes; which prefixes these are is worked out here, from the finished IDs upwards.

    Build it on the model's device; queries must be on that device too. Threads may query a verifier
    together, but not while another thread adds or removes keys: change a copy (`copy.deepcopy`)
    instead and query the copy from then on, as `Recommender` does.

    >>> from nezha_lite.verifiers import CatalogueKeys, TrieVerifier
    >>> verifier = TrieVerifier(CatalogueKeys(torch.tensor([3, 5]), radices=(4, 6)))
    >>> verifier.add(torch.tensor([7]))
    >>> verifier.remove(torch.tensor([3]))
    >>> verifier.n_ids, verifier.contains(torch.tensor([3, 5, 7])).tolist()
    (2, [False, True, True])

    Args:
        catalogue: the initial keys; several items may share one, and there may be none.
        device: of the tensors.

    Attributes:
        radices: T_1 … T_L of its IDs.
        n_ids: the current number of distinct IDs.
        tensors: every tensor that queries read. A compiled program takes them as inputs.

    Raises:
        ValueError: for keys that are not (N,) int64 inside the ID space, or an ID space too large
            for int64 keys.
    """

    # PyTorch does not let tensors made in inference mode change in place outside it.
    @torch.inference_mode(False)
    def __init__(self, catalogue: Catalogue, device: torch.device | str = "cpu") -> None:
        self.radices = tuple(catalogue.radices)
        self.strides = radix_strides(self.radices)
        self.space = math.prod(self.radices)
        if self.space > 2**63 - 1:
            raise ValueError(
                f"radices {self.radices} span {self.space} IDs, but keys are int64 and allow at "
                f"most {2**63 - 1}: use fewer levels or smaller codebooks."
            )
        self.device = torch.empty(0, device=device).device  # "cuda" by its number
        self.tensors: list[Tensor] = []
        self._children: list[Tensor] = []  # numbers of continuations, which no query reads
        keys = self._distinct(catalogue.keys)
        self.n_ids = keys.numel()
        self._build(keys)
        self._renew_signature()

    @property
    def nbytes(self) -> int:
        """Memory of the structure, in bytes."""
        return sum(tensor.nbytes for tensor in (*self.tensors, *self._children))

    @property
    def signature(self) -> Hashable:
        """Verifiers of one signature differ in the values of `tensors` alone.

        They can therefore run in the same compiled program. A copy has its original's signature,
        and a change made in place keeps it. Where a change needs larger tensors, the signature is
        new.
        """
        return self._signature

    @property
    def layout(self) -> str:
        """What `signature` stands for, the same in every process: programs in a file name it."""
        forms = [(tuple(tensor.shape), tensor.dtype) for tensor in self.tensors]
        described = repr((type(self).__name__, self.radices, forms, self._candidate_counts()))
        return hashlib.sha256(described.encode()).hexdigest()

    def _candidate_counts(self) -> object:
        """What decides about the shapes of `candidates`, beside the shapes of `tensors`."""
        return None

    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        """The same verifier for queries on other `tensors` of the same shapes and types.

        The result must not be changed.
        """
        other = copy.copy(self)
        other.tensors = list(tensors)
        return other

    @abstractmethod
    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """Which prefixes of `level` codes (1 … L) begin an existing ID: int64 (...) → bool (...).

        Negative keys, which mark padding, never exist.
        """

    def contains(self, keys: Tensor) -> Tensor:
        """Which finished IDs exist: int64 (...) → bool (...)."""
        return self.prefix_contains(len(self.radices), keys)

    def candidates(self, level: int, prefixes: Tensor) -> Candidates:
        """The continuations of prefixes of level − 1 codes by a code of `level` (1 … L).

        Here it is the whole grid.

        Args:
            level: of the next code.
            prefixes: (B, K) int64 keys, different within a row; 0 at level 1. Negative ones, of
                which a row may hold several, have no continuation.
        """
        return Candidates(
            self.prefix_contains(level, child_keys(prefixes, level, self.radices)).flatten(1)
        )

    @torch.inference_mode(False)
    def add(self, keys: Tensor) -> None:
        """Insert IDs: (M,) int64 keys; those that exist already stay.

        Raises:
            ValueError: for a key outside the ID space; then nothing is changed.
        """
        keys = self._distinct(keys)
        children = torch.zeros_like(keys)
        for level in range(len(self.radices), 0, -1):
            new = ~self.prefix_contains(level, keys)
            if level < len(self.radices):
                self._count(level, keys[~new], children[~new])
            else:
                self.n_ids += int(new.sum())
            keys, children = keys[new], children[new]
            if keys.numel() == 0:
                return
            self._insert(level, keys, children)
            keys, children = self._parents(level, keys)

    @torch.inference_mode(False)
    def remove(self, keys: Tensor) -> None:
        """Delete IDs: (M,) int64 keys; those that do not exist are ignored.

        Raises:
            ValueError: for a key outside the ID space; then nothing is changed.
        """
        keys = self._distinct(keys)
        keys = keys[self.contains(keys)]
        children = torch.zeros_like(keys)
        self.n_ids -= keys.numel()
        for level in range(len(self.radices), 0, -1):
            if level < len(self.radices):
                keys = keys[~self._count(level, keys, -children)]
            if keys.numel() == 0:
                return
            self._erase(level, keys)
            keys, children = self._parents(level, keys)

    @abstractmethod
    def _build(self, keys: Tensor) -> None:
        """Build the structure for finished IDs: (N,) int64, sorted, distinct."""

    @abstractmethod
    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        """Insert prefixes that do not exist yet, after the levels below have changed.

        Args:
            level: 1 … L, their number of codes.
            keys: (M,) int64, sorted, distinct, at least one.
            children: (M,) int64, their numbers of continuations; 0 for finished IDs.
        """

    @abstractmethod
    def _erase(self, level: int, keys: Tensor) -> None:
        """Erase existing prefixes, after the levels below have changed; `keys` as above."""

    @abstractmethod
    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        """Add (M,) `more` to the numbers of continuations of existing prefixes.

        Returns:
            (M,) bool, which of them have a continuation now.
        """

    def _renew_signature(self) -> None:
        """Call this after replacing one of `tensors` by one of another shape."""
        self._signature: Hashable = next(_signatures)

    def _n_prefixes(self, level: int) -> int:
        """The number of prefixes of `level` codes that can be written."""
        return self.strides[level - 1] * self.radices[level - 1]

    def _split(self, level: int, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which keys of `level` lie in the space, and their parents and codes: all (...).

        A key outside is replaced by 0, so that it can be looked up.
        """
        stride = self.strides[level - 1]
        inside = (keys >= 0) & (keys < self._n_prefixes(level))
        keys = keys.masked_fill(~inside, 0)
        if stride & (stride - 1) == 0:  # a power of two: ten times as fast as dividing
            return inside, keys & (stride - 1), keys >> (stride.bit_length() - 1)
        return inside, keys % stride, keys // stride

    def _parents(self, level: int, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The prefixes one level up, sorted, and how many of `keys` each has."""
        parents, children = torch.unique(keys % self.strides[level - 1], return_counts=True)
        return parents, children

    def _distinct(self, keys: Tensor) -> Tensor:
        if keys.dtype != torch.int64 or keys.ndim != 1:
            raise ValueError(
                f"keys is {tuple(keys.shape)} of {keys.dtype}, but must be (N,) of torch.int64."
            )
        outside = (keys < 0) | (keys >= self.space)
        if outside.any():
            raise ValueError(
                f"Key {int(keys[outside][0])} lies outside the ID space of radices "
                f"{self.radices}, where keys are 0 to {self.space - 1}."
            )
        return torch.unique(keys.to(self.device))


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
