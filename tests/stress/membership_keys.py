"""Membership by definition, and keys to ask for that a structure may get wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
PATTERNS = ("random", "clustered", "adversarial")

_RUN = 40  # neighbouring keys of a cluster, at most
_HOMES = 2048  # of the hash table that adversarial keys crowd into
_CROWD = 24  # keys of one home
_JUMPS = (2**31, 2**32, 2**33, 2**62, -(2**31), -(2**32), -(2**62))
_EXTREMES = (-1, -2, -(2**31), -(2**63), 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1)


class Truth:
    """Which IDs exist: one boolean for every ID that could be written, and for every prefix.

    Shares nothing with the verifiers but the layout of keys: a prefix of l codes is the key modulo
    T_1 · … · T_l.

    Attributes:
        sizes: how many prefixes of 1 … L codes could be written.
        levels: (sizes[l],) bool each.

    Args:
        radices: T_1 … T_L.
        keys: of the IDs to begin with.
    """

    def __init__(self, radices: Sequence[int], keys: Keys) -> None:
        self.radices = tuple(radices)
        self.sizes = [math.prod(radices[: level + 1]) for level in range(len(radices))]
        self.ids = np.zeros(self.sizes[-1], dtype=np.bool_)
        self.change(keys, keys[:0])

    def change(self, more: Keys, fewer: Keys) -> None:
        """Let some IDs exist, then some exist no more."""
        self.ids[more] = True
        self.ids[fewer] = False
        self.levels: list[NDArray[np.bool_]] = [self.ids]
        for size in reversed(self.sizes[:-1]):
            self.levels.insert(0, np.logical_or.reduce(self.levels[0].reshape(-1, size)))
        self._existing = [np.flatnonzero(level) for level in self.levels]

    def contains(self, level: int, keys: Keys) -> NDArray[np.bool_]:
        """Which prefixes of `level` codes begin an existing ID: (...) → (...)."""
        inside = (keys >= 0) & (keys < self.sizes[level - 1])
        exists: NDArray[np.bool_] = np.take(self.levels[level - 1], np.where(inside, keys, 0))
        return exists & inside

    def existing(self, draw: np.random.Generator, level: int, n: int) -> Keys:
        """Random existing prefixes; (n,), or none if none exists."""
        some = self._existing[level - 1]
        return some[draw.integers(0, len(some), n)] if len(some) else some[:0]


def pattern_keys(pattern: str, draw: np.random.Generator, radices: Sequence[int], n: int) -> Keys:
    """Keys of IDs, about n, some perhaps more than once.

    "random" ones lie anywhere. "clustered" ones lie in runs of neighbours: IDs that differ in their
    first code alone, or in the codes after it too where a run crosses over. "adversarial" ones are
    those that a hash table of n keys would put in the same places, and the ends of the space.
    """
    space = math.prod(radices)
    if pattern == "random":
        return draw.integers(0, space, n)
    if pattern == "clustered":
        starts = draw.integers(0, space, max(1, 2 * n // _RUN))
        lengths = draw.integers(1, _RUN, len(starts))
        within = np.arange(_RUN) < lengths[:, None]
        return (starts[:, None] + np.arange(_RUN))[within] % space
    crowded = crowded_keys(draw, space, n)
    ends = np.arange(min(space, 100))
    return np.concatenate([crowded, ends, space - 1 - ends])


def crowded_keys(draw: np.random.Generator, space: int, n: int) -> Keys:
    """Up to n keys that share few homes in a hash table of any size up to 2^20 places."""
    some = draw.integers(0, space, min(64 * n, 4_000_000))
    low = _mixed(some) & np.uint64(2**20 - 1)
    homes = np.argsort(low, kind="stable")
    places = max(1, min(_HOMES, n // _CROWD))
    wide = len(homes) // places
    # Keys next to each other in this order have neighbouring homes: take some from each stretch.
    kept = [homes[start * wide : start * wide + _CROWD] for start in range(places)]
    return some[np.concatenate(kept)][:n]


def asked_keys(
    pattern: str,
    draw: np.random.Generator,
    truth: Truth,
    level: int,
    n: int,
    changed: Keys,
) -> Keys:
    """Prefixes of `level` codes to ask for, (about n,): existing ones, lately changed ones, others.

    The others lie anywhere; beside existing ones; or, of the "adversarial", are existing ones with
    one code changed, moved by powers of two (what is left of it in 32 bits is an existing key),
    and numbers that are no prefix at all.
    """
    size, part = truth.sizes[level - 1], n // 4
    existing = truth.existing(draw, level, n - 3 * part)
    anchors = truth.existing(draw, level, part)
    recent = changed[draw.integers(0, len(changed), part)] % size if len(changed) else changed
    anywhere = draw.integers(0, size, part)
    if pattern == "random":
        return np.concatenate([existing, recent, anywhere, draw.integers(0, size, part)])
    if pattern == "clustered":
        near = anchors + draw.integers(-3, 4, len(anchors))
        return np.concatenate([existing, recent, anywhere, near])
    which = draw.integers(0, level, len(anchors))
    strides = np.array([1, *truth.sizes])[which]
    codes = np.array(truth.radices)[which]
    other = draw.integers(0, 2**31, len(anchors)) % codes
    changed_codes = anchors + (other - anchors // strides % codes) * strides
    half = len(anchors) // 2
    jumps = np.array([*_JUMPS, size, -size])
    moved = anchors[:half] + jumps[draw.integers(0, len(jumps), half)]
    return np.concatenate([existing, recent, changed_codes, moved, np.array(_EXTREMES)])


def _mixed(keys: Keys) -> NDArray[np.uint64]:
    """The finalizer of MurmurHash3, which the hash table takes its homes from; in NumPy."""
    mixed = keys.astype(np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(33))
