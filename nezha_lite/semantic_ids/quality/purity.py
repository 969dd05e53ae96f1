"""Do items with one prefix belong to one category, more than chance would have it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nezha_lite.datasets import InteractionDataset, plain_text
from nezha_lite.semantic_ids.quality.code_usage import Groups, numbered, sizes_of

_SHUFFLES = 5  # thousands of groups are averaged in each already


@dataclass(frozen=True)
class Purity:
    """Over the groups of two items and more, weighted by their items.

    Attributes:
        share: of a group's items, those in its most common category.
        chance: the same after the categories were dealt out to the same groups at random. It is
            far from zero: of two items, one is always in the most common category.
        items: the share of the items with a category that are in such groups.
    """

    share: float
    chance: float
    items: float


def category_purity(labels: Sequence[str], groups: Groups, seed: int) -> Purity | None:
    """Purity of groups (N,) against N categories; "" means unknown, and the item is left out.

    None if no group has two items with a category.
    """
    known = np.array([bool(label) for label in labels])
    groups = groups[known]
    categories = numbered(np.array([label for label in labels if label], dtype=object).astype(str))
    if not len(groups):
        return None
    shared = sizes_of(numbered(groups))[numbered(groups)] >= 2
    if not shared.any():
        return None
    groups, categories = numbered(groups[shared]), numbered(categories[shared])
    # Chance depends on the two lists of sizes alone; sorted, so does the shuffled figure.
    slots = np.repeat(np.arange(groups.max() + 1), -np.sort(-sizes_of(groups)))
    deck = np.repeat(np.arange(categories.max() + 1), -np.sort(-sizes_of(categories)))
    draw = np.random.default_rng(seed)
    dealt = [_purity(slots, draw.permutation(deck)) for _ in range(_SHUFFLES)]
    return Purity(
        share=_purity(groups, categories),
        chance=float(np.mean(dealt)),
        items=float(shared.mean()),
    )


def _purity(groups: NDArray[np.int64], categories: NDArray[np.int64]) -> float:
    cells, counts = np.unique(groups * (categories.max() + 1) + categories, return_counts=True)
    largest = np.zeros(groups.max() + 1, dtype=np.int64)
    np.maximum.at(largest, cells // (categories.max() + 1), counts)
    return float(largest.sum() / len(groups))


def item_categories(dataset: InteractionDataset, depth: int | None = None) -> list[str] | None:
    """One category for each item, cut from its path: "Beauty > Makeup" at depth 2.

    Args:
        dataset: with item texts.
        depth: levels of the path that are kept. By default the coarsest depth that tells items
            apart: at least half of the items have it, and no category holds half of those. For
            Amazon's Beauty and Toys, where the first name is that of the shop's department, this
            is 2.

    Returns:
        N labels, "" for an item whose path is shorter; None if the data set has no categories.

    Raises:
        ValueError: if depth is not positive.
    """
    if depth is not None and depth < 1:
        raise ValueError(f"depth is {depth}, but at least the first category must be kept.")
    paths = [tuple(filter(None, map(plain_text, t.categories))) for t in dataset.texts or ()]
    deepest = max(map(len, paths), default=0)
    if not deepest:
        return None
    labels = _cut(paths, depth or 1)
    for deeper in range(1, deepest + 1) if depth is None else ():
        candidate = _cut(paths, deeper)
        named = Counter(filter(None, candidate))
        if 2 * named.total() >= len(paths) and 2 * max(named.values()) < named.total():
            return candidate
    return labels


def _cut(paths: Sequence[tuple[str, ...]], depth: int) -> list[str]:
    return [" > ".join(path[:depth]) if len(path) >= depth else "" for path in paths]


def partition_stability(one: Groups, other: Groups) -> float | None:
    """The adjusted Rand index of two groupings (N,) of the same items: 1 equal, 0 as by chance.

    It is the share of grouped pairs that both groupings agree on (2 · both / (one + other), Dice's
    coefficient), corrected for chance. Pairs suit prefixes better than information does: deep
    prefixes make thousands of groups of one or two items, where the mutual information of even
    random groupings is close to its maximum, so that an index adjusted for it divides one small
    difference by another; and its correction costs the product of the numbers of groups. Items
    alone in their group make no pair, so they neither help nor harm.

    None where the two cannot help but agree: no pair shares a group in either, or all do in both.
    """
    from sklearn.metrics import adjusted_rand_score

    n_groups = {len(np.unique(one)), len(np.unique(other))}
    return None if n_groups in ({1}, {len(one)}) else float(adjusted_rand_score(one, other))
