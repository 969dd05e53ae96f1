"""`torch.isin` on the catalogue's keys: the baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from nezha_lite.verifiers.incremental import IncrementalVerifier


class IsinVerifier(IncrementalVerifier):
    """What the authors' released code does: `torch.isin(keys, existing)`, level by level.

    Every question costs as much as reading the whole catalogue, and on CUDA waits for the device,
    so that it cannot be captured.

    Memory: 8 bytes a key and level.
    """

    def _build(self, keys: Tensor) -> None:
        self._keys: list[Tensor] = []
        for level in range(len(self.radices), 0, -1):
            self._keys.insert(0, keys)
            keys, _ = self._parents(level, keys)

    @property
    def nbytes(self) -> int:
        """See `Verifier.nbytes`."""
        return sum(keys.nbytes for keys in self._keys)

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""
        return torch.isin(keys, self._keys[level - 1])

    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        self._set(level, torch.cat([self._keys[level - 1], keys]))

    def _erase(self, level: int, keys: Tensor) -> None:
        existing = self._keys[level - 1]
        self._set(level, existing[~torch.isin(existing, keys)])

    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        return torch.isin(keys, self._keys[level] % self.strides[level])

    def _set(self, level: int, keys: Tensor) -> None:
        self._keys[level - 1] = keys
        self.generation += 1
