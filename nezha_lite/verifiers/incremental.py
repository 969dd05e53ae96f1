"""What all structures share: checked keys, and adding and removing IDs level by level."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers.base import Candidates, Catalogue, child_keys


class IncrementalVerifier(ABC):
    """A catalogue of existing IDs whose members come and go.

    A structure answers `prefix_contains` and holds, at every level, exactly the prefixes that have
    an ID below them. It says how one level takes in new prefixes and lets go of old ones; which
    prefixes these are is worked out here, from the finished IDs upwards.

    Build it on the model's device, where the keys it is asked for must be too.

    Args:
        catalogue: the keys to begin with; several items may share one, and there may be none.
        device: where the tensors live.

    Raises:
        ValueError: for keys that are not (N,) int64 inside the ID space, or an ID space too large
            for int64 keys.
    """

    # Inside inference mode PyTorch makes tensors that nothing outside it may change in place.
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
        self.generation = 0
        keys = self._distinct(catalogue.keys)
        self.n_ids = keys.numel()
        self._build(keys)

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory of the structure, in bytes."""

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
        """Lay out the structure for these finished IDs: (N,) int64, sorted, all different."""

    @abstractmethod
    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        """Let prefixes that do not exist yet exist, after the levels below have changed.

        Args:
            level: 1 … L, how many codes they have.
            keys: (M,) int64, sorted, all different, at least one.
            children: (M,) int64, their numbers of continuations; 0 for finished IDs.
        """

    @abstractmethod
    def _erase(self, level: int, keys: Tensor) -> None:
        """Let existing prefixes go, after the levels below have changed; `keys` as above."""

    @abstractmethod
    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        """Count (M,) `more` continuations of existing prefixes: negative numbers for fewer.

        Returns:
            (M,) bool, which of them have any now.
        """

    def _n_prefixes(self, level: int) -> int:
        """How many prefixes of `level` codes could be written."""
        return self.strides[level - 1] * self.radices[level - 1]

    def _split(self, level: int, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which keys of `level` lie in the space, and their parents and codes: all (...).

        What lies outside counts as key 0, so that it can be looked up at all.
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


def taken(values: Tensor, index: Tensor) -> Tensor:
    """values[index] for a 1-D tensor: (N,), (...) int64 → (...). Faster so, by far on a CPU."""
    return values.index_select(0, index.flatten()).view(index.shape)
