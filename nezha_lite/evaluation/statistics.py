"""Is a difference real? Users and training runs both vary, and both are drawn again.

With S runs (seeds) of U users each, a figure is the mean of an (S, U) array: a 1 or 0 per user for
recall, a gain per user for NDCG. Which users a data set happens to hold and which seed a training
happens to have are two sources of chance; an interval that ignores the second is too narrow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def interval(
    values: Array, level: float = 0.95, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of the mean of (S, U) values: runs and users are drawn with replacement.

    Users are the same in every run, so a user that is drawn is drawn for all of them.

    Raises:
        ValueError: if there are no values, or one is not finite.
    """
    values = _checked(values)
    generator = np.random.default_rng(seed)
    runs, users = values.shape
    means = np.empty(samples)
    for sample in range(samples):
        drawn = np.bincount(generator.integers(0, runs, runs), minlength=runs) / runs  # (S,)
        per_user = drawn @ values  # (U,)
        means[sample] = per_user[generator.integers(0, users, users)].mean()
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def difference(one: Array, other: Array, samples: int = 2000, seed: int = 0) -> dict[str, float]:
    """What `one` (S, U) has over `other`, user by user and run by run.

    Returns:
        gain, the mean difference; low and high, its interval; p, how often chance alone gives one
        as large.

    p is that of a paired randomisation test: each user's difference, the mean over runs, keeps or
    flips its sign at random, as it might if the two were alike (Smucker et al., CIKM 2007). It is
    two-sided, and counts the data as one of the draws, so it is never 0. It asks about other users
    of these runs; how much the runs themselves vary is in the interval alone.

    Raises:
        ValueError: if the shapes differ.
    """
    if one.shape != other.shape:
        raise ValueError(f"one has shape {one.shape}, other {other.shape}: they must be pairs.")
    gains = _checked(one - other)
    low, high = interval(gains, samples=samples, seed=seed)
    return {
        "gain": float(gains.mean()),
        "low": low,
        "high": high,
        "p": _sign_flip(gains.mean(axis=0), samples, seed),
    }


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
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values has shape {values.shape}, but must be (runs, users), not empty.")
    if not np.isfinite(values).all():
        raise ValueError("values holds a number that is not finite.")
    return values
