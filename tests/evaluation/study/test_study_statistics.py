"""The study's intervals, p-values, rank correlations and user groups, against slower versions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nezha_lite.datasets import InteractionDataset, Split
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.evaluation.statistics import bootstrap_interval, difference, holm
from nezha_lite.evaluation.study.head_agreement import _overlap, agreement_with_model, spearman
from nezha_lite.evaluation.study.report import user_groups
from nezha_lite.semantic_ids import SemanticIds
from tests.decoding.test_exact import SLOW, brute_force
from tests.helpers.builders import catalogue, tiny_model
from tests.helpers.slow_decoding import key_of
from tests.helpers.studies import CONFIG, DATASET


def test_on_many_users_the_interval_is_the_normal_one() -> None:
    values = np.random.default_rng(1).exponential(2.0, size=(1, 4000))
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(values.size)
    assert low == pytest.approx(values.mean() - half, abs=half / 10)
    assert high == pytest.approx(values.mean() + half, abs=half / 10)
    narrow = bootstrap_interval(values, level=0.5)
    assert narrow[1] - narrow[0] == pytest.approx(2 * 0.6745 * half / 1.96, rel=0.1)


def slow_interval(values: np.ndarray, samples: int) -> tuple[float, float]:
    """Drawn entry by entry, with other random numbers."""
    generator = np.random.default_rng(99)
    runs, users = values.shape
    means = []
    for _ in range(samples):
        rows = generator.choice(runs, runs)
        columns = generator.choice(users, users)
        means.append(np.mean([[values[row, column] for column in columns] for row in rows]))
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def test_runs_and_users_are_both_drawn() -> None:
    values = np.random.default_rng(2).normal(size=(4, 1)) + np.random.default_rng(3).normal(
        size=(4, 12)
    )
    spread = np.ptp(bootstrap_interval(values))
    assert bootstrap_interval(values, samples=4000) == pytest.approx(
        slow_interval(values, 4000), abs=0.06
    )
    # Each source of chance on its own leaves less.
    assert (
        np.ptp(bootstrap_interval(np.repeat(values.mean(axis=1, keepdims=True), 12, axis=1)))
        < spread
    )
    assert np.ptp(bootstrap_interval(values.mean(axis=0, keepdims=True))) < spread


def test_a_source_of_chance_that_does_not_vary_adds_nothing() -> None:
    assert bootstrap_interval(np.full((3, 50), 0.25)) == (0.25, 0.25)
    only_runs = np.repeat([[0.0], [1.0]], 50, axis=1)
    assert bootstrap_interval(only_runs) == (0.0, 1.0)
    only_users = np.tile(np.arange(50) % 2, (3, 1)).astype(float)
    low, high = bootstrap_interval(only_users)
    assert (low, high) == pytest.approx(bootstrap_interval(only_users[:1]), abs=0.03)
    assert 0.3 < low < 0.5 < high < 0.7


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_of_one_run_the_interval_is_scipys(level: float) -> None:
    values = np.random.default_rng(6).random(80)
    bounds = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=500,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(7),
    ).confidence_interval
    found = bootstrap_interval(values, level, samples=500, seed=7)
    assert found == pytest.approx((bounds.low, bounds.high), rel=1e-12)
    assert found == bootstrap_interval(values[None], level, samples=500, seed=7)


def two_systems(trial: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Hits of two equally good systems, three runs of each: some are luckier than others."""
    generator = np.random.default_rng(trial)
    users, runs = 1500, (2, 3, 1)
    ease = stats.norm.cdf(generator.normal(-3, 2, users))  # of each user, the same for all runs
    luck = 1 + spread * generator.normal(size=runs)
    one, other = (generator.random((2, 3, users)) < ease * luck).astype(float)
    return one, other


@pytest.mark.parametrize("spread", [0.0, 0.08])
def test_equal_systems_are_rarely_told_apart_though_runs_vary(spread: float) -> None:
    trials = 100
    found = [difference(*two_systems(trial, spread), samples=200) for trial in range(trials)]
    of_users = [
        stats.ttest_1samp((one - other).mean(axis=0), 0).pvalue
        for one, other in (two_systems(trial, spread) for trial in range(trials))
    ]
    assert spread == 0 or np.mean(np.array(of_users) < 0.05) > 0.12, "runs vary enough to mislead"
    assert np.mean([one["p"] < 0.05 for one in found]) <= 0.07
    assert np.mean([one["low"] > 0 or one["high"] < 0 for one in found]) <= 0.07


