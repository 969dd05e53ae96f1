"""What recommenders that score items, not codes, have in common: a list per user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from nezha_lite.datasets import Split
from nezha_lite.decoding.item_lists import NOT_FOUND
from nezha_lite.evaluation.metrics import Evaluation


class ItemScorer(Protocol):
    """Scores every item of the catalogue for every user."""

    def scores(self, histories: Sequence[Sequence[int]]) -> Tensor:
        """B histories of item indices, oldest first → (B, N) float, higher is better."""
        ...


def evaluate_scorer(
    scorer: ItemScorer, split: Split, length: int, batch_size: int = 256, progress: bool = False
) -> Evaluation:
    """Rank the whole catalogue for every user and look for the target among the first `length`.

    Items a user had already are ranked as well, as generative recommenders rank them. Equal scores
    are ordered by item index, so that a constant scorer gains nothing from its targets.

    Raises:
        ValueError: if `length` is not between 1 and the number of items, or a score is NaN.
    """
    ranks, lists = [], []
    starts = range(0, len(split), batch_size)
    for start in tqdm(starts, desc="Ranking", disable=not progress):
        batch = slice(start, start + batch_size)
        scores = scorer.scores(split.histories[batch]).float().cpu()  # (B, N)
        if not 1 <= length <= scores.shape[1]:
            raise ValueError(
                f"length is {length}, but must be between 1 and {scores.shape[1]}, the catalogue."
            )
        if scores.isnan().any():
            raise ValueError(
                f"{type(scorer).__name__} scored an item NaN: nothing can be ranked by it."
            )
        targets = torch.tensor(split.targets[batch])[:, None]  # (B, 1)
        wanted = scores.gather(1, targets)
        earlier = torch.arange(scores.shape[1]) < targets
        places = ((scores > wanted) | ((scores == wanted) & earlier)).sum(dim=1)  # (B,)
        ranks.append(torch.where(places < length, places, NOT_FOUND).numpy())
        lists.extend(top_items(scores, length).tolist())
    found = np.concatenate(ranks) if ranks else np.array([], dtype=np.int64)  # (U,)
    full = np.full(len(found), length)
    return Evaluation(found, found, lists, full, full, length)


def top_items(scores: Tensor, length: int) -> Tensor:
    """The best items, of equal scores the lower index first: (B, N) → (B, length) int64.

    What a stable sort of the whole catalogue would begin with, at the price of a few passes over
    it: all items above the last place's score, and of those that equal it the first few.
    """
    last = scores.topk(length, dim=1).values[:, -1:]  # (B, 1)
    above, level = scores > last, scores == last
    room = length - above.sum(dim=1, keepdim=True)
    chosen = above | (level & (level.cumsum(dim=1) <= room))  # `length` of each row
    items = chosen.nonzero()[:, 1].view(len(scores), length)
    order = torch.sort(scores.gather(1, items), dim=1, descending=True, stable=True).indices
    return items.gather(1, order)
