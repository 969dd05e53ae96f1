"""The answers, as rows of a results file, from what the jobs left. Nothing is decoded here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nezha_lite.common.checks import check
from nezha_lite.common.results import ResultRow, over_seeds
from nezha_lite.datasets import InteractionDataset, Sequences, Split
from nezha_lite.evaluation.metrics import Evaluation, ndcg_at, overlap_at, rank_of, recall_at
from nezha_lite.evaluation.run_folders import Stored, as_json, load_lists, read_object
from nezha_lite.evaluation.statistics import Array, bootstrap_interval, difference
from nezha_lite.evaluation.study import job_runner
from nezha_lite.evaluation.study.config import (
    COMPARISONS,
    COUNTED,
    VARIANTS,
    StudyConfig,
    System,
    all_systems,
)
from nezha_lite.evaluation.study.job_runner import TRAINED_FILE
from nezha_lite.training.trainer import WATCHED

INTERVALS = ("recall@10", "ndcg@10", "recall@10_unseen", "ndcg@10_unseen")
# A figure of the rows about learning, and what the Trainer's log calls it.
LEARNING = {
    "validation_ndcg@10": "eval_ndcg@10",
    "valid_unchecked": "eval_valid",
    "backbone_ndcg@10": "eval_backbone_ndcg@10",
}
HISTORY_LENGTHS = ((1, 4), (5, 9), (10, 19), (20, None))

Mask = NDArray[np.bool_]


class Report:
    """Reads a study's folder; every method returns rows for complete systems, and skips the rest.

    Raises:
        ValueError: if a folder holds a run of other data or settings, or a file is damaged.
    """

    def __init__(self, dataset: InteractionDataset, config: StudyConfig, study: str | Path) -> None:
        self.dataset, self.config, self.study = dataset, config, Path(study)
        job_runner.check_study(dataset, config, self.study)
        self.test = dataset.split("test")
        self._stored: dict[System, list[Stored]] = {}
        self._gains: dict[System, list[dict[str, Array]]] = {}

    def rows(self) -> list[ResultRow]:
        """All rows; `settings.part` names the part."""
        return [
            *self.systems(),
            *self.comparisons(),
            *self.by_user_group(),
            *self.agreement(),
            *self.hallucination(),
            *self.learning(),
            *self.costs(),
        ]

    def systems(self) -> Iterator[ResultRow]:
        """Every system's lists on all test users, with intervals over users and runs."""
        for system in filter(self.stored, all_systems()):
            gains = self.gains(system)
            metrics = [
                one.evaluation.metrics((5, 10)) | {key: float(x.mean()) for key, x in own.items()}
                for one, own in zip(self.stored(system), gains, strict=True)
            ]
            bounds: dict[str, float] = {}
            for name in INTERVALS:
                low, high = bootstrap_interval(np.stack([own[name] for own in gains]))
                bounds |= {f"{name}_low": low, f"{name}_high": high}
            training = {"training": as_json(self.config.training)} if system.generative else {}
            yield self._row("systems", system, metrics, training, bounds=bounds)

    def comparisons(self) -> Iterator[ResultRow]:
        """Paired differences of the pairs in COMPARISONS."""
        for question, one, other in COMPARISONS:
            if metrics := self._difference(one, other, slice(None)):
                labels = {"question": question, "against": other.label}
                yield self._row("comparisons", one, [metrics], labels)

    def by_user_group(self) -> Iterator[ResultRow]:
        """Where head and backbone of the same weights differ: kinds of targets and of users."""
        for name in ("nezha", "three-levels"):
            one, other = System(name), System(name, "autoregressive")
            for by, group, users in user_groups(self.dataset, self.test):
                if metrics := self._difference(one, other, users):
                    labels = {"by": by, "stratum": group, "against": other.label}
                    size = {"stratum_users": int(users.sum())}
                    yield self._row("strata", one, [metrics], labels | size)

    def agreement(self) -> Iterator[ResultRow]:
        """How head and backbone of the same weights rank the whole catalogue."""
        for name, records in self._records(job_runner.AGREEMENT_FILE):
            system, users = System(name), records[0]["users"]
            metrics = [record["metrics"] for record in records]
            yield self._row("agreement", system, metrics, records=records, users=users)

    def hallucination(self) -> Iterator[ResultRow]:
        """Share of drafts that exist, by beam width and after the catalogue changed."""
        for name, records in self._records(job_runner.HALLUCINATION_FILE):
            occupancy = float(f"{self._trained(name, 'occupancy')['occupancy']:.3g}")
            for entries in zip(*(record["rows"] for record in records), strict=True):
                first = entries[0]
                yield self._row(
                    "hallucination",
                    System(name, "nezha", first["verifier"]),
                    [entry["metrics"] for entry in entries],
                    {"removed": first["removed"], "occupancy": occupancy},
                    records=records,
                    users=records[0]["users"],
                    beam=first["beam"],
                )

    def learning(self) -> Iterator[ResultRow]:
        """After every epoch: NDCG@10 on validation users, and how many unchecked drafts exist.

        Where head and backbone decode a variant, the backbone's NDCG@10 as well.
        """
        for name, records in self._records(TRAINED_FILE):
            if name not in VARIANTS:
                continue
            logs = [[e for e in record["log"] if "eval_valid" in e] for record in records]
            for entries in zip(*logs, strict=False):
                metrics = [
                    {name: e[logged] for name, logged in LEARNING.items() if logged in e}
                    for e in entries
                ]
                system = System(name, *VARIANTS[name].decoded[0])
                epoch = {"epoch": round(entries[0]["epoch"], 2)}
                users = self.config.validation_users
                yield self._row("learning", system, metrics, epoch, records=records, users=users)

    def costs(self) -> Iterator[ResultRow]:
        """What training took, where it was not interrupted."""
        for name, records in self._records(TRAINED_FILE):
            if not any(record["resumed"] for record in records):
                metrics = [_costs(record) for record in records]
                yield self._row("costs", System(name, "", ""), metrics, records=records)

    def stored(self, system: System) -> list[Stored]:
        """The system's lists of every seed; empty if a seed is missing."""
        if system not in self._stored:
            file = job_runner.lists_file(system.decoder, system.verification)
            paths = self._paths(system.name, file)
            self._stored[system] = [load_lists(path) for path in paths]
        return self._stored[system]

    def gains(self, system: System) -> list[dict[str, Array]]:
        """For every seed, each test user's value of each measure: (U,) by name."""
        if system not in self._gains:
            stored = self.stored(system)
            self._gains[system] = [measures(one.evaluation, self.test) for one in stored]
        return self._gains[system]

    def _difference(self, one: System, other: System, users: Any) -> dict[str, float]:
        """`one` against `other` on some of the test users; empty if one of them is missing."""
        gains = self.gains(one), self.gains(other)
        if not all(gains):
            return {}
        # A counted system has one run, which is compared with every seed of the other.
        runs = range(max(map(len, gains)))
        metrics: dict[str, float] = {}
        for name in INTERVALS:
            left, right = (
                np.stack([side[run % len(side)][name][users] for run in runs]) for side in gains
            )
            metrics |= {name: float(left.mean()), f"{name}_other": float(right.mean())}
            metrics |= {f"{name}_{key}": x for key, x in difference(left, right).items()}
        indices = np.arange(len(self.test))[users]
        lists = [[run.evaluation.lists for run in self.stored(side)] for side in (one, other)]
        shares = []
        for run in runs:
            first, second = ([side[run % len(side)][u] for u in indices] for side in lists)
            shares.append(overlap_at(first, second, 10))
        return metrics | {"overlap@10": float(np.mean(shares))}

    def _paths(self, name: str, file: str) -> list[Path]:
        """A system's file of every seed, in the order of the seeds; empty if one is missing."""
        job, seeds = ("counting", (0,)) if name in COUNTED else (name, self.config.seeds)
        job = "sasrec" if name == "blend" else job  # whose folder has its lists
        folders = [self.study / job / f"seed-{seed}" for seed in seeds]
        needed = (file,) if name in COUNTED else (file, TRAINED_FILE)
        complete = all((folder / one).is_file() for folder in folders for one in needed)
        return [folder / file for folder in folders] if complete else []

    def _records(self, file: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The JSON file of every trained system that has it for all seeds."""
        jobs = job_runner.study_jobs(self.dataset, self.config)
        for name in dict.fromkeys(job.name for job in jobs if job.name != "counting"):
            if paths := self._paths(name, file):
                yield name, [read_object(path) for path in paths]

    def _trained(self, name: str, *needed: str) -> dict[str, Any]:
        """What the training of the first seed stored."""
        path = self.study / name / f"seed-{self.config.seeds[0]}" / TRAINED_FILE
        return read_object(path, *needed)

    def _model(self, name: str) -> dict[str, Any]:
        if name in COUNTED:
            settings = asdict(self.config.knn) if name == "item-knn" else {}
            return {"preset": name, **settings}
        if name in ("sasrec", "blend"):
            trained = self._trained("sasrec", "parameters", "config")
            return {"preset": name, "parameters": trained["parameters"], **trained["config"]}
        return dict(self._trained(name, "model")["model"])

    def _row(
        self,
        part: str,
        system: System,
        metrics: Sequence[Mapping[str, float]],
        settings: Mapping[str, Any] | None = None,
        *,
        records: Sequence[Mapping[str, Any]] | None = None,
        bounds: Mapping[str, float] | None = None,
        users: int | None = None,
        beam: int | None = None,
    ) -> ResultRow:
        """One row; by default on all test users, measured when the system's lists were."""
        records = records or [one.about for one in self.stored(system)]
        mean, std, per_seed = over_seeds(metrics)
        decodes = bool(system.decoder) and system.generative
        says = VARIANTS[system.name].says if system.generative else system.name
        return ResultRow(
            kind="quality",
            dataset=self.dataset.name,
            model=self._model(system.name),
            decoder=system.decoder or None,
            verifier=system.verification if decodes else None,
            beam=(beam or self.config.beam) if decodes else None,
            metrics=_rounded(mean | dict(bounds or {})),
            std=_rounded(std),
            per_seed={name: [_round(x) for x in values] for name, values in per_seed.items()},
            seeds=[] if system.name in COUNTED else list(self.config.seeds),
            settings={
                "part": part,
                "system": system.label,
                **({} if part == "comparisons" else {"says": says}),
                "users": min(users or len(self.test), len(self.test)),
                "split_method": self.dataset.split_method,
                **(settings or {}),
            },
            seconds=round(sum(record["measured_seconds"] for record in records), 1),
            **records[-1]["provenance"],
        )


def _costs(record: Mapping[str, Any]) -> dict[str, float]:
    # SASRec's record has its scores apart.
    scores = record.get("validation_ndcg@10") or [e for e in record["log"] if WATCHED in e]
    return {
        "cpu_seconds_per_epoch": record["cpu_seconds"] / len(scores),
        "seconds_per_epoch": record["seconds"] / len(scores),
        "peak_mib": record["peak_mib"],
        "epochs": float(len(scores)),
        "best_epoch": record["best_epoch"],
    }


def _round(value: float) -> float:
    return float(f"{value:.5g}") if abs(value) >= 1 else round(value, 5)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: _round(value) for name, value in values.items()}


