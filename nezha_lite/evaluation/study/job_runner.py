"""The jobs of a study: each trains, decodes the test users and stores their lists in a folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from nezha_lite.common.memory import out_of_memory, peak_memory
from nezha_lite.common.results import provenance
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import AutoregressiveDecoder, NezhaDecoder, ParallelHeadsDecoder
from nezha_lite.decoding.beam_search import BeamSearchDecoder
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.evaluation.baselines import ItemKnn, evaluate_scorer, train_sasrec
from nezha_lite.evaluation.metrics import evaluate, evaluate_popularity, ndcg_at
from nezha_lite.evaluation.run_folders import (
    as_json,
    check_claim,
    claim,
    fingerprint,
    write_object,
)
from nezha_lite.evaluation.study.config import VARIANTS, Identifiers, StudyConfig
from nezha_lite.evaluation.study.head_agreement import agreement_with_model, hallucinations
from nezha_lite.evaluation.study.list_files import save_lists
from nezha_lite.model import NezhaModel
from nezha_lite.model.config import PRESETS
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer, TokenizerConfig, default_vectors, named
from nezha_lite.training import train
from nezha_lite.verifiers import make_verifier

Kind = Literal["counting", "sasrec", "variant"]

LISTS = "lists"  # the folder of a job in which users' lists lie
TRAINED_FILE = "trained.json"
AGREEMENT_FILE = "agreement.json"
HALLUCINATION_FILE = "hallucination.json"


@dataclass(frozen=True)
class Job:
    """A piece of work that can run beside the others, and goes on where it was interrupted.

    Attributes:
        kind: what does it.
        name: "popularity", "sasrec", or a variant; with the seed the job's folder.
        seed: of the run.
        files: what it leaves in its folder.
        expected: CPU seconds that it may take on an ordinary core, before anything is measured.
    """

    kind: Kind
    name: str
    seed: int
    files: tuple[str, ...]
    expected: float

    def folder(self, study: Path) -> Path:
        """Where the job's files lie."""
        return study / self.name / f"seed-{self.seed}"

    def missing(self, study: Path) -> list[str]:
        """The files that are still to be made."""
        return [name for name in self.files if not (self.folder(study) / name).is_file()]


def lists_file(decoder: str, verification: str) -> str:
    """Where a job keeps what a decoder gave to the test users."""
    return f"{LISTS}/{decoder}-{verification}.safetensors"


def identifiers(config: StudyConfig, variant: str) -> Identifiers:
    """How a variant names items."""
    return replace(config.ids, **VARIANTS[variant].ids)


def asked_settings(job: Job, config: StudyConfig) -> dict[str, Any]:
    """The settings that decide this job's figures, and no others: JSON."""
    everything: dict[str, Any] = as_json(asdict(config))
    del everything["seeds"]
    others = {"counting": "knn", "sasrec": "sasrec"}
    if job.kind in others:
        return {key: everything[key] for key in (others[job.kind], "beam")}
    kept = {key: value for key, value in everything.items() if key not in others.values()}
    return kept | {
        "settings": {**config.settings, **VARIANTS[job.name].settings},
        "ids": asdict(identifiers(config, job.name)),
    }


def check_study(dataset: InteractionDataset, config: StudyConfig, study: Path) -> None:
    """Make sure that no folder of the study was filled from other data or with other settings.

    Raises:
        ValueError: naming the first such folder, and what differs.
    """
    data = fingerprint(dataset)
    for job in study_jobs(dataset, config):
        check_claim(job.folder(study), {"dataset": data, "config": asked_settings(job, config)})


