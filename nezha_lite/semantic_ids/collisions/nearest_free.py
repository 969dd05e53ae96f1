"""Items that have to leave a shared ID move to the nearest free one, for any quantizer.

A quantizer encodes greedily: at each level it takes the code that costs least after the codes
before it. The detour of an ID is what its codes cost more:

    detour(ID) = Σ_l [ cost(c_l | c_1 … c_{l-1}) - min_c cost(c | c_1 … c_{l-1}) ]

The quantizer's own ID is therefore the nearest, with detour 0. Where costs add up over the levels
(product codes, hyperplanes) the order is that of the whole ID's cost. For residual codes a change
at the last level counts the squared error it adds, and an earlier change the error it adds at its
own level, even where later levels would make up for it: an early code says what kind of item this
is, and should change only for a reason.

A code without a row in its codebook has no cost (inf), but its IDs are free all the same. So IDs
are ordered first by how many levels, counted from the first such code, say nothing about the
vector; then by detour; and then by their codes, so that the answer is unique.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nezha_lite.semantic_ids.catalogue import SemanticIds
from nezha_lite.semantic_ids.quantizers import Quantizer

Codes = tuple[int, ...]
Costs = NDArray[np.float64]
CostsAfter = Callable[[Sequence[Codes]], Costs]

_ROWS_AT_ONCE = 1024  # items whose costs along their own codes are computed together
_LOOKAHEAD = 8  # siblings whose costs are computed in one call, at most


def move_to_free(
    codes: Tensor, quantizer: Quantizer, vectors: Tensor, order: Sequence[int], occupancy: Occupancy
) -> Tensor:
    """Give every item a free ID: its own where it comes first, else the nearest free one.

    Args:
        codes: (N, L) int64, the quantizer's.
        vectors: (N, D) float32, what the codes were made from.
        order: the N items; an item chooses before those that follow it.
        occupancy: the IDs in use already; those given here are added to it.

    Returns:
        (N, L) int64; items for which no ID was left keep their codes.
    """
    rows = list(map(tuple, codes.tolist()))
    moving = []
    # All items that can stay are settled before any item moves, so none loses its own ID.
    for item in order:
        if occupancy.is_used(rows[item]):
            moving.append(item)
        else:
            occupancy.use(rows[item])
    # Equal vectors have equal neighbours: one search serves all of them in turn.
    contents = {item: vectors[item].detach().cpu().numpy().tobytes() for item in moving}
    waiting = Counter(contents.values())
    searches: dict[bytes, Iterator[Codes]] = {}
    unique = codes.clone()
    for item, costs_after in _with_costs(moving, codes, quantizer, vectors):
        content = contents[item]
        search = searches.pop(content, None) or nearest_free(occupancy, costs_after)
        free = next(search, None)
        if free is None:
            break  # every ID is in use
        occupancy.use(free)
        unique[item] = torch.tensor(free)
        waiting[content] -= 1
        if waiting[content]:
            searches[content] = search
    return unique


def _with_costs(
    items: Sequence[int], codes: Tensor, quantizer: Quantizer, vectors: Tensor
) -> Iterator[tuple[int, CostsAfter]]:
    """Each item with its costs; those along its own codes come from one call for many items."""
    for start in range(0, len(items), _ROWS_AT_ONCE):
        some = items[start : start + _ROWS_AT_ONCE]
        own = codes[some]
        costs = [
            quantizer.level_costs(vectors[some], own[:, :level]).numpy()
            for level in range(codes.shape[1])
        ]
        for row, item in enumerate(some):
            path = own[row].tolist()
            own_costs = {tuple(path[:level]): costs[level][row] for level in range(len(path))}
            yield item, _costs_after(quantizer, vectors[item], own_costs)


def _costs_after(
    quantizer: Quantizer, vector: Tensor, own_costs: Mapping[Codes, Costs]
) -> CostsAfter:
    def costs_after(prefixes: Sequence[Codes]) -> Costs:
        if len(prefixes) == 1 and prefixes[0] in own_costs:
            return own_costs[prefixes[0]][None]
        same = vector.expand(len(prefixes), -1)
        costs: Costs = quantizer.level_costs(same, torch.tensor(prefixes).long()).numpy()
        return costs

    return costs_after


def detours(costs: Costs) -> Costs:
    """Costs (..., C) float64 → how much more than the row's least each is; inf stays inf."""
    least = costs.min(axis=-1, keepdims=True)
    return costs - np.where(np.isfinite(least), least, 0.0)


