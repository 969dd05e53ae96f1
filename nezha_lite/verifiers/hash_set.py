"""The definition itself: one Python set of keys per level."""

from __future__ import annotations

import sys
from collections.abc import Hashable

import torch
from torch import Tensor

from nezha_lite.verifiers.base import Verifier


class HashSetVerifier(Verifier):
    """The definition itself: one Python set of keys per level. Readable, but slow on tensors.

    It answers keys on any device, but waits for the device: it cannot be captured.

    >>> from nezha_lite.verifiers import CatalogueKeys
    >>> verifier = HashSetVerifier(CatalogueKeys(torch.tensor([3, 5]), radices=(4, 6)))
    >>> verifier.prefix_contains(1, torch.tensor([0, 1, 3])).tolist()  # 5 = 1 + 4 · 1
    [False, True, True]
    """

    def _build(self, keys: Tensor) -> None:
        # Every prefix with its number of continuations: it goes with the last of them.
        self.prefixes: list[dict[int, int]] = [{} for _ in self.radices]
        self.n_ids = 0
        self.add(keys)

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""
        existing = self.prefixes[level - 1]
        exists = [key in existing for key in keys.flatten().tolist()]
        return torch.tensor(exists, dtype=torch.bool, device=keys.device).view(keys.shape)

    @property
    def nbytes(self) -> int:
        """See `Verifier.nbytes`: the tables and their keys, as Python reports them."""
        return sum(sys.getsizeof(keys) + sum(map(sys.getsizeof, keys)) for keys in self.prefixes)

    @property
    def signature(self) -> Hashable:
        """See `Verifier.signature`: queries read no tensor, so it has no substitute."""
        return self

    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        self.prefixes[level - 1].update(zip(keys.tolist(), children.tolist(), strict=True))

    def _erase(self, level: int, keys: Tensor) -> None:
        for key in keys.tolist():
            del self.prefixes[level - 1][key]

    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        children = self.prefixes[level - 1]
        for key, change in zip(keys.tolist(), more.tolist(), strict=True):
            children[key] += change
        remain = [children[key] > 0 for key in keys.tolist()]
        return torch.tensor(remain, dtype=torch.bool, device=keys.device)
