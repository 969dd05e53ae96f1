"""What all structures share: checked keys, and adding and removing IDs level by level."""

from __future__ import annotations

import copy
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Self

import torch
from torch import Tensor

from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers.base import Candidates, Catalogue, child_keys

_signatures = itertools.count()  # unique in this process; a copy shares its original's


class IncrementalVerifier(ABC):
    """A catalogue whose IDs can be added and removed.

    A structure answers `prefix_contains` and holds, at every level, exactly the prefixes that have
    an ID below them. A subclass says how one level inserts and erases prefixes; which prefixes
    these are is worked out here, from the finished IDs upwards.

    Build it on the model's device; queries must be on that device too.

    >>> from nezha_lite.verifiers import CatalogueKeys, TrieVerifier
    >>> verifier = TrieVerifier(CatalogueKeys(torch.tensor([3, 5]), radices=(4, 6)))
    >>> verifier.add(torch.tensor([7]))
    >>> verifier.remove(torch.tensor([3]))
    >>> verifier.n_ids, verifier.contains(torch.tensor([3, 5, 7])).tolist()
    (2, [False, True, True])

    Args:
        catalogue: the initial keys; several items may share one, and there may be none.
        device: of the tensors.

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
        """See `Verifier.nbytes`."""
        return sum(tensor.nbytes for tensor in (*self.tensors, *self._children))

    @property
    def signature(self) -> Hashable:
        """See `Verifier.signature`."""
        return self._signature

    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        """See `Verifier.with_tensors`. The result must not be changed."""
        other = copy.copy(self)
        other.tensors = list(tensors)
        return other

    @abstractmethod
    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""

    def contains(self, keys: Tensor) -> Tensor:
        """See `Verifier.contains`."""
        return self.prefix_contains(len(self.radices), keys)

    def candidates(self, level: int, prefixes: Tensor) -> Candidates:
        """See `Verifier.candidates`: the whole grid."""
        return Candidates(
            self.prefix_contains(level, child_keys(prefixes, level, self.radices)).flatten(1)
        )

    @torch.inference_mode(False)
    def add(self, keys: Tensor) -> None:
        """See `Verifier.add`."""
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
        """See `Verifier.remove`."""
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
