"""Sorted keys: looked up by binary search or, as the baseline, by `torch.isin`."""

from __future__ import annotations

import torch
from torch import Tensor

from nezha_lite.verifiers.base import Verifier
from nezha_lite.verifiers.sorted_ops import deleted, fill, gather_1d, inserted, key_type, with_room


class SortedVerifier(Verifier):
    """Every level's keys as one sorted tensor, looked up by binary search.

    Adding and removing costs one linear pass over the level, in place while there is room.

    Memory: 5 bytes a finished ID and 10 a shorter prefix, whose number of continuations is stored
    too; 5 more for each where the level's keys need more than 32 bits.
    """

    def _build(self, keys: Tensor) -> None:
        self.tensors = [keys[:0]] * len(self.radices)
        self._children = [keys[:0]] * (len(self.radices) - 1)  # none for finished IDs
        self._sizes = [0] * len(self.radices)
        children = torch.zeros_like(keys)
        for level in range(len(self.radices), 0, -1):
            self._store(level, keys, children)
            keys, children = self._parents(level, keys)

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""
        existing = self.tensors[level - 1]
        keys = keys.masked_fill(keys >= self._n_prefixes(level), -1).clamp_min(-1)
        index = self._indices(level, keys).clamp_max(existing.numel() - 1)
        return gather_1d(existing, index) == keys

    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        indices, size = self._indices(level, keys), self._sizes[level - 1]
        if level < len(self.radices):
            children = inserted(self._children[level - 1][:size], indices, children)
        self._store(level, inserted(self.tensors[level - 1][:size], indices, keys), children)

    def _erase(self, level: int, keys: Tensor) -> None:
        indices, size = self._indices(level, keys), self._sizes[level - 1]
        if level < len(self.radices):
            keys = deleted(self._children[level - 1][:size], indices)
        self._store(level, deleted(self.tensors[level - 1][:size], indices), keys)

    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        children, indices = self._children[level - 1], self._indices(level, keys)
        children[indices] += more.to(children.dtype)
        return children[indices] > 0

    def _store(self, level: int, keys: Tensor, children: Tensor) -> None:
        """Replace a level's sorted keys, and their numbers of continuations."""
        n_prefixes = self._n_prefixes(level)
        self._sizes[level - 1] = keys.numel()
        capacity = self.tensors[level - 1].numel()
        if capacity == 0 or keys.numel() > capacity:
            capacity = min(with_room(keys.numel()), n_prefixes)
            self.tensors[level - 1] = keys.new_empty(capacity, dtype=key_type(n_prefixes))
            if level < len(self.radices):
                self._children[level - 1] = keys.new_empty(capacity, dtype=torch.int32)
            self._renew_signature()
        fill(self.tensors[level - 1], keys, padding=n_prefixes)  # above every key
        if level < len(self.radices):
            fill(self._children[level - 1], children, padding=0)

    def _indices(self, level: int, keys: Tensor) -> Tensor:
        existing = self.tensors[level - 1]
        return torch.searchsorted(existing, keys.to(existing.dtype).contiguous())


class IsinVerifier(Verifier):
    """What the authors' released code does: `torch.isin(keys, existing)`, level by level.

    Every query reads the whole catalogue, and on CUDA waits for the device: there it cannot be
    captured. Every change replaces the tensors.

    Memory: 8 bytes a key and level.
    """

    def _build(self, keys: Tensor) -> None:
        for level in range(len(self.radices), 0, -1):
            self.tensors.insert(0, keys)
            keys, _ = self._parents(level, keys)

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""
        return torch.isin(keys, self.tensors[level - 1])

    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        self._replace(level, torch.cat([self.tensors[level - 1], keys]))

    def _erase(self, level: int, keys: Tensor) -> None:
        existing = self.tensors[level - 1]
        self._replace(level, existing[~torch.isin(existing, keys)])

    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        return torch.isin(keys, self.tensors[level] % self.strides[level])

    def _replace(self, level: int, keys: Tensor) -> None:
        self.tensors[level - 1] = keys
        self._renew_signature()