def nearest_free(occupancy: Occupancy, costs_after: CostsAfter) -> Iterator[Codes]:
    """The free IDs of one vector, nearest first.

    A best-first search over prefixes: a detour never shrinks from level to level, so the first full
    ID that comes up is the nearest, and only prefixes nearer than it are opened. IDs in use are
    never looked at. An ID that comes into use while the iterator waits is not given any more.

    Args:
        occupancy: the IDs in use.
        costs_after: P prefixes of l codes → float64 (P, C_{l+1}), as `Quantizer.level_costs`;
            never asked about a prefix with a code that costs inf, or without a free ID.
    """
    radices = occupancy.radices
    heap = [_Entry(0, 0.0, (), 0, None)]
    while heap:
        entry = heapq.heappop(heap)
        siblings = entry.siblings
        if siblings is not None and entry.rank + 1 < len(siblings.order):
            heapq.heappush(heap, siblings.entry(entry.rank + 1))
        if occupancy.is_used(entry.codes):
            continue
        level = len(entry.codes)
        if level == len(radices):
            yield entry.codes
            continue
        if entry.unknown:
            costs = np.full(radices[level], np.inf)
        elif siblings is None:
            costs = costs_after([()])[0]
        else:
            costs = siblings.costs_below(entry.rank, costs_after, occupancy)
        children = _Siblings(entry, costs, occupancy.free_codes(entry.codes))
        heapq.heappush(heap, children.entry(0))


class _Entry(NamedTuple):
    """A prefix in the heap, ordered by its first three fields; no two have the same codes."""

    unknown: int  # levels from the first code without a cost on
    detour: float
    codes: Codes
    rank: int  # among its siblings: the next one enters the heap when this one leaves it
    siblings: _Siblings | None


class _Siblings:
    """The codes with a free ID that may follow one prefix, in the order of their detours."""

    def __init__(self, prefix: _Entry, costs: Costs, free: NDArray[np.int64]) -> None:
        self.prefix = prefix
        extra = detours(costs)[free]
        order = extra.argsort(kind="stable")  # equal detours: lowest code first
        self.order: list[int] = free[order].tolist()
        self.extra: list[float] = extra[order].tolist()
        self._below: dict[int, Costs] = {}  # by rank
        self._lookahead = 1

    def costs_below(self, rank: int, costs_after: CostsAfter, occupancy: Occupancy) -> Costs:
        """The costs of the codes that follow the sibling of this rank: float64 (C,).

        One call computes them for some of its next siblings too, twice as many each time: where
        prefixes are crowded, the search opens one after the other.
        """
        if rank not in self._below:
            some = range(rank, min(rank + self._lookahead, len(self.order)))
            codes = {r: (*self.prefix.codes, self.order[r]) for r in some}
            open_ranks = [
                r for r in some if self.extra[r] < math.inf and not occupancy.is_used(codes[r])
            ]
            rows = costs_after([codes[r] for r in open_ranks])
            self._below.update(zip(open_ranks, rows, strict=True))
            self._lookahead = min(2 * self._lookahead, _LOOKAHEAD)
        return self._below.pop(rank)

    def entry(self, rank: int) -> _Entry:
        code, extra, prefix = self.order[rank], self.extra[rank], self.prefix
        codes = (*prefix.codes, code)
        if extra < math.inf:
            return _Entry(prefix.unknown, prefix.detour + extra, codes, rank, self)
        return _Entry(prefix.unknown + 1, prefix.detour, codes, rank, self)


class Occupancy:
    """Which IDs are in use, and which codes after a prefix still lead to a free one.

    Args:
        radices: codes per level, (C_1, ..., C_L).
        semantic_ids: their IDs are in use at the start; they have the same radices.
    """

    def __init__(self, radices: Sequence[int], semantic_ids: SemanticIds | None = None) -> None:
        self.radices = tuple(radices)
        # IDs under a prefix of 1, ..., L codes, from the last level back.
        self._capacity = [math.prod(self.radices[level:]) for level in range(len(radices) + 1)]
        self._in_use: Counter[Codes] = Counter()  # IDs in use, by each of their prefixes
        self._free: dict[Codes, NDArray[np.bool_]] = {}  # (C,) by prefix, where one is not free
        self._all_free = [np.ones(radix, dtype=np.bool_) for radix in self.radices]
        if semantic_ids is not None:
            for codes in torch.unique(semantic_ids.codes, dim=0).tolist():
                self.use(tuple(codes))

    def is_used(self, codes: Codes) -> bool:
        """Whether every ID that starts with these codes is in use; an ID starts with itself."""
        return self._in_use[codes] == self._capacity[len(codes)]

    def free_codes(self, prefix: Codes) -> NDArray[np.int64]:
        """The codes after `prefix` with a free ID, ascending."""
        mask = self._free.get(prefix)
        return (self._all_free[len(prefix)] if mask is None else mask).nonzero()[0]

    def use(self, codes: Codes) -> None:
        """Count a free ID (L codes) as in use from now on."""
        for level in range(len(codes), -1, -1):
            prefix = codes[:level]
            self._in_use[prefix] += 1
            if level and self.is_used(prefix):
                parent = codes[: level - 1]
                if parent not in self._free:
                    self._free[parent] = self._all_free[level - 1].copy()
                self._free[parent][codes[level - 1]] = False