def test_p_of_several_runs_agrees_with_the_interval() -> None:
    for shift in (0.0, 0.01, 0.02, 0.03, 0.1):
        one, other = two_systems(5, 0.05)
        found = difference(one + shift, other, samples=1000)
        clear = found["low"] > 0 or found["high"] < 0
        assert (found["p"] < 0.045) <= clear <= (found["p"] < 0.055)


def slow_holm(p_values: list[float]) -> list[float]:
    """By the definition: the smallest level at which the step-down procedure rejects each."""
    levels = sorted({min(1.0, p * m) for p in p_values for m in range(1, len(p_values) + 1)})
    smallest = [1.0] * len(p_values)
    for level in reversed(levels):
        remaining = sorted(range(len(p_values)), key=lambda index: p_values[index])
        while remaining and p_values[remaining[0]] * len(remaining) <= level:
            smallest[remaining.pop(0)] = level
    return smallest


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.04, 0.5, 1.0]), max_size=7))
def test_holm_is_the_step_down_procedure(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(slow_holm(p_values))


def test_holm_refuses_what_is_no_probability() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    for wrong in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"p is .*, but must be between 0 and 1"):
            holm([0.5, wrong])


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for trial in range(100):
        generator = np.random.default_rng(trial)
        low, high = bootstrap_interval(generator.normal(size=(1, 60)), samples=300, seed=trial)
        hits += low <= 0 <= high
    assert 87 <= hits <= 99  # 95 expected; its standard deviation is 2.2


def test_a_difference_is_antisymmetric_and_paired() -> None:
    generator = np.random.default_rng(4)
    one, other = generator.random((2, 3, 40))
    forth, back = difference(one, other), difference(other, one)
    assert forth["gain"] == pytest.approx((one - other).mean())
    assert back["gain"] == pytest.approx(-forth["gain"])
    assert (back["low"], back["high"]) == pytest.approx((-forth["high"], -forth["low"]), abs=0.02)
    assert back["p"] == forth["p"]
    # What all users share cancels: users differ much, but the gain is the same for all.
    users = 100 * generator.normal(size=(3, 40))
    shifted = difference(users + 0.5, users)
    assert (shifted["gain"], shifted["low"], shifted["high"]) == pytest.approx((0.5, 0.5, 0.5))


def test_p_is_that_of_all_sign_flips() -> None:
    gains = np.array([[0.5, -0.25, 0.75, 0.0, 0.25, 0.5, -0.125, 0.0]])
    values, n = gains[gains != 0], int((gains != 0).sum())
    flips = [sum(v * (1 - 2 * (k >> i & 1)) for i, v in enumerate(values)) for k in range(2**n)]
    exact = np.mean([abs(flip) >= gains.sum() - 1e-12 for flip in flips])
    found = difference(gains, np.zeros_like(gains), samples=8000)
    assert found["p"] == pytest.approx(exact, abs=0.015)


def test_p_is_even_where_nothing_differs_and_small_where_much_does() -> None:
    p = []
    for trial in range(200):
        one, other = np.random.default_rng(trial).normal(size=(2, 1, 30))
        p.append(difference(one, other, samples=200, seed=trial)["p"])
    assert stats.kstest(p, "uniform").pvalue > 0.01
    one, other = np.random.default_rng(0).normal(size=(2, 2, 100))
    assert difference(one + 1, other)["p"] == pytest.approx(1 / 2001)
    assert difference(one, one) == {"gain": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}


def test_values_that_are_no_runs_of_users_are_refused() -> None:
    pairs = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"one has shape \(2, 3\), other \(1, 3\)"):
        difference(pairs, pairs[:1])
    for wrong in (np.array(0.0), np.zeros(0), np.zeros((2, 0)), np.zeros((1, 2, 3))):
        with pytest.raises(ValueError, match=r"must be \(runs, users\), not empty"):
            bootstrap_interval(wrong)
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_interval(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match="not finite"):
        difference(np.array([[np.inf, 0.0]]), np.zeros((1, 2)))


@given(st.permutations(list(range(0, 60, 5))), st.permutations(list(range(0, 60, 5))))
def test_spearman_follows_from_the_distances_of_ranks(one: list[int], other: list[int]) -> None:
    distances = [(one.index(key) - other.index(key)) ** 2 for key in one]
    expected = 1 - 6 * sum(distances) / (12 * (12**2 - 1))
    assert spearman(torch.tensor(one), torch.tensor(other)) == pytest.approx(expected)


def test_spearman_of_short_lists() -> None:
    one = torch.arange(9)
    assert spearman(one, one) == pytest.approx(1.0)
    assert spearman(one, one.flip(0)) == pytest.approx(-1.0)
    assert spearman(one[:1], one[:1]) == 1.0