def measures(evaluation: Evaluation, split: Split) -> dict[str, Array]:
    """Each (U,): those named in INTERVALS, and repeated@10, the share of ten that is not new.

    In these data no user takes an item twice, so a place given to an item of the history is lost. A
    service would forbid such items while decoding (`RequestFilter`); here they are removed from the
    stored lists, which treats every system alike. Figures of such lists are called "unseen".
    """
    unseen = without_seen(evaluation, split)
    return {
        "recall@10": recall_at(evaluation.ranks, 10),
        "ndcg@10": ndcg_at(evaluation.ranks, 10),
        "recall@10_unseen": recall_at(unseen.ranks, 10),
        "ndcg@10_unseen": ndcg_at(unseen.ranks, 10),
        "repeated@10": repeated_at(evaluation, split, 10),
    }


def without_seen(evaluation: Evaluation, split: Split) -> Evaluation:
    """The lists without each user's history: later items move up, no place is refilled.

    `ranks` are computed again; `sid_ranks`, `returned` and `existing` stay as they were decoded.

    Raises:
        ValueError: if the split has another number of users.
    """
    users = len(evaluation.lists)
    check(len(split) == users, "number of users of the split", len(split), f"{users}, as of lists")
    seen = map(frozenset, split.histories)
    lists = [
        [item for item in items if item not in history]
        for items, history in zip(evaluation.lists, seen, strict=True)
    ]
    ranks = [rank_of(items, target) for items, target in zip(lists, split.targets, strict=True)]
    return replace(evaluation, lists=lists, ranks=np.array(ranks, dtype=np.int64))


