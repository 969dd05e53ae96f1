"""The birthday problem: against exact counting, and against drawing."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.collisions import (
    collision_rate_of_frequencies,
    expected_collision_rate,
    expected_distinct,
    level_frequencies,
)


def exact_rate(n: int, probabilities: list[Fraction]) -> float:
    """1 - E[distinct] / n in whole numbers."""
    distinct = sum(1 - (1 - p) ** n for p in probabilities)
    return float(1 - distinct / n)


def test_by_hand() -> None:
    # Two items, two IDs: they meet in one case of two, and then one of two items is lost.
    assert expected_collision_rate(2, [2]) == pytest.approx(0.25, rel=1e-14)
    assert expected_collision_rate(1, [7]) == 0
    assert expected_collision_rate(10, [1, 1]) == pytest.approx(0.9, rel=1e-14)
    assert expected_distinct(10, [1]) == pytest.approx(1, rel=1e-14)
    assert expected_distinct(2, [2]) == pytest.approx(1.5, rel=1e-14)


@given(n=st.integers(1, 200), radices=st.lists(st.integers(1, 30), min_size=1, max_size=3))
@settings(max_examples=200)
def test_a_uniform_space_is_exact(n: int, radices: list[int]) -> None:
    space = math.prod(radices)
    distinct = space * (1 - (1 - Fraction(1, space)) ** n)
    expected = float(1 - distinct / n)
    assert expected_collision_rate(n, radices) == pytest.approx(expected, rel=1e-10, abs=1e-15)


@pytest.mark.parametrize("levels", [4, 8, 40])
def test_spaces_too_large_to_collide_in_lose_no_digits(levels: int) -> None:
    # To first order only pairs meet: (n - 1) / 2S.
    pairs = 12_100 / 2 / 256.0**levels
    assert expected_collision_rate(12_101, [256] * levels) == pytest.approx(pairs, rel=1e-5)


def test_both_formulas_meet() -> None:
    # Around n = S the code changes from a series to the closed form.
    below, at, above = (expected_collision_rate(n, [1000]) for n in (999, 1000, 1001))
    assert below < at < above
    assert above - at == pytest.approx(at - below, rel=1e-2)


LEVEL = st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(any)


@given(n=st.integers(1, 60), levels=st.lists(LEVEL, min_size=1, max_size=3))
def test_unequal_codes_are_exact(n: int, levels: list[list[int]]) -> None:
    shares = [[Fraction(count, sum(level)) for count in level] for level in levels]
    probabilities = [math.prod(codes) for codes in itertools.product(*shares)]
    expected = exact_rate(n, probabilities)
    assert collision_rate_of_frequencies(n, levels) == pytest.approx(expected, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("n", [50, 3_000, 1_000_000])
def test_binning_hardly_matters(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    levels = [generator.lognormal(0, 1, size) for size in (40, 50, 60)]
    monkeypatch.setattr(
        "nezha_lite.semantic_ids.collisions.expected_rate._MOST_PROBABILITIES", 10**9
    )
    exact = collision_rate_of_frequencies(n, levels)
    monkeypatch.setattr("nezha_lite.semantic_ids.collisions.expected_rate._MOST_PROBABILITIES", 1)
    binned = collision_rate_of_frequencies(n, levels)
    assert binned != exact
    assert binned == pytest.approx(exact, rel=3e-6)


def test_equal_frequencies_are_the_uniform_space() -> None:
    for n in (10, 12_101, 10**7):
        uniform = expected_collision_rate(n, [256] * 4)
        assert collision_rate_of_frequencies(n, [[3] * 256] * 4) == pytest.approx(uniform, rel=1e-9)


def test_against_drawing() -> None:
    generator = np.random.default_rng(1)
    levels = [generator.dirichlet(np.ones(size)) for size in (16, 12, 20)]
    n, rates = 500, []
    for _ in range(200):
        codes = [generator.choice(len(level), size=n, p=level) for level in levels]
        rates.append(1 - len(set(zip(*codes, strict=True))) / n)
    spread = np.std(rates) / math.sqrt(len(rates))
    expected = collision_rate_of_frequencies(n, levels)
    assert abs(np.mean(rates) - expected) < 4 * spread
    assert expected > 1.5 * expected_collision_rate(n, (16, 12, 20))


def test_frequencies_are_read_from_ids() -> None:
    ids = SemanticIds.from_codes([[0, 1], [0, 1], [2, 0]], (4, 2))
    assert [level.tolist() for level in level_frequencies(ids)] == [[2, 0, 1, 0], [1, 2]]
    probabilities = [Fraction(a * b, 9) for a in (2, 0, 1) for b in (1, 2)]
    rate = collision_rate_of_frequencies(3, level_frequencies(ids))
    assert rate == pytest.approx(exact_rate(3, probabilities), rel=1e-12)


def test_many_levels_of_many_codes_take_moments() -> None:
    generator = np.random.default_rng(2)
    counts = [Counter(generator.zipf(1.3, 50_000) % 512).values() for _ in range(5)]
    rate = collision_rate_of_frequencies(50_000, [list(level) for level in counts])
    assert 0 < rate < 1


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="n_items is 0"):
        expected_collision_rate(0, [4])
    with pytest.raises(ValueError, match="n_items is -1"):
        collision_rate_of_frequencies(-1, [[1]])
    for radices in ([], [4, 0]):
        with pytest.raises(ValueError, match="radices is"):
            expected_collision_rate(3, radices)
    with pytest.raises(ValueError, match="frequencies is empty"):
        collision_rate_of_frequencies(3, [])
    for level in ([], [0, 0], [1, -1], [1, math.nan]):
        with pytest.raises(ValueError, match="frequencies of level 2"):
            collision_rate_of_frequencies(3, [[1], level])
