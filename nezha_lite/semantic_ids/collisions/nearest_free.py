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
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nezha_lite.semantic_ids.catalogue import SemanticIds
from nezha_lite.semantic_ids.quantizers import Quantizer

Codes = tuple[int, ...]
Costs = NDArray[np.float64]
CostsAfter = Callable[[Codes], Costs]

_COSTS_AT_ONCE = 2**21  # bounds the (vectors, K, C) costs of the beam search
_WIDTHS = (16, 256)  # of the beam, at the start and at most


def move_to_free(
    codes: Tensor,
    quantizer: Quantizer,
    vectors: Tensor,
    order: Sequence[int],
    occupancy: Occupancy,
) -> Tensor:
    """Give every item a free ID: its own where it comes first, else the nearest free one.

    A beam search of many vectors at once settles most items. What it cannot be certain of even at
    its widest, equal distances for example, is searched item by item.

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
    unique = codes.clone()
    searches: dict[bytes, Iterator[Codes]] = {}
    size, width = 64, _WIDTHS[0]
    while moving:
        chunk = moving[: max(1, min(size, _COSTS_AT_ONCE // (width * max(occupancy.radices))))]
        nearby = nearby_free(codes[chunk], quantizer, vectors[chunk], occupancy, width)
        settled = 0
        for item, candidates in zip(chunk, nearby, strict=True):
            free = next((ids for ids in candidates if not occupancy.is_used(ids)), None)
            if free is None:
                break  # the items after it depend on where this one goes
            occupancy.use(free)
            unique[item] = torch.tensor(free)
            settled += 1
        if settled:
            size, width = max(8, 2 * settled), max(_WIDTHS[0], width // 2)
        elif width < _WIDTHS[1]:
            width *= 2
        else:
            vector = vectors[chunk[:1]]
            # Equal vectors have equal neighbours: one search serves all of them in turn.
            content = vector.detach().cpu().numpy().tobytes()
            if content not in searches:
                searches[content] = nearest_free(occupancy, _costs_after(quantizer, vector))
            free = next(searches[content], None)
            if free is None:
                break  # every ID is in use
            occupancy.use(free)
            unique[chunk[0]] = torch.tensor(free)
            settled = 1
        moving = moving[settled:]
    return unique


def nearby_free(
    codes: Tensor, quantizer: Quantizer, vectors: Tensor, occupancy: Occupancy, width: int
) -> list[list[Codes]]:
    """For each vector its nearest free IDs, nearest first, by a beam search of all vectors at once.

    Only the IDs that are certain are given: those nearer than everything that left the beam. That
    can be none. All have a cost at every level.

    Args:
        codes: (B, L) int64, the quantizer's.
        vectors: (B, D) float32.
        width: of the beam, K prefixes for each vector.
    """
    n = len(vectors)
    prefixes = torch.zeros(n, 1, 0, dtype=torch.int64)  # (B, K, l)
    detour = torch.zeros(n, 1, dtype=torch.float64)  # (B, K)
    bound = torch.full((n,), torch.inf, dtype=torch.float64)  # the least detour outside the beam
    for level, radix in enumerate(occupancy.radices):
        beam = prefixes.shape[1]
        flat = prefixes.flatten(0, 1)  # (B * K, l)
        costs = quantizer.level_costs(vectors.repeat_interleave(beam, dim=0), flat).numpy()
        free = np.stack([occupancy.free_mask(tuple(prefix)) for prefix in flat.tolist()])
        extra = torch.from_numpy(np.where(free, detours(costs), np.inf))  # (B * K, C)
        total = (detour.reshape(-1, 1) + extra).view(n, beam * radix)
        nearest = total.topk(min(width + 1, beam * radix), largest=False)
        if beam * radix > width:
            bound = bound.minimum(nearest.values[:, width])
        detour, index = nearest.values[:, :width], nearest.indices[:, :width]  # (B, K)
        rows = torch.arange(n)[:, None]
        prefixes = torch.cat([prefixes[rows, index // radix], (index % radix)[..., None]], dim=2)
        # A place that nothing free fills needs codes that the codebooks have.
        own = codes[:, None, : level + 1]
        prefixes = torch.where(detour.isinf()[..., None], own, prefixes)  # (B, K, l + 1)
    certain = detour < bound[:, None]
    candidates = zip(detour.tolist(), prefixes.tolist(), certain.sum(1).tolist(), strict=True)
    return [
        [ids for _, ids in sorted(zip(near[:count], map(tuple, ids[:count]), strict=True))]
        for near, ids, count in candidates
    ]


def _costs_after(quantizer: Quantizer, vector: Tensor) -> CostsAfter:
    def costs_after(prefix: Codes) -> Costs:
        costs: Costs = quantizer.level_costs(vector, torch.tensor([prefix]).long())[0].numpy()
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
        costs_after: l codes → float64 (C_{l+1},), as `Quantizer.level_costs`; never
            asked about a prefix with a code that costs inf.
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
        known = entry.unknown == 0
        costs = costs_after(entry.codes) if known else np.full(radices[level], np.inf)
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
        return self.free_mask(prefix).nonzero()[0]

    def free_mask(self, prefix: Codes) -> NDArray[np.bool_]:
        """(C,): which codes after `prefix` have a free ID."""
        mask = self._free.get(prefix)
        return self._all_free[len(prefix)] if mask is None else mask

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
