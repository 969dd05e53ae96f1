"""The definition itself: one Python set of keys per level."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from nezha_lite.verifiers.incremental import IncrementalVerifier


class HashSetVerifier(IncrementalVerifier):
    """The definition itself: one Python set of keys per level. Readable, and slow on tensors.

    Answers keys on any device, at the price of a synchronisation: it cannot be captured.
    """

    def _build(self, keys: Tensor) -> None:
        # Every prefix with its number of continuations, so that it can go with the last of them.
        self.prefixes: list[dict[int, int]] = [{} for _ in self.radices]
        self.n_ids = 0
        self.add(keys)

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""
        existing = self.prefixes[level - 1]
        found = [key in existing for key in keys.flatten().tolist()]
        return torch.tensor(found, dtype=torch.bool, device=keys.device).view(keys.shape)

    @property
    def nbytes(self) -> int:
        """See `Verifier.nbytes`: the tables and their keys, as Python reports them."""
        return sum(sys.getsizeof(keys) + sum(map(sys.getsizeof, keys)) for keys in self.prefixes)

    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        self.prefixes[level - 1].update(zip(keys.tolist(), children.tolist(), strict=True))

    def _erase(self, level: int, keys: Tensor) -> None:
        for key in keys.tolist():
            del self.prefixes[level - 1][key]

    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        children = self.prefixes[level - 1]
        for key, change in zip(keys.tolist(), more.tolist(), strict=True):
            children[key] += change
        some = [children[key] > 0 for key in keys.tolist()]
        return torch.tensor(some, dtype=torch.bool, device=keys.device)
