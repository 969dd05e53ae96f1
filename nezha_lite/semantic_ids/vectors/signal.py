"""Whether the vectors of item texts tell anything about the items, whatever the reason if not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nezha_lite.datasets import InteractionDataset
from nezha_lite.semantic_ids.vectors.tfidf import unit_rows

WEAK_LIFT = 1.3
WEAK_COSINE = 0.1
_ENOUGH_PAIRS, _ENOUGH_ITEMS = 30, 100  # by chance, and in the catalogue; fewer decide nothing
_MAX_COSINES = 10**8  # computed at once


def text_weakness(dataset: InteractionDataset, vectors: Tensor, seed: int = 0) -> str | None:
    """Why text vectors tell next to nothing, in one sentence; None where they tell enough.

    They are weak if more than half of the items have none, or the same one; if the mean cosine of
    an item and its nearest one is below 0.1; or if the nearest items by text (ten, or a tenth of
    the items) are in the same users' training sequences less than 1.3 times as often as any items,
    where there are enough items and interactions to tell.

    Args:
        vectors: (N, D) float32, of the items' texts.
        seed: of the sample of 1,000 items, at most, that is looked at.
    """
    rows = unit_rows(vectors.numpy())
    items = rows.ne(0).any(dim=1).nonzero().flatten()  # (M,): those with a vector
    n_items, n_there = len(rows), len(items)
    if 2 * n_there < n_items:
        return _sentence(f"{n_items - n_there:,} of {n_items:,} items have no text vector")
    same = int(rows[items].unique(dim=0, return_counts=True)[1].max())
    if 2 * same > n_items > 2:
        return _sentence(f"{same:,} of {n_items:,} items have the same text vector")
    if (neighbours := min(10, n_there // 10)) < 1:
        return None
    shuffled = torch.randperm(n_there, generator=torch.Generator().manual_seed(seed))
    queries = items[shuffled[: min(1000, max(1, _MAX_COSINES // n_there))]]  # (Q,)
    cosines = rows[queries] @ rows[items].T  # (Q, M)
    cosines[queries[:, None] == items] = -torch.inf
    nearest = cosines.topk(neighbours)
    if (cosine := float(nearest.values[:, 0].mean())) < WEAK_COSINE:
        return _sentence(f"an item's text has a cosine of {cosine:.2f} with the nearest one")
    near, by_chance = _common_users(dataset, queries, items, items[nearest.indices])
    enough = by_chance >= _ENOUGH_PAIRS and n_items >= _ENOUGH_ITEMS
    if enough and near < WEAK_LIFT * by_chance:
        return _sentence(
            "the nearest items by text are taken by the same users "
            f"{near / by_chance:.1f} times as often as any items"
        )
    return None


def _common_users(
    dataset: InteractionDataset, queries: Tensor, items: Tensor, nearest: Tensor
) -> tuple[float, float]:
    """Users in common, summed over all pairs of a query and a near item; and as many random pairs.

    Args:
        queries: (Q,) int64.
        items: (M,) int64, what the random ones are drawn from.
        nearest: (Q, K) int64.
    """
    from scipy.sparse import csr_array

    sequences = dataset.train_sequences()
    pairs = np.unique(np.stack([sequences.values, sequences.rows]), axis=1)  # (2, P): item, user
    shape = (dataset.n_items, len(sequences))
    taken = csr_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=shape)
    asked, others = taken[queries.numpy()], taken[items.numpy()]
    partners = taken[nearest.flatten().numpy()]
    near = sum(
        float(asked.multiply(partners[column :: nearest.shape[1]]).sum())
        for column in range(nearest.shape[1])
    )
    everything = float((asked @ others.sum(axis=0)).sum() - asked.sum())  # but a query with itself
    return near, everything * nearest.shape[1] / max(1, len(items) - 1)


def _sentence(reason: str) -> str:
    return (
        f"Text vectors tell next to nothing: {reason}: build IDs from behaviour (the vectors "
        "'collaborative'), or give better texts or vectors of your own."
    )
