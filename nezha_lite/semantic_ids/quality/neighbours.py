"""Do close items share prefixes? Nearest neighbours by cosine against the first l codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nezha_lite.semantic_ids.quality.code_usage import (
    Groups,
    numbered,
    pairs_of,
    pairs_within,
    sizes_of,
)

_CELLS_AT_ONCE = 2**23  # of the (queries, N) matrix of similarities: 64 MB, whatever N is
_TIED = 1e-9  # similarities of unit vectors in float64 that differ by less are equal


@dataclass(frozen=True)
class NeighbourShare:
    """Of the k nearest neighbours of an item, the share with its prefix; means over the queries.

    Attributes:
        share: what was measured.
        chance: the share of all pairs of items with one prefix: what random neighbours would give.
        possible: the share if every place that the prefix's group can fill were filled.
    """

    share: float
    chance: float
    possible: float


def neighbour_shares(
    vectors: Tensor, prefixes: Sequence[Groups], k: int, queries: int, seed: int
) -> list[NeighbourShare] | None:
    """One `NeighbourShare` for each grouping of the N items.

    Where the k-th place is tied, those tied for it count in part, so the order of the items
    decides nothing. Zero rows have no direction: they are neither queries nor neighbours.

    Args:
        vectors: (N, D) float32, finite.
        prefixes: groupings (N,), from `prefix_groups`.
        k: neighbours of each item; N − 1 where there are fewer.
        queries: items whose neighbours are looked up, drawn by `seed`; all of them if N is smaller.
        seed: of that draw.

    Returns:
        None if fewer than two rows are not zero.
    """
    rows = vectors.ne(0).any(dim=1).nonzero().flatten()
    n_items = len(rows)
    if n_items < 2:
        return None
    k = min(k, n_items - 1)
    unit = vectors[rows].double()  # (n, D)
    unit /= unit.norm(dim=1, keepdim=True)
    chosen = np.arange(n_items)
    if queries < n_items:
        draw = np.random.default_rng(seed)
        chosen = np.sort(draw.choice(n_items, queries, replace=False))
    groupings = [torch.from_numpy(numbered(groups[rows.numpy()])) for groups in prefixes]
    totals = torch.zeros(len(prefixes), dtype=torch.float64)
    for asked in torch.from_numpy(chosen).split(max(1, _CELLS_AT_ONCE // n_items)):
        query, neighbour, weight = _nearest(unit, asked, k)
        for place, groups in enumerate(groupings):
            same = groups[asked[query]] == groups[neighbour]
            totals[place] += weight[same].sum()
    found = []
    for total, groups in zip(totals.tolist(), groupings, strict=True):
        sizes = sizes_of(groups.numpy())
        found.append(
            NeighbourShare(
                share=min(1.0, total / len(chosen)),
                chance=pairs_within(sizes) / pairs_of(n_items),
                possible=float(np.minimum(sizes[groups.numpy()[chosen]] - 1, k).mean()) / k,
            )
        )
    return found


def _nearest(unit: Tensor, asked: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbours of the rows `asked`: which query, which neighbour, and its part of 1 (P,) each."""
    similarity = unit[asked] @ unit.T  # (B, n)
    similarity[torch.arange(len(asked)), asked] = -torch.inf  # nothing is its own neighbour
    last = similarity.topk(k, dim=1).values[:, -1:]  # (B, 1)
    above = similarity > last + _TIED
    tied = (similarity - last).abs() <= _TIED
    free = k - above.sum(1, keepdim=True)  # places that the tied share
    part = free.double() / tied.sum(1, keepdim=True) / k  # (B, 1)
    query, neighbour = (above | tied).nonzero(as_tuple=True)
    weight = torch.where(above[query, neighbour], 1.0 / k, part[query, 0])
    return query, neighbour, weight
