"""The jobs of a study: each trains, decodes the test users and stores their lists in a folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from nezha_lite.common.memory import out_of_memory, peak_memory
from nezha_lite.common.results import provenance
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import AutoregressiveDecoder, NezhaDecoder, ParallelHeadsDecoder
from nezha_lite.decoding.beam_search import BeamSearchDecoder
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.evaluation.baselines import ItemKnn, ItemScorer, evaluate_scorer, train_sasrec
from nezha_lite.evaluation.baselines.teachers import BackboneTeacher, Blend, make_teacher
from nezha_lite.evaluation.metrics import Evaluation, evaluate, evaluate_popularity, ndcg_at
from nezha_lite.evaluation.run_folders import (
    as_json,
    check_claim,
    claim,
    fingerprint,
    save_lists,
    write_object,
)
from nezha_lite.evaluation.study.config import (
    BACKBONE,
    COUNTED,
    HEAD,
    VARIANTS,
    Identifiers,
    StudyConfig,
)
from nezha_lite.evaluation.study.head_agreement import agreement_with_model, hallucinations
from nezha_lite.model import NezhaModel
from nezha_lite.model.config import PRESETS
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer, TokenizerConfig, default_vectors, named
from nezha_lite.training import train
from nezha_lite.training.packing import training_rows
from nezha_lite.training.teacher_lists import Teacher, TeacherLists, make_lists
from nezha_lite.verifiers import make_verifier

LISTS = "lists"  # the folder of a job in which users' lists lie
TRAINED_FILE = "trained.json"
AGREEMENT_FILE = "agreement.json"
HALLUCINATION_FILE = "hallucination.json"


@dataclass(frozen=True)
class Job:
    """A part of a study that can run beside the others and resumes where it was interrupted.

    Attributes:
        name: "counting", "sasrec", or a variant; with the seed the job's folder.
        seed: of the run.
        files: what it makes in its folder.
        expected: CPU seconds that it takes, roughly, on an ordinary core.
    """

    name: str
    seed: int
    files: tuple[str, ...]
    expected: float

    @property
    def taught(self) -> bool:
        """Whether it needs a teacher, which the baselines' jobs of the same seed leave."""
        return self.name in VARIANTS and bool(VARIANTS[self.name].teacher)

    def __str__(self) -> str:
        return f"{self.name} (seed {self.seed})"

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
    settings: dict[str, Any] = as_json(config)
    del settings["seeds"], settings["variants"]
    if job.name == "sasrec":
        return {key: settings[key] for key in ("sasrec", "knn", "beam")}
    if job.name == "counting":
        return {key: settings[key] for key in ("knn", "beam")}
    others = () if job.taught else ("knn", "sasrec", "list_length")
    return {key: value for key, value in settings.items() if key not in others} | {
        "settings": {**config.settings, **VARIANTS[job.name].settings},
        "ids": asdict(identifiers(config, job.name)),
    }


def check_study(dataset: InteractionDataset, config: StudyConfig, study: Path) -> None:
    """Raise ValueError, naming what differs, if a folder holds a run of other data or settings."""
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
    systems = ["counting", "sasrec", *config.variants]
    if unknown := sorted(set(only) - set(systems)):
        raise ValueError(f"only names {unknown[0]!r}, but the study has {', '.join(systems)}.")
    targets = int((dataset.train_sequences().lengths - 1).clip(0).sum())
    users = len(dataset.split("test"))
    counted = tuple(lists_file(name, "items") for name in COUNTED)
    jobs = [Job("counting", 0, counted, 20 + users * 1e-3)]
    ranked = (TRAINED_FILE, lists_file("sasrec", "items"), lists_file("blend", "items"))
    softmax = config.sasrec.epochs * targets * dataset.n_items * config.sasrec.width * 2.5e-10
    jobs += [Job("sasrec", seed, ranked, softmax) for seed in config.seeds]
    for name in config.variants:
        variant = VARIANTS[name]
        files = [TRAINED_FILE, *(lists_file(*how) for how in variant.decoded)]
        files += [AGREEMENT_FILE, HALLUCINATION_FILE] if variant.head_agreement else []
        expected = _expected(config, name, targets, users)
        jobs += [Job(name, seed, tuple(files), expected) for seed in config.seeds]
    selected = [job for job in jobs if not only or job.name in only]
    return sorted(selected, key=lambda job: (job.seed, -job.expected))


