"""How evenly a level uses its codes, beside what its items would allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nezha_lite.semantic_ids.catalogue import SemanticIds


@dataclass(frozen=True)
class LevelUse:
    """The codes of one level, counted over N items.

    Attributes:
        level: 1 … L.
        radix: codes the level has.
        codes_used: codes that an item has.
        attainable_codes: as many as could be used: min(radix, different things to tell apart).
        entropy: −Σ p log2 p of the codes' shares, in bits.
        attainable_perplexity: an upper bound of `perplexity`, from the items there are.
        prefixes: different prefixes of the codes up to this level.
        counts: items of each code in use, most first; they sum to N.
        extra: whether the level only numbers items that share the codes before it.
    """

    level: int
    radix: int
    codes_used: int
    attainable_codes: int
    entropy: float
    attainable_perplexity: float
    prefixes: int
    counts: tuple[int, ...]
    extra: bool

    @property
    def use(self) -> float:
        """The share of the codebook in use."""
        return self.codes_used / self.radix

    @property
    def perplexity(self) -> float:
        """2^entropy: equally frequent codes that would say as much as this level's codes do."""
        return float(2.0**self.entropy)

    @property
    def attained(self) -> float:
        """Perplexity as a share of what is attainable."""
        return min(1.0, self.perplexity / self.attainable_perplexity)

    @property
    def top(self) -> float:
        """The share of the items that carry the most common code."""
        return self.counts[0] / sum(self.counts)


def level_uses(
    semantic_ids: SemanticIds, equal_vectors: ArrayLike | None, extra_level: bool
) -> tuple[LevelUse, ...]:
    """One `LevelUse` for each level.

    Args:
        semantic_ids: N items.
        equal_vectors: how many items each different vector has; None takes all for different.
        extra_level: whether the last level is one of `SemanticIds.with_extra_level`.
    """
    n_items = semantic_ids.n_items
    multiples = np.ones(n_items) if equal_vectors is None else np.asarray(equal_vectors)
    # Items with equal vectors get equal codes, so codes cannot say more than which vector it is.
    most = entropy_of(multiples)
    levels = []
    for level, radix in enumerate(semantic_ids.radices, start=1):
        counts = np.bincount(semantic_ids.codes[:, level - 1].numpy())
        counts = -np.sort(-counts[counts > 0])
        # Only the extra level tells equal vectors apart.
        extra = extra_level and level == semantic_ids.levels
        whole, left = divmod(n_items, radix)
        most_even = [whole + 1] * left + [whole] * (radix - left if whole else 0)
        attainable = min(entropy_of(most_even), np.inf if extra else most)
        levels.append(
            LevelUse(
                level=level,
                radix=radix,
                codes_used=len(counts),
                attainable_codes=min(radix, n_items if extra else len(multiples)),
                entropy=entropy_of(counts),
                attainable_perplexity=float(2.0**attainable),
                prefixes=len(sizes_of(prefix_groups(semantic_ids, level))),
                counts=tuple(counts.tolist()),
                extra=extra,
            )
        )
    return tuple(levels)


def has_extra_level(semantic_ids: SemanticIds) -> bool:
    """Whether the last codes just number the items that share the codes before: 0, 1, 2, …

    `with_extra_level` makes such codes. A quantizer's own last level looks like it only by a very
    small chance, because every item that shares its prefix with no other has to have code 0.
    """
    if semantic_ids.levels < 2 or not semantic_ids.codes[:, -1].any():
        return False  # with nothing to number, `with_extra_level` adds no level
    groups = prefix_groups(semantic_ids, semantic_ids.levels - 1)
    last = semantic_ids.codes[:, -1].numpy()
    order = np.lexsort((last, groups))
    sizes = sizes_of(groups)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    return bool((last[order] == np.arange(len(last)) - starts).all())


def entropy_of(counts: ArrayLike) -> float:
    """−Σ p log2 p of positive counts, in bits."""
    shares = np.asarray(counts, dtype=np.float64)
    shares = np.sort(shares) / shares.sum()  # sorted: the order of adding changes the last digits
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def added_bits(groupings: Sequence[Groups]) -> list[float]:
    """What each level says that those before it do not: H(first l codes) − H(first l − 1)."""
    bits = [0.0, *(entropy_of(sizes_of(groups)) for groups in groupings)]
    return [max(0.0, after - before) for before, after in pairwise(bits)]


Groups = NDArray[np.int64]  # (N,): the number of each item's group, 0, 1, … without gaps


def prefix_groups(semantic_ids: SemanticIds, level: int) -> Groups:
    """Items are in one group when their first `level` codes agree: int64 (N,)."""
    keys = semantic_ids.keys_of(semantic_ids.codes[:, :level]).numpy()
    return numbered(keys)


def numbered(labels: NDArray[np.generic]) -> Groups:
    """Any labels (N,) as numbers 0, 1, … without gaps."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64).reshape(-1)


def sizes_of(groups: Groups) -> NDArray[np.int64]:
    """How many items each group has, in the order of the groups' numbers."""
    return np.bincount(groups).astype(np.int64)
