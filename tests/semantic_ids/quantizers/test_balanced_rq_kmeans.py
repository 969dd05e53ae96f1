"""Balanced RQ-KMeans: its guarantee, its optimality, and what balance costs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from nezha_lite.semantic_ids.quantizers import (
    BalancedRQKMeans,
    BalancedRQKMeansConfig,
    RQKMeans,
    RQKMeansConfig,
)
from nezha_lite.semantic_ids.quantizers.balanced_rq_kmeans import balance
from tests.helpers.slow_quantizing import clustered, error


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 40))
def test_prices_give_the_cheapest_balanced_assignment(seed: int, codes: int, more: int) -> None:
    random = np.random.default_rng(seed)
    rows = codes + more
    costs = random.random((rows, codes)) * random.random(codes)
    guess = torch.from_numpy(random.normal(size=codes))
    prices = balance(torch.from_numpy(costs), guess)
    assert float(prices.min()) == 0.0
    chosen = (costs + prices.numpy()).argmin(1)
    counts = np.bincount(chosen, minlength=codes)
    assert set(counts) <= {rows // codes, -(-rows // codes)}
    # The slow way: as many columns for each code as it has rows, matched at least cost.
    columns = np.repeat(np.arange(codes), counts)
    matched = costs[:, columns]
    least = matched[linear_sum_assignment(matched)].sum()
    assert costs[np.arange(rows), chosen].sum() == pytest.approx(least)


@pytest.mark.parametrize(("n", "radices"), [(400, (8, 16, 4)), (403, (20, 20)), (50, (20, 7))])
def test_each_level_is_in_balance(n: int, radices: tuple[int, ...]) -> None:
    vectors = clustered(n)
    config = BalancedRQKMeansConfig(levels=len(radices), codes=radices)
    codes = BalancedRQKMeans(config).fit(vectors).encode(vectors)
    for column, radix in zip(codes.T, radices, strict=True):
        counts = torch.bincount(column, minlength=radix).tolist()
        assert set(counts) <= {n // radix, -(-n // radix)}


def test_very_uneven_clusters_are_balanced_at_a_bearable_error() -> None:
    generator = torch.Generator().manual_seed(0)
    dense = 0.05 * torch.randn(500, 8, generator=generator)
    vectors = torch.cat([dense, 3 + torch.randn(100, 8, generator=generator)])
    balanced = BalancedRQKMeans(BalancedRQKMeansConfig(levels=2, codes=12)).fit(vectors)
    plain = RQKMeans(RQKMeansConfig(levels=2, codes=12)).fit(vectors)
    counts = [torch.bincount(q.encode(vectors)[:, 0], minlength=12) for q in (balanced, plain)]
    assert counts[0].tolist() == [50] * 12
    assert counts[1].max() > 300
    errors = [error(vectors, q.decode(q.encode(vectors))) for q in (balanced, plain)]
    assert errors[1] < errors[0] < 0.5 * error(vectors, vectors.mean(0))


def test_equal_vectors_share_codes_and_count_once() -> None:
    vectors = torch.cat([clustered(100), clustered(1, seed=5).repeat(60, 1)])
    quantizer = BalancedRQKMeans(BalancedRQKMeansConfig(levels=2, codes=10)).fit(vectors)
    codes = quantizer.encode(vectors)
    assert (codes[100:] == codes[100]).all()
    counts = torch.bincount(codes[:101, 0], minlength=10)
    assert set(counts.tolist()) <= {10, 11}


def test_new_vectors_come_out_in_balance_as_well() -> None:
    vectors = clustered(4000, clusters=400)
    quantizer = BalancedRQKMeans(BalancedRQKMeansConfig(levels=1, codes=8)).fit(vectors[:2000])
    counts = torch.bincount(quantizer.encode(vectors[2000:])[:, 0], minlength=8)
    assert ((counts - 250).abs() < 75).all()  # five standard deviations of sampling


def test_a_sample_balances_all_rows_up_to_its_error() -> None:
    vectors = clustered(4000, clusters=400)
    config = BalancedRQKMeansConfig(levels=2, codes=8, sample=1000)
    codes = BalancedRQKMeans(config).fit(vectors).encode(vectors)
    for column in codes.T:
        counts = torch.bincount(column, minlength=8)
        assert ((counts / 500 - 1).abs() < 0.4).all()
        assert counts.tolist() != [500] * 8


def test_prices_are_what_moves_items_out_of_crowded_codes() -> None:
    vectors = torch.cat([clustered(90, clusters=1), clustered(30, clusters=12, seed=3)])
    quantizer = BalancedRQKMeans(BalancedRQKMeansConfig(levels=1, codes=6)).fit(vectors)
    (prices,) = quantizer.prices
    costs = quantizer.level_costs(vectors, torch.zeros(120, 0, dtype=torch.int64))
    distances = (vectors.double()[:, None] - quantizer.codebooks[0].double()).square().sum(2)
    torch.testing.assert_close(costs, distances + prices)
    assert (distances.argmin(1) != costs.argmin(1)).any()


def test_balanced_config_names_the_field() -> None:
    for field in ("rounds", "sample"):
        with pytest.raises(ValueError, match=f"{field} is 0"):
            BalancedRQKMeansConfig(**{field: 0})
