"""Item-level evaluation over the full catalogue.

A hit is the *item* that came next. A hit on its semantic ID is not enough where items share IDs:
that figure rises as the codebook collapses, so it is reported only as a warning (`sid_recall@k`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from nezha_lite.common.checks import Valid
from nezha_lite.datasets import InteractionDataset, Split
from nezha_lite.decoding import Decoder
from nezha_lite.decoding.item_lists import NOT_FOUND, item_lists
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers.request_filter import item_set

# Of a beam that is as long as the lists that are scored.
EvaluatedBeam = Annotated[int, Valid(lambda beam: beam >= 10, "at least 10, which Recall@10 needs")]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The lists of U users, and the ranks of their targets.

    Two users, of whom the first one's target is the second item of the list:

    >>> ranks, lists = np.array([1, NOT_FOUND]), [[4, 7], [5]]
    >>> returned, existing = np.array([2, 2]), np.array([2, 1])
    >>> evaluation = Evaluation(ranks, ranks, lists, returned, existing, beam=2)
    >>> {name: round(value, 4) for name, value in evaluation.metrics(ks=(2,)).items()}
    {'recall@2': 0.5, 'ndcg@2': 0.3155, 'sid_recall@2': 0.5, 'valid': 0.75, 'filled': 0.75}

    Attributes:
        ranks: (U,) int64, rank (0 = first) of the target item, NOT_FOUND if it is not listed.
        sid_ranks: (U,) int64, rank of the target's semantic ID.
        lists: U lists of item indices, best first; -1 stands for an ID without an item.
        returned: (U,) int64, number of beams that hold an ID, existing or not.
        existing: (U,) int64, number of beams that hold an existing ID.
        beam: beam width.

    Raises:
        ValueError: for no users.
    """

    ranks: NDArray[np.int64]
    sid_ranks: NDArray[np.int64]
    lists: list[list[int]]
    returned: NDArray[np.int64]
    existing: NDArray[np.int64]
    beam: int

    def __post_init__(self) -> None:
        if len(self.ranks) == 0:
            raise ValueError("There are no users to evaluate: none has a history and a target.")

    def metrics(self, ks: Sequence[int] = (5, 10)) -> dict[str, float]:
        """Means over users.

        `recall@k` and `ndcg@k` are item-level; with one target per user NDCG is 1 / log2(2 + rank).
        `valid` is the share of returned IDs that exist, `filled` the share of the beams that hold
        an existing ID (a final verifier returns valid IDs only, but fewer of them).
        """
        figures: dict[str, float] = {}
        for k in ks:
            figures[f"recall@{k}"] = float(recall_at(self.ranks, k).mean())
            figures[f"ndcg@{k}"] = float(ndcg_at(self.ranks, k).mean())
            figures[f"sid_recall@{k}"] = float(recall_at(self.sid_ranks, k).mean())
        figures["valid"] = float(self.existing.sum() / max(1, self.returned.sum()))
        figures["filled"] = float(self.existing.mean() / self.beam)
        return figures


def recall_at(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """1 for users whose target is among the first k, else 0: (U,) → (U,).

    >>> recall_at(np.array([0, 3, -1]), k=2)
    array([1., 0., 0.])
    """
    return ((ranks >= 0) & (ranks < k)).astype(np.float64)


def ndcg_at(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """1 / log2(2 + rank) for targets among the first k, else 0: (U,) → (U,).

    >>> ndcg_at(np.array([0, 2, 10, -1]), k=10)
    array([1. , 0.5, 0. , 0. ])
    """
    gains = 1.0 / np.log2(2.0 + np.maximum(ranks, 0))
    return gains * recall_at(ranks, k)


def evaluate(
    decoder: Decoder,
    model: NezhaModel,
    semantic_ids: SemanticIds,
    split: Split,
    beam: int,
    popularity: Sequence[int] | None = None,
    removed: Collection[int] = (),
    batch_size: int = 64,
    progress: bool = False,
) -> Evaluation:
    """Decode every user of the split and rank the target in the list.

    A beam as wide as the catalogue lists every item, so that even an untrained model has recall 1:

    >>> from nezha_lite import NezhaDecoder, make_verifier
    >>> ids = SemanticIds.from_codes([[0, 0], [0, 1], [1, 0]])
    >>> model = NezhaModel.from_preset("tiny", ids, seed=0).eval()
    >>> decoder = NezhaDecoder(model, make_verifier("auto", ids))
    >>> users = Split(users=(0, 1), histories=((0, 1), (2,)), targets=(2, 0))
    >>> evaluate(decoder, model, ids, users, beam=3).metrics(ks=(3,))["recall@3"]
    1.0

    Args:
        popularity: how often each item occurs in training; orders items that share an ID.
        removed: items that left the catalogue after training. A history may still hold them, but
            an ID without items no longer exists.
        batch_size: users per decode.
    """
    ranks, sid_ranks, lists, returned = [], [], [], []
    existing: list[int] = []
    absent = torch.zeros(semantic_ids.n_items, dtype=torch.bool)
    absent[item_set(semantic_ids, removed, "removed")] = True
    starts = range(0, len(split.targets), batch_size)
    for start in tqdm(starts, desc="Evaluating", disable=not progress):
        batch = slice(start, start + batch_size)
        prompts = model.build_prompts(split.histories[batch], semantic_ids)
        keys = decoder.decode(prompts, beam).keys.cpu()  # (B, K)
        items = item_lists(keys, semantic_ids, popularity, absent)
        lists.extend(items)
        n_ids = (keys >= 0).sum(dim=1).tolist()
        returned.extend(n_ids)
        existing.extend(n - row.count(NOT_FOUND) for n, row in zip(n_ids, items, strict=True))
        for row, target in enumerate(split.targets[batch]):
            ranks.append(rank_of(items[row], target))
            sid_ranks.append(rank_of(keys[row].tolist(), int(semantic_ids.keys[target])))
    return Evaluation(
        np.array(ranks), np.array(sid_ranks), lists, np.array(returned), np.array(existing), beam
    )


def evaluate_popularity(dataset: InteractionDataset, split: Split, length: int) -> Evaluation:
    """The simplest baseline: the same `length` most popular items for every user."""
    counts = dataset.popularity()
    ranking = sorted(range(dataset.n_items), key=lambda item: -counts[item])[:length]
    ranks = np.array([rank_of(ranking, target) for target in split.targets])
    full = np.full(len(ranks), len(ranking))
    return Evaluation(ranks, ranks, [ranking] * len(ranks), full, full, length)


def overlap_at(left: Sequence[list[int]], right: Sequence[list[int]], k: int) -> float:
    """Mean share of the first k items that two decoders have in common, user by user.

    >>> overlap_at([[1, 2], [3, 4]], [[2, 1], [5, 4]], k=2)
    0.75

    Raises:
        ValueError: if there are no users, or not the same number of lists.
    """
    if len(left) != len(right) or not left:
        raise ValueError(f"Overlap needs the same users twice, not {len(left)} and {len(right)}.")
    shares = [
        len({*one[:k]} & {*two[:k]} - {NOT_FOUND}) / k for one, two in zip(left, right, strict=True)
    ]
    return float(np.mean(shares))


def rank_of(items: Sequence[int], target: int) -> int:
    """The target's rank in a list of items, 0 for the first, or NOT_FOUND.

    >>> rank_of([7, 4, 9], 4), rank_of([7, 4, 9], 5)
    (1, -1)
    """
    return items.index(target) if target in items else NOT_FOUND
