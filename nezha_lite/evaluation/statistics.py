"""Is a difference real? Users and training runs both vary, so both are resampled.

With S runs (seeds) of U users each, a figure is the mean of an (S, U) array: a 1 or 0 per user for
recall, a gain per user for NDCG. Which users a data set happens to hold and which seed a training
happens to have are two sources of chance; an interval that ignores the second is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nezha_lite.common.checks import check
from nezha_lite.evaluation.metrics import Evaluation, overlap_at, recall_at

Array = NDArray[np.float64]


def bootstrap_interval(
    values: Array, level: float = 0.95, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of a mean; for a paired comparison pass the differences.

    Runs and users are drawn with replacement. Users are the same in every run, so a user that is
    drawn is drawn for all of them.

    >>> bootstrap_interval(np.tile([0.0, 1.0], 50))
    (0.4, 0.6)

    Args:
        values: (S, U), or (U,) of a single run.
        level: share of such intervals that hold the true mean.
        samples: how many times all runs and users are drawn.
        seed: of the draws.

    Raises:
        ValueError: if there are no values, or one is not finite.
    """
    return _bounds(_resampled_means(_checked(values), samples, seed), level)


def difference(one: Array, other: Array, samples: int = 2000, seed: int = 0) -> dict[str, float]:
    """What `one` (S, U) has over `other`, user by user and run by run.

    Returns:
        gain, the mean difference; low and high, its 95 % interval over runs and users; p, two-sided
        and never 0: how often chance alone gives a difference as large.

    With several runs p comes from the same draws of runs and users as the interval: twice the share
    of them that lies on the other side of 0. So p is below 0.05 where the interval leaves out 0,
    and both know how much the runs vary. A single run does not tell that: p is then that of a
    paired randomisation test over users, in which each user's difference keeps or flips its sign at
    random (Smucker et al., CIKM 2007), and holds for this run alone. Correct it by `holm` where
    many comparisons are shown.

    Raises:
        ValueError: if the shapes differ, there are no values, or one is not finite.
    """
    if one.shape != other.shape:
        raise ValueError(f"one has shape {one.shape}, other {other.shape}: they must be pairs.")
    gains = _checked(one - other)
    means = _resampled_means(gains, samples, seed)
    low, high = _bounds(means, 0.95)
    other_side = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p = min(1.0, (1 + 2 * other_side) / (samples + 1))
    return {
        "gain": float(gains.mean()),
        "low": low,
        "high": high,
        "p": p if len(gains) > 1 else _sign_flip(gains[0], samples, seed),
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979) of the p-values of comparisons that are shown together.

    Where those below 0.05 after it are called real, the chance of one false call or more is 5 %.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Raises:
        ValueError: if one is not between 0 and 1.
    """
    for p in p_values:
        check(0 <= p <= 1, "p", p, "between 0 and 1")
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = highest
    return corrected


def agreement(one: Evaluation, other: Evaluation, k: int = 10) -> dict[str, float]:
    """How two decoders compare on the same users.

    Returns:
        `overlap@k` of their lists; `recall@k_gain`, the first's recall minus the second's, with
        the ends of its 95 % paired bootstrap interval.
    """
    gain = recall_at(one.ranks, k) - recall_at(other.ranks, k)
    low, high = bootstrap_interval(gain)
    return {
        f"overlap@{k}": overlap_at(one.lists, other.lists, k),
        f"recall@{k}_gain": float(gain.mean()),
        f"recall@{k}_gain_low": low,
        f"recall@{k}_gain_high": high,
    }


def _resampled_means(values: Array, samples: int, seed: int) -> Array:
    """(S, U) values → (samples,) means of resampled runs and users.

    `scipy.stats.bootstrap` resamples one axis: for one run it gives the same numbers.
    """
    generator = np.random.default_rng(seed)
    runs, users = values.shape
    means = np.empty(samples)
    for sample in range(samples):
        weights = np.bincount(generator.integers(0, runs, runs), minlength=runs) / runs  # (S,)
        per_user = weights @ values  # (U,)
        means[sample] = per_user[generator.integers(0, users, users)].mean()
    return means


def _bounds(means: Array, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _sign_flip(gains: Array, samples: int, seed: int) -> float:
    differing = gains[gains != 0]  # a zero has no sign to flip
    generator = np.random.default_rng(seed)
    observed = abs(differing.sum())
    as_large = 1
    for _ in range(samples):
        signs = generator.integers(0, 2, len(differing)) * 2 - 1
        as_large += bool(abs(signs @ differing) >= observed - 1e-12)
    return as_large / (samples + 1)


def _checked(values: Array) -> Array:
    """Values as (S, U)."""
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"values has shape {values.shape}, but must be (runs, users), not empty.")
    if not np.isfinite(values).all():
        raise ValueError("values holds a number that is not finite.")
    return np.atleast_2d(values)
