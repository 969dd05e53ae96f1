"""How often does an unchecked decoder return semantic IDs that no item has?

It depends on the beam width, the length of the training, and the changes of the catalogue since.
The rows compare the verification modes on the same users and weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nezha_lite.common.checks import check
from nezha_lite.common.results import ResultRow
from nezha_lite.datasets import InteractionDataset, Split
from nezha_lite.decoding import VERIFICATIONS, NezhaDecoder
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.evaluation.metrics import evaluate, recall_at
from nezha_lite.evaluation.run_folders import read_object
from nezha_lite.training import read_training_record
from nezha_lite.verifiers import SortedVerifier


def by_beam(
    trained: Recommender,
    dataset: InteractionDataset,
    split: Split,
    beams: Sequence[int],
    epochs: float,
) -> Iterator[ResultRow]:
    """Hallucinations by beam width: a row per beam and verification mode.

    Args:
        epochs: of the model's training, stored in the rows. Checkpoints of several ages show the
            effect of training.
    """
    for beam in beams:
        yield from _measure(trained, dataset, split, beam, (), {"epochs": epochs, "removed": 0.0})


def by_removal(
    trained: Recommender,
    dataset: InteractionDataset,
    split: Split,
    beam: int,
    shares: Sequence[float],
    epochs: float,
    seed: int = 0,
) -> Iterator[ResultRow]:
    """Hallucinations after a random share of the items has left the catalogue since training.

    Only users whose target is still there are scored, so recall compares like with like.
    """
    order = np.random.default_rng(seed).permutation(dataset.n_items)
    for share in shares:
        check(0 <= share < 1, "removed", share, "a share in [0, 1)")
        removed = frozenset(order[: round(share * dataset.n_items)].tolist())
        settings = {"epochs": epochs, "removed": share, "removal_seed": seed}
        yield from _measure(trained, dataset, split, beam, removed, settings)


def epochs_trained(folder: str | Path) -> float:
    """How many epochs the model in a trained folder, or in a checkpoint of a run, has seen.

    Raises FileNotFoundError if nothing there tells, ValueError if what tells is damaged.
    """
    state = Path(folder) / "trainer_state.json"
    if state.is_file():
        epoch = read_object(state).get("epoch")
        if isinstance(epoch, bool) or not isinstance(epoch, int | float):
            raise ValueError(f"{state}: epoch is {epoch!r:.40}, but must be a number.")
        return float(epoch)
    return float(read_training_record(folder)["config"]["epochs"])


def _measure(
    trained: Recommender,
    dataset: InteractionDataset,
    split: Split,
    beam: int,
    removed: Sequence[int] | frozenset[int],
    settings: dict[str, float],
) -> Iterator[ResultRow]:
    remaining, _ = trained.semantic_ids.without(removed)
    verifier = SortedVerifier(remaining, trained.model.device)
    popularity = dataset.popularity()
    present = np.array([target not in removed for target in split.targets])
    for verification in VERIFICATIONS:
        started = time.perf_counter()
        decoder = NezhaDecoder(trained.model, verifier, verification)
        evaluation = evaluate(
            decoder, trained.model, trained.semantic_ids, split, beam, popularity, removed
        )
        figures = evaluation.metrics((10,))
        yield ResultRow.measured(
            device=trained.model.device,
            started=started,
            kind="quality",
            dataset=dataset.name,
            model=trained.model.describe(),
            decoder="nezha",
            verifier=verification,
            beam=beam,
            metrics={
                "valid": figures["valid"],
                "filled": figures["filled"],
                "recall@10": float(recall_at(evaluation.ranks[present], 10).mean()),
            },
            settings={**settings, "users": len(split.targets), "scored_users": int(present.sum())},
        )
