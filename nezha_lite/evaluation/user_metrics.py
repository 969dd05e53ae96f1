"""What a user's list is worth, as it is and without what the user has already.

In these data nobody takes an item twice, so a place given to an item of the history is lost. A
service would forbid such items while decoding (`RequestFilter`, `recommend(exclude_seen=True)`);
here they are struck out of stored lists afterwards, which treats every system alike. Figures of
such lists are called "unseen".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nezha_lite.datasets import InteractionDataset, Split
from nezha_lite.decoding.item_lists import NOT_FOUND
from nezha_lite.evaluation.metrics import Evaluation, ndcg_at, recall_at

INTERVALS = ("recall@10", "ndcg@10", "recall@10_unseen", "ndcg@10_unseen")


def measures(evaluation: Evaluation, split: Split) -> dict[str, NDArray[np.float64]]:
    """Each (U,): those named in INTERVALS, and repeated@10, the share of ten that is not new."""
    unseen = without_seen(evaluation, split)
    return {
        "recall@10": recall_at(evaluation.ranks, 10),
        "ndcg@10": ndcg_at(evaluation.ranks, 10),
        "recall@10_unseen": recall_at(unseen.ranks, 10),
        "ndcg@10_unseen": ndcg_at(unseen.ranks, 10),
        "repeated@10": repeated_at(evaluation, split, 10),
    }


def without_seen(evaluation: Evaluation, split: Split) -> Evaluation:
    """The lists with each user's history struck out: those below move up, none is refilled.

    `ranks` are anew; what is counted by semantic ID, and `returned` and `existing`, stay as they
    were decoded.

    Raises:
        ValueError: if the split has another number of users.
    """
    if len(split) != len(evaluation.lists):
        raise ValueError(f"There are {len(evaluation.lists)} lists for {len(split)} users.")
    lists, ranks = [], []
    rows = zip(evaluation.lists, split.histories, split.targets, strict=True)
    for listed, history, target in rows:
        seen = set(history)
        left = [item for item in listed if item not in seen]
        lists.append(left)
        ranks.append(left.index(target) if target in left else NOT_FOUND)
    return replace(evaluation, lists=lists, ranks=np.array(ranks, dtype=np.int64))


def repeated_at(evaluation: Evaluation, split: Split, k: int) -> NDArray[np.float64]:
    """Share of the first k places that hold an item of the user's history: (U,)."""
    shares = []
    for listed, history in zip(evaluation.lists, split.histories, strict=True):
        seen = set(history)
        shares.append(sum(item in seen for item in listed[:k]) / k)
    return np.array(shares)


Mask = NDArray[np.bool_]
HISTORIES = ((1, 4), (5, 9), (10, 19), (20, None))


def strata(dataset: InteractionDataset, split: Split) -> Iterator[tuple[str, str, Mask]]:
    """Yield what the users are told apart by, the stratum's name, and its users (U,) bool.

    "target" cuts the users into thirds of nearly equal size by how often their target occurs in
    training, so that the tail third holds the rarest; "history" by the number of items.
    Strata without users are left out.
    """
    counts = np.array(dataset.popularity())[np.array(split.targets, dtype=np.int64)]  # (U,)
    low, high = np.quantile(counts, [1 / 3, 2 / 3])
    lengths = np.array([len(history) for history in split.histories])
    found: list[tuple[str, str, Mask]] = [
        ("target", f"tail: seen up to {low:.0f} times", counts <= low),
        ("target", f"middle: up to {high:.0f} times", (counts > low) & (counts <= high)),
        ("target", "head: more often", counts > high),
    ]
    for first, last in HISTORIES:
        name = f"{first} to {last} items" if last else f"{first} items or more"
        found.append(("history", name, (lengths >= first) & (lengths <= (last or np.inf))))
    return (entry for entry in found if entry[2].any())
