"""Model-free verifiers: does this semantic ID exist? (NEZHA, section 3.3.)

    valid(s) = s ∈ V,   V: the hash set of the catalogue's keys

The answer needs no model: an ID either names an item or it does not. A verifier answers for
finished IDs (`contains`, the paper's abstract) and for unfinished ones (`prefix_contains`, what the
authors' released code filters by at every level).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds


class Verifier(Protocol):
    """Membership of keys in the catalogue, exact: no false accept, no false reject."""

    @property
    def radices(self) -> tuple[int, ...]:
        """T_1 … T_L of the IDs it knows."""

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """Which prefixes of `level` codes (1 … L) begin an existing ID: int64 (...) → bool (...).

        Negative keys, the mark of an empty slot, never exist.
        """

    def contains(self, keys: Tensor) -> Tensor:
        """Which finished IDs exist: int64 (...) → bool (...)."""


class HashSetVerifier:
    """The definition itself: one Python set of keys per level. Readable, and slow on tensors."""

    def __init__(self, semantic_ids: SemanticIds) -> None:
        self.radices = semantic_ids.radices
        self.prefixes = [
            set(semantic_ids.prefix_keys(level).tolist())
            for level in range(1, semantic_ids.levels + 1)
        ]

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""
        existing = self.prefixes[level - 1]
        found = [key in existing for key in keys.flatten().tolist()]
        return torch.tensor(found, dtype=torch.bool, device=keys.device).view(keys.shape)

    def contains(self, keys: Tensor) -> Tensor:
        """See `Verifier.contains`."""
        return self.prefix_contains(len(self.prefixes), keys)


class SortedVerifier:
    """The same set as sorted tensors and binary search: on any device, no Python loop.

    Memory: 8 bytes per distinct prefix and level. Build it on the model's device: keys on another
    one cost a copy of the tensors at every call.
    """

    def __init__(self, semantic_ids: SemanticIds, device: torch.device | str = "cpu") -> None:
        self.radices = semantic_ids.radices
        self.prefixes = [
            semantic_ids.prefix_keys(level).to(device)
            for level in range(1, semantic_ids.levels + 1)
        ]

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""
        existing = self.prefixes[level - 1].to(keys.device)  # no copy on the same device
        place = torch.searchsorted(existing, keys.contiguous()).clamp_max(existing.numel() - 1)
        return existing[place] == keys

    def contains(self, keys: Tensor) -> Tensor:
        """See `Verifier.contains`."""
        return self.prefix_contains(len(self.prefixes), keys)
