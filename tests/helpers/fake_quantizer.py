"""A quantizer without geometry, whose costs are small whole numbers, and what must follow from it.

Whole numbers make every sum exact, so brute force and search agree to the last tie.
"""

import itertools
import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quantizers import Quantizer


class FakeQuantizer:
    """Costs 0..`highest` drawn by (seed, vector, prefix, code); inf beyond a level's `rows`."""

    kind = "fake"

    def __init__(
        self,
        radices: Sequence[int],
        rows: Sequence[int] | None = None,
        highest: int = 9,
        seed: int = 0,
        additive: bool = False,
    ) -> None:
        self.radices = tuple(radices)
        self.rows = self.radices if rows is None else tuple(rows)
        self.highest, self.seed, self.additive = highest, seed, additive
        self.asked = 0

    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        assert len(vectors) == len(prefix)
        self.asked += len(vectors)
        level = prefix.shape[1]
        costs = torch.full((len(vectors), self.radices[level]), torch.inf, dtype=torch.float64)
        for item, (vector, codes) in enumerate(zip(vectors.tolist(), prefix.tolist(), strict=True)):
            assert all(code < rows for code, rows in zip(codes, self.rows, strict=False))
            after = len(codes) if self.additive else codes
            for code in range(self.rows[level]):
                drawn = zlib.crc32(repr((self.seed, vector, after, code)).encode())
                costs[item, code] = drawn % (self.highest + 1)
        return costs

    def encode(self, vectors: Tensor) -> Tensor:
        codes = torch.zeros(len(vectors), 0, dtype=torch.int64)
        for _ in self.radices:
            chosen = self.level_costs(vectors, codes).argmin(dim=1, keepdim=True)
            codes = torch.cat([codes, chosen], dim=1)
        return codes


@st.composite
def cases(draw: st.DrawFn, fits: str = "any") -> tuple[FakeQuantizer, Tensor]:
    """A fake quantizer and vectors, some equal; `fits` "space" keeps N within the ID space."""
    radices = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    rows = [draw(st.integers(1, radix)) for radix in radices]
    quantizer = FakeQuantizer(radices, rows, draw(st.integers(0, 9)), draw(st.integers(0, 99)))
    most = min(10, int(np.prod(radices))) if fits == "space" else 10
    values = draw(st.lists(st.integers(0, 6), min_size=1, max_size=most))
    return quantizer, torch.tensor(values, dtype=torch.float32).view(-1, 1)


def ranked_ids(quantizer: Quantizer, vector: Tensor) -> list[tuple[int, ...]]:
    """All IDs of the space, nearest to `vector` (D,) first: the definition, by enumeration."""
    ranks = {}
    for codes in itertools.product(*(range(radix) for radix in quantizer.radices)):
        unknown, detour = 0, 0.0
        for level, code in enumerate(codes):
            costs = [np.inf]
            if not unknown:
                prefix = torch.tensor([codes[:level]], dtype=torch.int64)
                costs = quantizer.level_costs(vector.view(1, -1), prefix)[0].tolist()
            if unknown or costs[code] == np.inf:
                unknown += 1
            else:
                detour += costs[code] - min(costs)
        ranks[codes] = (unknown, detour, codes)
    return sorted(ranks, key=ranks.__getitem__)


def slow_next_best(
    quantizer: Quantizer,
    vectors: Tensor,
    popularity: Sequence[float] | None = None,
    taken: set[tuple[int, ...]] = frozenset(),
) -> list[tuple[int, ...]]:
    """IDs by enumeration: the first at each ID keeps it, then the others in order."""
    own = [tuple(codes) for codes in quantizer.encode(vectors).tolist()]
    counts = [0] * len(own) if popularity is None else popularity
    order = sorted(range(len(own)), key=lambda item: (-counts[item], item))
    used, named = set(taken), list(own)
    moving = []
    for item in order:
        if own[item] in used:
            moving.append(item)
        used.add(own[item])
    for item in moving:
        free = [codes for codes in ranked_ids(quantizer, vectors[item]) if codes not in used]
        if free:
            named[item] = free[0]
            used.add(free[0])
    return named


def least_total(costs: np.ndarray, free: Sequence[int]) -> float:
    """Least total of `costs` (n, C) over all ways to give the n rows different codes in `free`."""
    rows = range(len(costs))
    ways = itertools.permutations(free, len(costs))
    return min(sum(costs[row, code] for row, code in zip(rows, way, strict=True)) for way in ways)


def by_prefix(ids: SemanticIds) -> dict[tuple[int, ...], list[int]]:
    groups = defaultdict(list)
    for item, codes in enumerate(ids.codes.tolist()):
        groups[tuple(codes[:-1])].append(item)
    return groups
