"""What prefixes keep: neighbours by cosine, categories, and the groups under another seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.datasets import InteractionDataset, plain_text
from nezha_lite.semantic_ids.quality.code_usage import Groups, numbered, sizes_of

_CELLS_AT_ONCE = 2**23  # of the (queries, N) matrix of similarities: 64 MB, whatever N is
_TIED = 1e-9  # similarities of unit vectors in float64 that differ by less are equal
_SHUFFLES = 5  # each is already a mean over thousands of groups


def neighbour_shares(
    vectors: Tensor, prefixes: Sequence[Groups], k: int, queries: int, seed: int
) -> list[dict[str, float]]:
    """Of the k nearest neighbours of an item, the share with its prefix; means over the queries.

    Where the k-th neighbour is tied, all tied ones count in part, so the order of the items has no
    effect. Zero rows have no direction: they are neither queries nor neighbours.

    Args:
        vectors: (N, D) float32, finite.
        prefixes: groupings (N,), from `prefix_groups`.
        k: neighbours of each item; N − 1 where there are fewer.
        queries: items whose neighbours are looked up, drawn by `seed`; all of them if N is smaller.
        seed: of that draw.

    Returns:
        For each grouping `neighbours` (measured), `neighbours_chance` (the share of all pairs of
        items with one prefix, as random neighbours have) and `neighbours_possible` (the share if
        as many neighbours as possible were from the prefix's group). Nothing in them if fewer than
        two rows are not zero.
    """
    rows = vectors.ne(0).any(dim=1).nonzero().flatten()
    n_items = len(rows)
    if n_items < 2:
        return [{} for _ in prefixes]
    k = min(k, n_items - 1)
    unit = vectors[rows].double()  # (n, D)
    unit /= unit.norm(dim=1, keepdim=True)
    sample = np.arange(n_items)
    if queries < n_items:
        sample = np.sort(np.random.default_rng(seed).choice(n_items, queries, replace=False))
    groupings = [torch.from_numpy(numbered(groups[rows.numpy()])) for groups in prefixes]
    totals = torch.zeros(len(prefixes), dtype=torch.float64)
    for block in torch.from_numpy(sample).split(max(1, _CELLS_AT_ONCE // n_items)):
        query, neighbour, weight = _nearest(unit, block, k)
        for index, groups in enumerate(groupings):
            same = groups[block[query]] == groups[neighbour]
            totals[index] += weight[same].sum()
    shares = []
    for total, groups in zip(totals.tolist(), groupings, strict=True):
        sizes = sizes_of(groups.numpy())
        possible = np.minimum(sizes[groups.numpy()[sample]] - 1, k)
        shares.append(
            {
                "neighbours": min(1.0, total / len(sample)),
                "neighbours_chance": int((sizes * (sizes - 1) // 2).sum()) / comb(n_items, 2),
                "neighbours_possible": float(possible.mean()) / k,
            }
        )
    return shares


def _nearest(unit: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbours of the rows `queries`: which query, which neighbour, its part of 1: (P,) each."""
    similarity = unit[queries] @ unit.T  # (B, n)
    similarity[torch.arange(len(queries)), queries] = -torch.inf  # no item is its own neighbour
    last = similarity.topk(k, dim=1).values[:, -1:]  # (B, 1)
    above = similarity > last + _TIED
    tied = (similarity - last).abs() <= _TIED
    left = k - above.sum(1, keepdim=True)  # neighbours that the tied ones share
    part = left.double() / tied.sum(1, keepdim=True) / k  # (B, 1)
    query, neighbour = (above | tied).nonzero(as_tuple=True)
    weight = torch.where(above[query, neighbour], 1.0 / k, part[query, 0])
    return query, neighbour, weight


def category_purity(labels: Sequence[str], groups: Groups, seed: int) -> dict[str, float]:
    """Purity of groups (N,) against N categories; "" means unknown, and the item is left out.

    Returns:
        Over the groups of two items and more, weighted by their items: `purity` (of a group's
        items, those in its most common category), `purity_chance` (the same after the categories
        were shuffled; far from zero, because of two items one is always in the most common
        category) and `purity_items` (the share of the items with a category that are in such
        groups). Empty if there is no such group.
    """
    labelled = np.array([bool(label) for label in labels])
    groups = numbered(groups[labelled])
    categories = numbered(np.array([label for label in labels if label], dtype=object).astype(str))
    shared = sizes_of(groups)[groups] >= 2
    if not shared.any():
        return {}
    groups, categories = numbered(groups[shared]), numbered(categories[shared])
    # Chance depends on the two lists of sizes alone; sorted, so does the shuffled figure.
    sorted_groups, sorted_categories = (
        np.repeat(np.arange(labels.max() + 1), -np.sort(-sizes_of(labels)))
        for labels in (groups, categories)
    )
    draw = np.random.default_rng(seed)
    shuffled = [
        _purity(sorted_groups, draw.permutation(sorted_categories)) for _ in range(_SHUFFLES)
    ]
    return {
        "purity": _purity(groups, categories),
        "purity_chance": float(np.mean(shuffled)),
        "purity_items": float(shared.mean()),
    }


def _purity(groups: NDArray[np.int64], categories: NDArray[np.int64]) -> float:
    cells, counts = np.unique(groups * (categories.max() + 1) + categories, return_counts=True)
    largest = np.zeros(groups.max() + 1, dtype=np.int64)
    np.maximum.at(largest, cells // (categories.max() + 1), counts)
    return float(largest.sum() / len(groups))


def item_categories(dataset: InteractionDataset, depth: int | None = None) -> list[str] | None:
    """One category for each item, cut from its path: "Beauty > Makeup" at depth 2.

    Args:
        dataset: with item texts.
        depth: levels of the path in a label. By default the coarsest depth that tells items
            apart: at least half of the items have it, and no category holds half of those. For
            Amazon's Beauty and Toys, where the first name is that of the shop's department, this
            is 2.

    Returns:
        N labels, "" for an item whose path is shorter; None if the data set has no categories.

    Raises:
        ValueError: if depth is not positive.
    """
    check(depth is None or depth >= 1, "depth", depth, "at least 1")
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

    None where the two always agree: no pair shares a group in either, or all do in both.
    """
    from sklearn.metrics import adjusted_rand_score

    n_groups = {len(np.unique(one)), len(np.unique(other))}
    return None if n_groups in ({1}, {len(one)}) else float(adjusted_rand_score(one, other))
