"""The study as a list of jobs, each of which leaves files in a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nezha_lite.datasets import InteractionDataset
from nezha_lite.evaluation.run_folders import as_json, check_claim, fingerprint
from nezha_lite.evaluation.study.config import VARIANTS, Identifiers, StudyConfig
from nezha_lite.model.config import PRESETS

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
        if variant.closer:
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
