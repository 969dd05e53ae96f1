"""Last codes where some have no row in the codebook, or too few are free."""

import itertools

import numpy as np
import pytest
import torch

from nezha_lite.semantic_ids.collisions.assign_last_level import assign_last_codes


@pytest.mark.parametrize("seed", range(8))
def test_few_codes_without_a_row_come_before_low_costs(seed: int) -> None:
    """Where rows are scarce, using one more row counts before any detour saved."""
    draw = np.random.default_rng(seed)
    costs = draw.integers(0, 6, (3, 4)).astype(float)
    costs[draw.random((3, 4)) < 0.4] = np.inf
    costs[:, 0] = 0.0  # all three items want code 0, so they collide

    class Table:
        radices = (4,)

        def level_costs(self, vectors: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(costs[vectors[:, 0].long().numpy()])

    def price(codes: tuple[int, ...]) -> tuple[int, float]:
        chosen = costs[range(3), codes]
        return int(np.isinf(chosen).sum()), float(chosen[np.isfinite(chosen)].sum())

    same = torch.zeros(3, 1, dtype=torch.int64)
    vectors = torch.arange(3.0)[:, None]
    found = assign_last_codes(same, Table(), vectors)[:, 0].tolist()
    best = min(price(codes) for codes in itertools.permutations(range(4), 3))
    assert price(tuple(found)) == best
    # One of two codes is left: as many as possible get one, at the least detour.
    placed = assign_last_codes(same, Table(), vectors, {(0,), (2,), (3,)})[:, 0].tolist()
    assert sorted(placed) == [0, 0, 1]
    assert costs[placed.index(1), 1] == costs[:, 1].min()
