"""How many collisions chance alone makes: the birthday problem on semantic IDs.

If n items draw their IDs independently, an ID of probability p is drawn at least once with
probability 1 - (1 - p)^n, and these sum to the expected number of distinct IDs. The collision rate
is 1 - distinct / n, as in `SemanticIds.collision_rate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nezha_lite.common.checks import check
from nezha_lite.semantic_ids.catalogue import SemanticIds

# Bins of 1/512 in log p: the binned sum is off by less than 1e-6 of itself each time.
_BINS_PER_E = 512
_MOST_PROBABILITIES = 16_384  # above this many distinct ones, they are binned
_SERIES_TERMS = 24  # (n p)^k / (k + 1)! with n p <= 1: nothing is left in float64


def expected_collision_rate(n_items: int, radices: Sequence[int]) -> float:
    """The rate to expect when `n_items` draw uniformly from all IDs of these radices.

    Exact and without cancellation, also where the space is far too large to collide in: two items
    in 10^18 IDs give 5e-19.

    Raises:
        ValueError: if there is no item, no level, or a radix below 1.
    """
    check(n_items >= 1, "n_items", n_items, "at least 1")
    if not radices or any(radix < 1 for radix in radices):
        raise ValueError(f"radices is {tuple(radices)}, but must hold positive numbers of codes.")
    space = math.prod(radices)
    return _rate(n_items, np.array([1.0 / space]), np.array([float(space)]))


def expected_distinct(n_items: int, radices: Sequence[int]) -> float:
    """How many distinct IDs `n_items` use on average when drawing uniformly: n (1 - rate)."""
    return n_items * (1.0 - expected_collision_rate(n_items, radices))


def collision_rate_of_frequencies(
    n_items: int, frequencies: Sequence[Sequence[float] | np.ndarray]
) -> float:
    """The rate to expect when levels draw independently, each by its codes' frequencies.

    The space is never enumerated: IDs of equal probability are counted together, and where too
    many probabilities differ, those within 0.2 % of each other are. A measured rate
    above this one means that levels depend on each other, or that items are alike.

    Args:
        n_items: how many items draw.
        frequencies: per level the counts or shares of its codes, as `level_frequencies` gives.

    Raises:
        ValueError: if there is no item, no level, or a level without positive frequencies.
    """
    check(n_items >= 1, "n_items", n_items, "at least 1")
    if not frequencies:
        raise ValueError("frequencies is empty, but must hold those of at least one level.")
    probabilities, multiplicities = np.ones(1), np.ones(1)
    for level, given in enumerate(frequencies):
        shares, counts = np.unique(_shares(level, given), return_counts=True)
        probabilities = np.outer(probabilities, shares).ravel()
        multiplicities = np.outer(multiplicities, counts).ravel()
        if len(probabilities) > _MOST_PROBABILITIES:
            probabilities, multiplicities = _binned(probabilities, multiplicities)
    return _rate(n_items, probabilities, multiplicities)


def level_frequencies(semantic_ids: SemanticIds) -> tuple[np.ndarray, ...]:
    """Per level, how many items carry each of its codes: int64 (C_l,)."""
    return tuple(
        np.bincount(semantic_ids.codes[:, level].numpy(), minlength=radix)
        for level, radix in enumerate(semantic_ids.radices)
    )


def _shares(level: int, given: Sequence[float] | np.ndarray) -> np.ndarray:
    """The positive frequencies of one level, scaled to sum to 1."""
    counts = np.asarray(given, dtype=np.float64)
    if not np.isfinite(counts).all() or (counts < 0).any() or not counts.sum() > 0:
        raise ValueError(
            f"frequencies of level {level + 1} must be finite, at least 0, and not all 0."
        )
    return counts[counts > 0] / counts.sum()


def _binned(probabilities: np.ndarray, multiplicities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge probabilities within a narrow bin, keeping how many there are and what they sum to."""
    bins = np.floor(np.log(probabilities) * _BINS_PER_E).astype(np.int64)
    bins -= bins.min()
    counts = np.bincount(bins, weights=multiplicities)
    sums = np.bincount(bins, weights=multiplicities * probabilities)
    used = counts > 0
    return sums[used] / counts[used], counts[used]


def _rate(n_items: int, probabilities: np.ndarray, multiplicities: np.ndarray) -> float:
    """Σ_ID [p - (1 - (1 - p)^n) / n], the collision rate, without cancellation for small n p."""
    n, p = float(n_items), probabilities
    with np.errstate(divide="ignore"):  # p = 1: log1p is -inf, and the ID is surely drawn
        lost = p + np.expm1(n * np.log1p(-p)) / n
    # The same as Σ_{k>=1} (-1)^{k+1} C(n, k+1) p^{k+1} / n, which starts with the pairs.
    few = n * p <= 1.0
    small, series, term = p[few], np.zeros(int(few.sum())), p[few].copy()
    for k in range(1, _SERIES_TERMS):
        term = term * small * (n - k) / (k + 1)
        series += term if k % 2 else -term
    lost[few] = series
    return float((multiplicities * lost).sum())
