"""A study so small that a job takes a second, and what tests ask of its folder."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from nezha_lite.evaluation.baselines import SasRecConfig
from nezha_lite.evaluation.run_folders import load_lists
from nezha_lite.evaluation.study import VARIANTS, Identifiers, StudyConfig
from nezha_lite.evaluation.study.job_runner import Job, Work, study_jobs
from nezha_lite.training.config import TrainingConfig
from tests.helpers.toys import toy_dataset

DATASET = toy_dataset()
USERS = len(DATASET.split("test"))
# Seeds out of order, so that a row that sorts them is found out.
CONFIG = StudyConfig(
    settings={"dropout": 0.1, "max_items": 6},
    ids=Identifiers(codes=8),
    training=TrainingConfig(epochs=2, batch_rows=8, learning_rate=0.01),
    sasrec=SasRecConfig(width=16, layers=1, epochs=2, batch_users=8, learning_rate=0.01),
    variants=tuple(VARIANTS),
    list_length=4,
    seeds=(1, 0),
    beam=10,
    validation_users=20,
    closer_users=12,
    exact_users=8,
    beams=(10, 12),
    removed=(0.2,),
)
DONE = (
    "counting",
    "sasrec",
    "nezha",
    "backbone-only",
    "three-levels",
    "strong",
)  # what `studied` holds
Lists = dict[str, list[list[int]]]


def jobs(*names: str, config: StudyConfig = CONFIG) -> list[Job]:
    return study_jobs(DATASET, config, names)


def one_job(name: str, seed: int) -> Job:
    return jobs(name, config=replace(CONFIG, seeds=(seed,)))[0]


def work(job: Job, study: Path, config: StudyConfig = CONFIG) -> None:
    """In this process: most tests need no other."""
    Work(job, DATASET, config, study).run()


def all_lists(study: Path, under: str = "") -> Lists:
    """Of every file of lists: users' lists, each behind its target's place; by the path."""
    found = {}
    for path in sorted((study / under).glob("**/*.safetensors")):
        if path.parent.name == "lists":
            one = load_lists(path).evaluation
            ranked = zip(one.ranks.tolist(), one.lists, strict=True)
            found[str(path.relative_to(study))] = [[rank, *items] for rank, items in ranked]
    return found


class FakeWork(Work):
    """A job that ends at once: "sasrec" is killed, two others fail, the rest are done."""

    def run(self) -> float:
        if self.job.name == "sasrec":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.job.name == "head-only":
            json.loads("{")  # whose error cannot be made from a sentence alone
        if self.job.name == "three-levels":
            raise RuntimeError("a defect\nin two lines")
        for name in self.job.files:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("made")
        return 1.0


class Sleeper:
    """A job that says who it is, and does not end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self) -> float:
        self.path.with_suffix(".part").write_text(str(os.getpid()))
        os.replace(self.path.with_suffix(".part"), self.path)
        time.sleep(300)
        return 300.0
