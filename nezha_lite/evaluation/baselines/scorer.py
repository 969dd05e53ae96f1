"""What recommenders that score items, not codes, have in common: a list per user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from nezha_lite.common.checks import check
from nezha_lite.datasets import Split
from nezha_lite.decoding.item_lists import NOT_FOUND
from nezha_lite.evaluation.metrics import Evaluation

_SCORES_AT_ONCE = 1 << 22  # ranked together: what is allocated beside the scores stays below 64 MiB


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
    are ordered by item index, so that a constant scorer gains nothing from its targets. The memory
    is that of one batch of scores, (batch_size, N), and a constant.

    Raises:
        ValueError: if `length` is not between 1 and the number of items, or a score is NaN.
    """
    ranks, lists = [], []
    starts = range(0, len(split), batch_size)
    for start in tqdm(starts, desc="Ranking", disable=not progress):
        batch = slice(start, start + batch_size)
        scores = scorer.scores(split.histories[batch])  # (B, N)
        n_items = scores.shape[1]
        check(1 <= length <= n_items, "length", length, f"between 1 and {n_items}, the catalogue")
        targets = torch.tensor(split.targets[batch])[:, None]  # (B, 1)
        users = max(1, _SCORES_AT_ONCE // n_items)
        for few, target in zip(scores.split(users), targets.split(users), strict=True):
            few = few.float().cpu()
            if few.isnan().any():
                raise ValueError(
                    f"{type(scorer).__name__} scored an item NaN: nothing can be ranked by it."
                )
            ranks.append(_ranks(few, target, length))
            lists.extend(top_items(few, length).tolist())
    joined = torch.cat(ranks).numpy() if ranks else np.array([], dtype=np.int64)  # (U,)
    full = np.full(len(joined), length)
    return Evaluation(joined, joined, lists, full, full, length)


def _ranks(scores: Tensor, targets: Tensor, length: int) -> Tensor:
    """(B, N) scores and (B, 1) targets → (B,) int64 ranks, NOT_FOUND from `length` on."""
    target_scores = scores.gather(1, targets)
    ahead = scores == target_scores  # (B, N) bool, of which only lower items count
    ahead &= torch.arange(scores.shape[1]) < targets
    ahead |= scores > target_scores
    ranks = ahead.sum(dim=1)
    return torch.where(ranks < length, ranks, NOT_FOUND)


def top_items(scores: Tensor, length: int) -> Tensor:
    """The best items, of equal scores the lower index first: (B, N) → (B, length) int64.

    The result is the beginning of a stable sort of the whole catalogue, at the price of a few
    passes over it: all items above the last score of the list, and the first of those that equal
    it.
    """
    last = scores.topk(length, dim=1).values[:, -1:]  # (B, 1)
    listed = scores > last
    tied = scores == last
    tied &= tied.cumsum(dim=1, dtype=torch.int32) <= length - listed.sum(dim=1, keepdim=True)
    listed |= tied  # `length` of each row
    items = listed.nonzero()[:, 1].view(len(scores), length)
    order = torch.sort(scores.gather(1, items), dim=1, descending=True, stable=True).indices
    return items.gather(1, order)