def study_jobs(
    dataset: InteractionDataset, config: StudyConfig, only: Sequence[str] = ()
) -> list[Job]:
    """All jobs, the longest first within a seed, so that workers end together.

    Args:
        only: names of systems, such as "nezha" or "sasrec"; by default all.

    Raises:
        ValueError: for a name that is no system of the study.
    """
    known = ["counting", "sasrec", *VARIANTS]
    if wrong := sorted(set(only) - set(known)):
        raise ValueError(f"only names {wrong[0]!r}, but the study has {', '.join(known)}.")
    targets = sum(max(0, len(sequence) - 1) for sequence in dataset.train_sequences())
    users = len(dataset.split("test"))
    shape = PRESETS[config.preset]
    size = (shape["hidden_size"] / 64) * (shape["num_hidden_layers"] / 2)  # tiny is 1
    jobs = []
    for name, variant in VARIANTS.items():
        levels = identifiers(config, name).levels
        training = config.training.epochs * targets * (levels + 1) * 4.5e-5 * size
        decoding = users * levels * 1e-3 * size * len(variant.decoded)
        files = [TRAINED_FILE, *(lists_file(*how) for how in variant.decoded)]
        if variant.head_agreement:
            files += [AGREEMENT_FILE, HALLUCINATION_FILE]
            decoding += (config.closer_users * 0.1 + config.exact_users * levels**2 * 0.1) * size
        for seed in config.seeds:
            jobs.append(Job("variant", name, seed, tuple(files), training + decoding))
    files = [TRAINED_FILE, lists_file("sasrec", "items")]
    softmax = config.sasrec.epochs * targets * dataset.n_items * config.sasrec.width * 2.5e-10
    for seed in config.seeds:
        jobs.append(Job("sasrec", "sasrec", seed, tuple(files), softmax))
    files = [lists_file("popularity", "items"), lists_file("item-knn", "items")]
    jobs.append(Job("counting", "counting", 0, tuple(files), 20 + users * 1e-3))
    chosen = [job for job in jobs if not only or job.name in only]
    return sorted(chosen, key=lambda job: (job.seed, -job.expected))


DECODERS: Mapping[str, type[BeamSearchDecoder]] = {
    "nezha": NezhaDecoder,
    "autoregressive": AutoregressiveDecoder,
    "parallel-heads": ParallelHeadsDecoder,
}
# What a job's memory depends on most.
LOWER: Mapping[str, str] = {
    "counting": "beam",
    "sasrec": "sasrec.batch_users or sasrec.width",
    "variant": "training.batch_rows, beam or exact_users",
}


