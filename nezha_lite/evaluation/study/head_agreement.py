"""What users' lists do not show: agreement of the head with the full model, and hallucination."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor

from nezha_lite.datasets import InteractionDataset, Split
from nezha_lite.decoding import ExactDecoder, NezhaDecoder, SpeculativeDecoder
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.evaluation.hallucination import by_beam, by_removal
from nezha_lite.evaluation.study.config import StudyConfig

TOP = 10


def agreement_with_model(
    trained: Recommender, dataset: InteractionDataset, users: Split, config: StudyConfig
) -> dict[str, Any]:
    """How the draft head and the backbone of the same weights order the same catalogue.

    Both score every existing ID, so that no beam search affects the comparison.

    Returns:
        spearman: rank correlation over the whole catalogue, the mean over users;
        overlap@10: share of the ten best that both have in common; overlap_level_l@10: the same
        for their first l codes, as sets;
        top1: share of users for whom both rank the same ID first;
        beam_overlap@10: share of NEZHA's ten best at the study's beam width that are also among the
        ten best without a beam;
        accepted_level_l, for 2 ≤ l < L: strict acceptance, the share of the beams that the
        backbone's search keeps after level l and that the head drafted (see `SpeculativeDecoder`);
        accepted_whole: share of users for whom all of them were drafted.
    """
    model, ids = trained.model, trained.semantic_ids
    exact = {under: ExactDecoder(model, ids, under) for under in ("draft", "backbone")}
    nezha = NezhaDecoder(model, trained.verifier)
    speculative = SpeculativeDecoder(model, trained.verifier)
    sums: dict[str, list[float]] = {}
    prefixes = (*ids.strides[1:], ids.space)  # of l = 1 … L codes; a key modulo it is its prefix
    for start in range(0, len(users), 16):
        prompts = model.build_prompts(users.histories[start : start + 16], ids)
        full = {name: decoder.decode(prompts, ids.n_distinct) for name, decoder in exact.items()}
        keys = {name: ranking.keys.cpu() for name, ranking in full.items()}  # (B, N)
        narrow = nezha.decode(prompts, config.beam).keys.cpu()
        accepted = speculative.decode(prompts, config.beam).accepted
        assert accepted is not None
        for row in range(len(prompts)):
            one, other = keys["draft"][row], keys["backbone"][row]
            sums.setdefault("spearman", []).append(spearman(one, other))
            sums.setdefault("top1", []).append(float(one[0] == other[0]))
            for level, product in enumerate(prefixes, start=1):
                name = f"overlap_level_{level}@{TOP}" if level < ids.levels else f"overlap@{TOP}"
                sums.setdefault(name, []).append(_overlap(one % product, other % product))
            sums.setdefault(f"beam_overlap@{TOP}", []).append(_overlap(narrow[row], one))
            shares = accepted[row, 1:].tolist()  # level 1 needs no draft
            for level, share in enumerate(shares, start=2):
                sums.setdefault(f"accepted_level_{level}", []).append(share)
            if shares:
                sums.setdefault("accepted_whole", []).append(float(min(shares) == 1.0))
    return {
        "users": len(users),
        "metrics": {name: round(float(np.mean(values)), 5) for name, values in sums.items()},
    }


def hallucinations(
    trained: Recommender, dataset: InteractionDataset, users: Split, config: StudyConfig
) -> dict[str, Any]:
    """How many unchecked drafts exist, by beam width and after changes of the catalogue."""
    epochs = float(config.training.epochs)
    rows = [
        *by_beam(trained, dataset, users, config.beams, epochs),
        *by_removal(trained, dataset, users, config.beam, config.removed, epochs),
    ]
    return {
        "users": len(users),
        "rows": [
            {
                "beam": row.beam,
                "verifier": row.verifier,
                "removed": row.settings["removed"],
                "metrics": dict(row.metrics),
            }
            for row in rows
        ],
    }


def spearman(one: Tensor, other: Tensor) -> float:
    """Rank correlation of two orders of the same N different keys: (N,) int64 each, best first."""
    # argsort: for every key, in ascending order of keys, its rank in the list.
    return float(spearmanr(one.argsort(), other.argsort()).statistic) if len(one) > 1 else 1.0


def _overlap(one: Tensor, other: Tensor) -> float:
    """The share of the larger set that the first ten of two lists have in common; -1 is padding.

    A catalogue of fewer than ten IDs leaves padding, and prefixes repeat within a list.
    """
    left, right = ({*keys[:TOP].tolist()} - {-1} for keys in (one, other))
    return len(left & right) / max(len(left), len(right))
