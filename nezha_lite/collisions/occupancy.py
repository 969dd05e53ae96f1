"""Which IDs are taken, and under which prefixes none is left."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from nezha_lite.semantic_ids import SemanticIds, radix_strides


class Occupancy:
    """Counts of taken IDs under every prefix of every length, as mixed-radix keys.

    Args:
        radices: codes per level, (C_1, ..., C_L).
        semantic_ids: whose IDs are taken at the start, with the same radices; None takes none.
    """

    def __init__(self, radices: Sequence[int], semantic_ids: SemanticIds | None = None) -> None:
        self.strides = radix_strides(radices)
        space = math.prod(radices)
        # How many IDs a prefix of 0, 1, ..., L codes has room for.
        self._room = [space // stride for stride in (*self.strides, space)]
        self._taken: list[dict[int, int]] = [{} for _ in self._room]
        if semantic_ids is not None:
            names = torch.unique(semantic_ids.codes, dim=0)
            for level, taken in enumerate(self._taken):
                keys = semantic_ids.keys_of(names[:, :level]).long()
                found, counts = torch.unique(keys, return_counts=True)
                taken.update(zip(found.tolist(), counts.tolist(), strict=True))

    def key(self, codes: Sequence[int]) -> int:
        """The key of an ID or of a prefix."""
        return sum(code * stride for code, stride in zip(codes, self.strides, strict=False))

    def is_full(self, level: int, key: int) -> bool:
        """Whether every ID that starts with this prefix of `level` codes is taken."""
        return self._taken[level].get(key, 0) == self._room[level]

    def take(self, codes: Sequence[int]) -> None:
        """Mark a free ID (L codes) as taken."""
        key = 0
        for level, taken in enumerate(self._taken):
            taken[key] = taken.get(key, 0) + 1
            if level < len(codes):
                key += codes[level] * self.strides[level]