@dataclass(frozen=True)
class Work:
    """A job of a study, with all it needs.

    Attributes:
        study: the study's folder; the job's own lies in it.
        device: where trained models decode, see `Recommender.load`; training takes the best device.
        progress: show bars.
    """

    job: Job
    dataset: InteractionDataset
    config: StudyConfig
    study: Path
    device: str = "cpu"
    progress: bool = False

    def run(self) -> float:
        """Make what is missing of the job's files, and return the seconds that took.

        Raises:
            ValueError: if the job's folder holds a run of other data or settings.
            MemoryError: naming what to lower.
        """
        started = time.perf_counter()
        claim(self.folder, {"dataset": fingerprint(self.dataset), "config": self.asked})
        do = {"counting": self._count, "sasrec": self._sasrec, "variant": self._variant}
        try:
            do[self.job.kind]()
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise MemoryError(
                f"memory ran out; use fewer workers, or a smaller {LOWER[self.job.kind]} in the "
                "study's configuration"
            ) from error
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)  # nothing left to resume
        return time.perf_counter() - started

    @property
    def folder(self) -> Path:
        """The job's own."""
        return self.job.folder(self.study)

    @property
    def asked(self) -> dict[str, Any]:
        """See `asked_settings`."""
        return asked_settings(self.job, self.config)

    def _missing(self, name: str) -> bool:
        return not (self.folder / name).is_file()

    def _count(self) -> None:
        test, length = self.dataset.split("test"), min(self.config.beam, self.dataset.n_items)
        popularity, nearest = (lists_file(name, "items") for name in ("popularity", "item-knn"))
        if self._missing(popularity):
            started = time.perf_counter()
            measured = evaluate_popularity(self.dataset, test, length)
            save_lists(self.folder / popularity, measured, _about(started, "cpu"))
        if self._missing(nearest):
            started = time.perf_counter()
            sequences = self.dataset.train_sequences()
            knn = ItemKnn(sequences, self.dataset.n_items, self.config.knn)
            measured = evaluate_scorer(knn, test, length, progress=self.progress)
            save_lists(self.folder / nearest, measured, _about(started, "cpu"))

    def _sasrec(self) -> None:
        if not self.job.missing(self.study):
            return
        started = time.perf_counter()
        settings = replace(self.config.sasrec, seed=self.job.seed)
        model, record = train_sasrec(self.dataset, self.folder, settings, self.progress)
        place = next(model.parameters()).device
        about = {**record, "peak_mib": _peak_mib(place), **_about(started, place)}
        write_object(self.folder / TRAINED_FILE, about)
        test, length = self.dataset.split("test"), min(self.config.beam, self.dataset.n_items)
        measured = evaluate_scorer(model, test, length, progress=self.progress)
        path = self.folder / lists_file("sasrec", "items")
        save_lists(path, measured, _about(started, place))

    def _variant(self) -> None:
        if self._missing(TRAINED_FILE):
            self._train()
        if not self.job.missing(self.study):
            return
        trained = Recommender.load(self.folder, self.device)
        test = self.dataset.split("test")
        for decoder, verification in VARIANTS[self.job.name].decoded:
            if self._missing(name := lists_file(decoder, verification)):
                started = time.perf_counter()
                measured = evaluate(
                    DECODERS[decoder](trained.model, trained.verifier, verification),
                    trained.model,
                    trained.semantic_ids,
                    test,
                    self.config.beam,
                    self.dataset.popularity(),
                    progress=self.progress,
                )
                save_lists(self.folder / name, measured, _about(started, trained.model.device))
        for name, look, users in (
            (AGREEMENT_FILE, agreement_with_model, self.config.exact_users),
            (HALLUCINATION_FILE, hallucinations, self.config.closer_users),
        ):
            if name in self.job.files and self._missing(name):
                started = time.perf_counter()
                few = test.sample(min(users, len(test)), seed=0)
                found = look(trained, self.dataset, few, self.config)
                about = _about(started, trained.model.device)
                write_object(self.folder / name, {**found, **about})

    def _train(self) -> None:
        started = time.perf_counter()
        semantic_ids = self._semantic_ids()
        settings = {**self.config.settings, **VARIANTS[self.job.name].settings}
        model = NezhaModel.from_preset(
            self.config.preset, semantic_ids, seed=self.job.seed, **settings
        )
        record = train(
            model,
            semantic_ids,
            self.dataset,
            self.folder,
            replace(self.config.training, seed=self.job.seed),
            resume=True,
            progress=self.progress,
            score=lambda: self._validated(model, semantic_ids),
        )
        trained = {
            "model": model.describe(),
            "occupancy": semantic_ids.occupancy,
            "collision_rate": semantic_ids.collision_rate,
            **record,
            "peak_mib": _peak_mib(model.device),
            **_about(started, model.device),
        }
        write_object(self.folder / TRAINED_FILE, trained)

    def _validated(self, model: NezhaModel, semantic_ids: SemanticIds) -> dict[str, float]:
        """NDCG@10 first, which decides; then how many unchecked drafts exist, to watch it learn."""
        validation = self.dataset.split("validation")
        few = validation.sample(min(self.config.validation_users, len(validation)), seed=0)
        make = DECODERS[VARIANTS[self.job.name].decoded[0][0]]
        checked = make(model, make_verifier("auto", semantic_ids, model.device))
        ranked = evaluate(checked, model, semantic_ids, few, self.config.beam)
        unchecked = make(model, None, "off")
        drafts = evaluate(unchecked, model, semantic_ids, few, self.config.beam)
        return {
            "ndcg@10": float(ndcg_at(ranked.ranks, 10).mean()),
            "valid": drafts.metrics()["valid"],
        }

    def _semantic_ids(self) -> SemanticIds:
        asked = identifiers(self.config, self.job.name)
        shape = TokenizerConfig(
            levels=asked.levels,
            codes=asked.codes,
            vectors=default_vectors(self.dataset),
            collisions=asked.collisions,
            seed=self.job.seed,
        )
        tokenizer = ItemTokenizer(named(asked.tokenizer, shape))
        return tokenizer.fit(self.dataset, self.progress).semantic_ids


def _peak_mib(device: torch.device) -> float:
    return round((peak_memory(device) or 0) / 2**20, 1)


def _about(started: float, device: str | torch.device) -> dict[str, Any]:
    return {
        "measured_seconds": round(time.perf_counter() - started, 1),
        "provenance": provenance(device),
    }
