"""How far an ID is from a vector, for any quantizer; and a vector's IDs, nearest first.

A quantizer encodes greedily: at each level the code that costs least after the codes before it.
Taking another code is a detour, as long as what it costs more:

    detour(ID) = Σ_l [ cost(c_l | c_1 … c_{l-1}) - min_c cost(c | c_1 … c_{l-1}) ]

The quantizer's own ID is therefore the nearest, with detour 0. Where costs add up over the levels
(product codes, hyperplanes) the order is that of the whole ID's cost. For residual codes a change
at the last level counts the squared error it adds, and an earlier change the error it adds at its
own level, even where later levels would make up for it: an early code says what kind of item this
is, and leaving it should need a reason.

A code without a row in its codebook has no cost (inf), but is a free name all the same. So IDs are
ordered first by how many levels, counted from the first such code, say nothing about the vector;
then by detour; then, for the sake of one answer, by their codes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from nezha_lite.semantic_ids.catalogue import SemanticIds, radix_strides

Codes = tuple[int, ...]
CostsAfter = Callable[[Codes], np.ndarray]


def detours(costs: np.ndarray) -> np.ndarray:
    """Costs (..., C) float64 → how much more than the row's least each is; inf stays inf."""
    least = costs.min(axis=-1, keepdims=True)
    return costs - np.where(np.isfinite(least), least, 0.0)


def nearest_free(radices: Codes, costs_after: CostsAfter, occupancy: Occupancy) -> Iterator[Codes]:
    """The free IDs of one vector, nearest first.

    A best-first search over prefixes: a detour never shrinks from level to level, so the first full
    ID that comes up is the nearest, and only prefixes nearer than it are ever opened. What is
    taken while the iterator waits is not given any more.

    Args:
        radices: codes per level, (C_1, ..., C_L).
        costs_after: l codes → float64 (C_{l+1},), as `Quantizer.level_costs`; never asked about
            a prefix with a code that costs inf.
        occupancy: the IDs that are taken.
    """
    heap = [_Entry(0, 0.0, (), 0, 0, None)]
    while heap:
        entry = heapq.heappop(heap)
        if entry.siblings is not None and entry.rank + 1 < len(entry.siblings.order):
            heapq.heappush(heap, entry.siblings.entry(entry.rank + 1))
        level = len(entry.codes)
        if occupancy.is_full(level, entry.key):
            continue
        if level == len(radices):
            yield entry.codes
        else:
            known = not entry.unknown
            costs = costs_after(entry.codes) if known else np.full(radices[level], np.inf)
            opened = _Siblings(entry, occupancy.strides[level], costs)
            heapq.heappush(heap, opened.entry(0))


class _Entry(NamedTuple):
    """A prefix in the heap, ordered by its first three fields; no two have the same codes."""

    unknown: int  # levels from the first code without a cost on
    detour: float
    codes: Codes
    key: int
    rank: int  # among its siblings: the next one enters the heap when this one leaves it
    siblings: _Siblings | None


class _Siblings:
    """The codes that may follow one prefix, in the order of their detours."""

    def __init__(self, prefix: _Entry, stride: int, costs: np.ndarray) -> None:
        self.prefix = prefix
        self.stride = stride
        self.extra = detours(costs)  # (C,)
        self.order = np.argsort(self.extra, kind="stable")  # equal detours: lowest code first

    def entry(self, rank: int) -> _Entry:
        code, prefix = int(self.order[rank]), self.prefix
        extra = float(self.extra[code])
        costly = np.isfinite(extra)
        return _Entry(
            prefix.unknown if costly else prefix.unknown + 1,
            prefix.detour + extra if costly else prefix.detour,
            (*prefix.codes, code),
            prefix.key + code * self.stride,
            rank,
            self,
        )


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
