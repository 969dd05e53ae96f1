"""Which tokenizer should I use? The same model and budget on each, judged by what is recommended.

Quality figures of the IDs alone cannot answer that: a tokenizer may keep neighbours together and
still name items so that the model confuses them. So each one's IDs train the same backbone for the
same number of epochs, and the lists are scored by items, over the whole catalogue.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nezha_lite.common.checks import Checked, CountOrZero, check
from nezha_lite.common.results import ResultRow, over_seeds, provenance
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import NezhaDecoder
from nezha_lite.evaluation.metrics import EvaluatedBeam, evaluate
from nezha_lite.evaluation.run_folders import (
    as_json,
    check_claim,
    claim,
    fingerprint,
    read_object,
    write_object,
)
from nezha_lite.evaluation.tokenizer_report import fitted_ids
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids.quantizers import QUANTIZERS
from nezha_lite.semantic_ids.tokenizer import TOKENIZERS, TokenizerConfig, default_vectors
from nezha_lite.semantic_ids.vectors.item_vectors import VectorConfig
from nezha_lite.training import TrainingConfig, train
from nezha_lite.verifiers import SortedVerifier

MEASURED_FILE = "measured.json"


def contenders(dataset: InteractionDataset) -> dict[str, TokenizerConfig | None]:
    """What can be compared on this data set: its own released IDs (None), and TOKENIZERS.

    Without texts all vectors are behaviour, so the names that say so add nothing.
    """
    released = {} if dataset.released_codes is None else {"released": None}
    vectors = default_vectors(dataset)
    if vectors == VectorConfig():
        return {**released, **TOKENIZERS}
    return released | {name: replace(TOKENIZERS[name], vectors=vectors) for name in QUANTIZERS}


@dataclass(frozen=True)
class Budget(Checked):
    """What every tokenizer's model gets: the same backbone, training and decoding.

    Attributes:
        preset: backbone, one of `config.PRESETS`.
        dropout: of the model.
        training: how it is trained; its seed is replaced by each run's.
        beam: beam width of the decoder, with the verifier on every prefix.
        users: how many test users are scored, drawn once for all; 0 takes all.
    """

    preset: str = "tiny"
    dropout: float = 0.1
    training: TrainingConfig = field(default_factory=TrainingConfig)
    beam: EvaluatedBeam = 20
    users: CountOrZero = 0


def compare_tokenizers(
    dataset: InteractionDataset,
    tokenizers: Mapping[str, TokenizerConfig | None],
    seeds: Sequence[int],
    output: str | Path,
    budget: Budget | None = None,
    progress: bool = False,
) -> Iterator[ResultRow]:
    """Train and score one model for each tokenizer and seed; a row per tokenizer, as it is done.

    A run's folder is `output/<tokenizer>/seed-<seed>`. One that was measured with the same settings
    is read instead of run again, and an interrupted training goes on from its last checkpoint, so
    the same call finishes what was stopped.

    Args:
        tokenizers: by name, such as `contenders`; None stands for the IDs released with the data
            set, where only the model's seed varies. Elsewhere the seed is the quantizer's too.
        progress: show bars.

    Raises:
        ValueError: if there are no seeds, or a folder holds a run of other settings.
    """
    different = len(seeds) == len(set(seeds)) > 0
    check(different, "seeds", list(seeds), "one or more different numbers")
    budget = budget or Budget()
    for name, config in tokenizers.items():
        folder = Path(output) / name
        runs = [_measure(dataset, config, seed, folder, budget, progress) for seed in seeds]
        # An interrupted run does not know its training time, so the row leaves it out.
        shared = set.intersection(*(set(run["figures"]) for run in runs))
        figures = [{k: v for k, v in run["figures"].items() if k in shared} for run in runs]
        metrics, std, per_seed = over_seeds(figures)
        yield ResultRow(
            kind="tokenizer",
            dataset=dataset.name,
            model=runs[0]["model"],
            decoder="nezha",
            verifier="prefix",
            beam=budget.beam,
            metrics={key: round(value, 5) for key, value in metrics.items()},
            std={key: round(value, 5) for key, value in std.items()},
            per_seed=per_seed,
            seeds=list(seeds),
            settings={
                "tokenizer": name,
                "config": as_json(config),
                "radices": [run["radices"] for run in runs],
                "users": runs[0]["users"],
                "training": as_json(budget.training),
            },
            seconds=round(sum(run["seconds"] for run in runs), 1),
            **runs[-1]["provenance"],
        )


def _measure(
    dataset: InteractionDataset,
    config: TokenizerConfig | None,
    seed: int,
    tokenizer_folder: Path,
    budget: Budget,
    progress: bool,
) -> dict[str, Any]:
    """One tokenizer and seed: its figures, from the run's folder where they are there already."""
    folder = tokenizer_folder / f"seed-{seed}"
    training = replace(budget.training, seed=seed)
    config = replace(config, seed=seed) if config else None
    asked = {
        "dataset": fingerprint(dataset),
        "tokenizer": config,
        "budget": replace(budget, training=training),
    }
    check_claim(folder, asked)
    if (folder / MEASURED_FILE).is_file():
        return read_object(folder / MEASURED_FILE)
    started = time.perf_counter()
    _, plain, semantic_ids = fitted_ids(dataset, config, progress)
    model = NezhaModel.from_preset(budget.preset, semantic_ids, seed=seed, dropout=budget.dropout)
    claim(folder, asked)
    record = train(model, semantic_ids, dataset, folder, training, resume=True, progress=progress)
    split = dataset.split("test")
    split = split.sample(min(budget.users, len(split)), seed=0) if budget.users else split
    decoder = NezhaDecoder(model, SortedVerifier(semantic_ids, model.device))
    scored = evaluate(
        decoder, model, semantic_ids, split, budget.beam, dataset.popularity(), progress=progress
    )
    figures = {
        **scored.metrics(),
        "collision_rate_before": plain.collision_rate,
        "collision_rate": semantic_ids.collision_rate,
        "codebook_use": min(plain.codebook_use()),
    }
    if not record["resumed"]:  # after a resumption the record knows only the time since
        figures["training_seconds"] = record["seconds"]
        figures["training_cpu_seconds"] = record["cpu_seconds"]
    measured = {
        "figures": {key: round(value, 5) for key, value in figures.items()},
        "model": model.describe(),
        "radices": list(semantic_ids.radices),
        "users": len(split),
        "seconds": round(time.perf_counter() - started, 1),
        "provenance": provenance(model.device),
    }
    write_object(folder / MEASURED_FILE, measured)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # nothing is left to resume
    return measured