def test_an_overlap_is_a_share_of_sets_and_empty_places_do_not_count() -> None:
    one = torch.tensor([3, 1, 2, -1, -1])
    assert _overlap(one, torch.tensor([1, 2, 3])) == 1.0
    assert _overlap(one, torch.tensor([1, 7, 8, 9])) == 0.25
    twelve = torch.arange(12)
    assert _overlap(twelve, twelve.flip(0)) == 0.8  # of the first ten


def expected_agreement(
    orders: list[tuple[list[tuple[int, ...]], list[tuple[int, ...]]]], ids: SemanticIds
) -> dict[str, float]:
    """From the two exact orders of every user, in plain Python."""
    figures: dict[str, list[float]] = {}
    for one, other in orders:
        places = [[order.index(codes) for codes in sorted(one)] for order in (one, other)]
        figures.setdefault("spearman", []).append(stats.spearmanr(*places).statistic)
        figures.setdefault("top1", []).append(float(one[0] == other[0]))
        for level in range(1, ids.levels + 1):
            left, right = ({codes[:level] for codes in order[:10]} for order in (one, other))
            name = "overlap@10" if level == ids.levels else f"overlap_level_{level}@10"
            share = len(left & right) / max(len(left), len(right))
            figures.setdefault(name, []).append(share)
    return {name: float(np.mean(values)) for name, values in figures.items()}


@pytest.mark.parametrize("radices", [(4, 5, 3), (5, 6)])
@torch.inference_mode()
def test_agreement_is_that_of_brute_force(radices: tuple[int, ...]) -> None:
    ids = catalogue(25, radices, seed=4)
    model = tiny_model(ids, max_items=4)
    histories = ((3, 1, 4), (5,), (0, 1, 2, 3))
    users = Split((0, 1, 2), histories, (0, 0, 0))
    orders = []
    for history in histories:
        tables = (SLOW[under](model, list(history), ids) for under in ("draft", "backbone"))
        orders.append(tuple([codes for codes, _ in brute_force(table, ids)] for table in tables))
    found = agreement_with_model(Recommender(model, ids), DATASET, users, CONFIG)
    assert found["users"] == 3
    expected = expected_agreement(orders, ids)
    metrics = found["metrics"]
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert metrics["spearman"] < 0.9, "a head and a backbone that agree would prove nothing"
    further = {name for name in metrics if name not in expected}
    if len(radices) == 2:
        assert further == {"beam_overlap@10"}, "level 1 needs no draft, and nothing follows level 2"
    else:
        assert further == {"beam_overlap@10", "accepted_level_2", "accepted_whole"}
        assert 0 <= metrics["accepted_whole"] <= metrics["accepted_level_2"] <= 1
    assert [key_of(tuple(row), radices) for row in ids.codes.tolist()] == ids.keys.tolist()


@torch.inference_mode()
def test_a_catalogue_of_fewer_than_ten_ids() -> None:
    ids = catalogue(6, (3, 4, 2), seed=3)
    users = Split((0,), ((1, 2),), (3,))
    found = agreement_with_model(Recommender(tiny_model(ids), ids), DATASET, users, CONFIG)
    shares = ("overlap@10", "beam_overlap@10", "accepted_level_2", "accepted_whole")
    assert [found["metrics"][name] for name in shares] == [1.0] * 4


@given(st.lists(st.lists(st.integers(0, 7), min_size=3, max_size=26), min_size=1, max_size=12))
def test_every_user_is_in_one_group_of_each_kind(sequences: list[list[int]]) -> None:
    names = tuple(f"u{user}" for user in range(len(sequences)))
    items = tuple(f"i{item}" for item in range(8))
    dataset = InteractionDataset("any", items, names, tuple(map(tuple, sequences)))
    test = dataset.split("test")
    found = list(user_groups(dataset, test))
    assert len({name for _, name, _ in found}) == len(found)
    for kind in ("target", "history"):
        masks = [users for by, _, users in found if by == kind]
        assert all(users.any() for users in masks)
        assert (np.sum(masks, axis=0) == 1).all()
    counts = [dataset.popularity()[target] for target in test.targets]
    ceilings = [
        max(c for c, u in zip(counts, m, strict=True) if u) for b, _, m in found if b == "target"
    ]
    assert ceilings == sorted(ceilings), "from the tail to the head"
    for by, name, users in found:
        if by == "history":
            first, last = name.split()[0], name.split()[2]
            lengths = [len(h) for h, u in zip(test.histories, users, strict=True) if u]
            assert min(lengths) >= int(first)
            assert last == "or" or max(lengths) <= int(last)