def _expected(config: StudyConfig, name: str, targets: int, users: int) -> float:
    """CPU seconds of a variant: training, decoding, and where asked for, agreement."""
    variant, levels = VARIANTS[name], identifiers(config, name).levels
    shape = PRESETS[config.preset]
    size = (shape["hidden_size"] / 64) * (shape["num_hidden_layers"] / 2)  # tiny is 1
    training = config.training.epochs * targets * (levels + 1) * 4.5e-5
    training *= 2 if variant.teacher else 1
    decoding = users * levels * 1e-3 * len(variant.decoded)
    agreement = config.closer_users * 0.1 + config.exact_users * levels**2 * 0.1
    return (training + decoding + agreement * variant.head_agreement) * size


DECODERS: Mapping[str, type[BeamSearchDecoder]] = {
    "nezha": NezhaDecoder,
    "autoregressive": AutoregressiveDecoder,
    "parallel-heads": ParallelHeadsDecoder,
}
# What a job's memory depends on most: of the baselines, and of a variant.
LOWER: Mapping[str, str] = {"counting": "beam", "sasrec": "sasrec.batch_users or sasrec.width"}
LOWER_VARIANT = "training.batch_rows, beam or exact_users"


@dataclass(frozen=True)
class Work:
    """A job of a study, with all it needs.

    Attributes:
        study: the study's folder; the job's own lies in it.
        device: where trained models decode, see `Recommender.load`; training uses the best device.
    """

    job: Job
    dataset: InteractionDataset
    config: StudyConfig
    study: Path
    device: str = "cpu"

    def run(self) -> float:
        """Make the job's missing files, and return the seconds that this took.

        Raises:
            ValueError: if the job's folder holds a run of other data or settings.
            MemoryError: naming what to lower.
        """
        started = time.perf_counter()
        asked = asked_settings(self.job, self.config)
        claim(self.folder, {"dataset": fingerprint(self.dataset), "config": asked})
        steps = {"counting": self._count, "sasrec": self._sasrec}
        try:
            steps.get(self.job.name, self._variant)()
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            smaller = LOWER.get(self.job.name, LOWER_VARIANT)
            raise MemoryError(
                f"memory ran out; use fewer workers, or a smaller {smaller} in the study's "
                "configuration"
            ) from error
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)  # nothing left to resume
        return time.perf_counter() - started

    @property
    def folder(self) -> Path:
        """The job's own."""
        return self.job.folder(self.study)

    def _missing(self, name: str) -> bool:
        return not (self.folder / name).is_file()

    def _count(self) -> None:
        data = self.dataset
        evaluations: dict[str, Callable[[], Evaluation]] = {
            "popularity": lambda: evaluate_popularity(data, data.split("test"), self._length),
            "item-knn": lambda: self._ranked(
                ItemKnn(data.train_sequences(), data.n_items, self.config.knn)
            ),
        }
        for name in COUNTED:
            self._save(lists_file(name, "items"), "cpu", evaluations[name])

    @property
    def _length(self) -> int:
        return min(self.config.beam, self.dataset.n_items)

    def _ranked(self, scorer: ItemScorer) -> Evaluation:
        test = self.dataset.split("test")
        return evaluate_scorer(scorer, test, self._length)

    def _save(
        self, name: str, device: str | torch.device, measure: Callable[[], Evaluation]
    ) -> None:
        """Measure and store a decoder's lists, unless they are stored already."""
        if self._missing(name):
            started = time.perf_counter()
            evaluation = measure()
            save_lists(self.folder / name, evaluation, _about(started, device))

    def _sasrec(self) -> None:
        if not self.job.missing(self.study):
            return
        started = time.perf_counter()
        settings = replace(self.config.sasrec, seed=self.job.seed)
        model, record = train_sasrec(self.dataset, self.folder, settings)
        device = next(model.parameters()).device
        write_object(self.folder / TRAINED_FILE, {**record, **_about_training(started, device)})
        self._save(lists_file("sasrec", "items"), device, lambda: self._ranked(model))
        knn = ItemKnn(self.dataset.train_sequences(), self.dataset.n_items, self.config.knn)
        self._save(lists_file("blend", "items"), device, lambda: self._ranked(Blend(model, knn)))

    def _variant(self) -> None:
        if self._missing(TRAINED_FILE):
            self._train()
        if not self.job.missing(self.study):
            return
        trained = Recommender.load(self.folder, self.device)
        test, popularity = self.dataset.split("test"), self.dataset.popularity()
        model, ids, device = trained.model, trained.semantic_ids, trained.model.device
        for decoder, verification in VARIANTS[self.job.name].decoded:
            decode = partial(evaluate, DECODERS[decoder](model, trained.verifier, verification))
            measure = partial(decode, model, ids, test, self.config.beam, popularity)
            self._save(lists_file(decoder, verification), device, measure)
        for name, compare, users in (
            (AGREEMENT_FILE, agreement_with_model, self.config.exact_users),
            (HALLUCINATION_FILE, hallucinations, self.config.closer_users),
        ):
            if name in self.job.files and self._missing(name):
                started = time.perf_counter()
                sample = test.sample(min(users, len(test)), seed=0)
                figures = compare(trained, self.dataset, sample, self.config)
                write_object(self.folder / name, {**figures, **_about(started, device)})

    def _train(self) -> None:
        started = time.perf_counter()
        semantic_ids = self._semantic_ids()
        training = replace(self.config.training, seed=self.job.seed)
        if self._own_teacher:
            model = self._own_teacher.model
            training = replace(training, learning_rate=training.learning_rate / 4)
        else:
            settings = {**self.config.settings, **VARIANTS[self.job.name].settings}
            model = NezhaModel.from_preset(
                self.config.preset, semantic_ids, seed=self.job.seed, **settings
            )
        record = train(
            model,
            semantic_ids,
            self.dataset,
            self.folder,
            training,
            resume=True,
            progress=False,
            score=lambda: self._validated(model, semantic_ids),
            lists=self._lists(model.config.max_items),
        )
        trained = {
            "model": model.describe(),
            "occupancy": semantic_ids.occupancy,
            "collision_rate": semantic_ids.collision_rate,
            **record,
            **_about_training(started, model.device),
        }
        write_object(self.folder / TRAINED_FILE, trained)

    @cached_property
    def _own_teacher(self) -> Recommender | None:
        """The trained variant that teaches this one, if one does."""
        name = VARIANTS[self.job.name].teacher
        if name not in VARIANTS:
            return None
        return Recommender.load(self.study / name / f"seed-{self.job.seed}")

    def _lists(self, max_items: int) -> TeacherLists | None:
        """The teacher's, made once and kept in the job's folder."""
        if not (name := VARIANTS[self.job.name].teacher):
            return None
        teacher: Teacher
        if own := self._own_teacher:
            teacher = BackboneTeacher(own.model, own.semantic_ids, f"the backbone of {name}")
        else:
            sasrec = self.study / "sasrec" / f"seed-{self.job.seed}"
            teacher = make_teacher(name, self.dataset, sasrec, self.config.sasrec, self.config.knn)
        rows = training_rows(self.dataset, self.config.training, max_items)
        path = self.folder / "teacher.safetensors"
        return make_lists(teacher, rows, path, self.config.list_length, progress=False)

    def _validated(self, model: NezhaModel, semantic_ids: SemanticIds) -> dict[str, float]:
        """NDCG@10, which decides the best epoch, and the share of unchecked drafts that exist.

        For a variant that both head and backbone decode, the backbone's NDCG@10 as well.
        """
        validation = self.dataset.split("validation")
        users = validation.sample(min(self.config.validation_users, len(validation)), seed=0)
        verifier = make_verifier("auto", semantic_ids, model.device)
        decoded = VARIANTS[self.job.name].decoded

        def lists(name: str, *verification: Any) -> Evaluation:
            decoder = DECODERS[name](model, *verification)
            return evaluate(decoder, model, semantic_ids, users, self.config.beam)

        figures = {
            "ndcg@10": float(ndcg_at(lists(decoded[0][0], verifier).ranks, 10).mean()),
            "valid": lists(decoded[0][0], None, "off").metrics()["valid"],
        }
        if {HEAD, BACKBONE} <= set(decoded):
            ranks = lists(BACKBONE[0], verifier).ranks
            figures["backbone_ndcg@10"] = float(ndcg_at(ranks, 10).mean())
        return figures

    def _semantic_ids(self) -> SemanticIds:
        ids = identifiers(self.config, self.job.name)
        shape = TokenizerConfig(
            levels=ids.levels,
            codes=min(ids.codes, self.dataset.n_items),
            vectors=default_vectors(self.dataset),
            collisions=ids.collisions,
            seed=self.job.seed,
        )
        tokenizer_config = named(ids.tokenizer, shape)
        if "tfidf" not in shape.vectors.sources:  # there are no texts
            tokenizer_config = replace(tokenizer_config, vectors=shape.vectors)
        tokenizer = ItemTokenizer(tokenizer_config)
        return tokenizer.fit(self.dataset).semantic_ids


def _about_training(started: float, device: torch.device) -> dict[str, Any]:
    peak = round((peak_memory(device) or 0) / 2**20, 1)
    return {"peak_mib": peak, **_about(started, device)}


def _about(started: float, device: str | torch.device) -> dict[str, Any]:
    seconds = round(time.perf_counter() - started, 1)
    return {"measured_seconds": seconds, "provenance": provenance(device)}