def repeated_at(evaluation: Evaluation, split: Split, k: int) -> Array:
    """Share of the first k places that hold an item of the user's history: (U,)."""
    rows = zip(evaluation.lists, map(frozenset, split.histories), strict=True)
    return np.array([sum(item in seen for item in items[:k]) / k for items, seen in rows])


def user_groups(dataset: InteractionDataset, split: Split) -> Iterator[tuple[str, str, Mask]]:
    """Yield the property that divides the users, the group's name, and its users (U,) bool.

    "target" divides the users into thirds of nearly equal size by how often their target occurs in
    training, so that the tail third has the rarest; "history" by the number of items.
    Groups without users are left out.
    """
    counts = np.array(dataset.popularity())[np.array(split.targets, dtype=np.int64)]  # (U,)
    low, high = np.quantile(counts, [1 / 3, 2 / 3])
    lengths = Sequences.of(split.histories).lengths
    groups: list[tuple[str, str, Mask]] = [
        ("target", f"tail: seen up to {low:.0f} times", counts <= low),
        ("target", f"middle: up to {high:.0f} times", (counts > low) & (counts <= high)),
        ("target", "head: more often", counts > high),
    ]
    for first, last in HISTORY_LENGTHS:
        name = f"{first} to {last} items" if last else f"{first} items or more"
        groups.append(("history", name, (lengths >= first) & (lengths <= (last or np.inf))))
    return (group for group in groups if group[2].any())
