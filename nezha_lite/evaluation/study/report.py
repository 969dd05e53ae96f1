"""The answers, as rows of a results file, from what the jobs left. Nothing is decoded here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nezha_lite.common.results import ResultRow, over_seeds
from nezha_lite.datasets import InteractionDataset
from nezha_lite.evaluation.metrics import overlap_at
from nezha_lite.evaluation.run_folders import as_json, read_object
from nezha_lite.evaluation.statistics import Array, bootstrap_interval, difference
from nezha_lite.evaluation.study.config import VARIANTS, StudyConfig
from nezha_lite.evaluation.study.job_runner import (
    AGREEMENT_FILE,
    HALLUCINATION_FILE,
    TRAINED_FILE,
    Job,
    check_study,
    lists_file,
    study_jobs,
)
from nezha_lite.evaluation.study.list_files import Stored, load_lists
from nezha_lite.evaluation.study.systems import COMPARISONS, NOT_GENERATIVE, System, all_systems
from nezha_lite.evaluation.user_metrics import INTERVALS, measures, strata
from nezha_lite.training.trainer import WATCHED


class Report:
    """Reads a study's folder; every method returns rows for what is there, and skips the rest.

    Raises:
        ValueError: if a folder holds a run of other data or settings, or a file is damaged.
    """

    def __init__(self, dataset: InteractionDataset, config: StudyConfig, study: str | Path) -> None:
        self.dataset, self.config, self.study = dataset, config, Path(study)
        check_study(dataset, config, self.study)
        self.test = dataset.split("test")
        self._stored: dict[System, list[Stored]] = {}
        self._gains: dict[System, list[dict[str, Array]]] = {}

    def rows(self) -> list[ResultRow]:
        """All of them, the part named by `settings.part`."""
        return [
            *self.systems(),
            *self.comparisons(),
            *self.by_stratum(),
            *self.agreement(),
            *self.hallucination(),
            *self.learning(),
            *self.costs(),
        ]

    def systems(self) -> list[ResultRow]:
        """Every way to get lists, on all test users, with its interval over users and runs."""
        rows = []
        for system in all_systems():
            stored = self.stored(system)
            if not stored:
                continue
            gains = self.gains(system)
            metrics = [
                one.evaluation.metrics((5, 10)) | {key: float(x.mean()) for key, x in own.items()}
                for one, own in zip(stored, gains, strict=True)
            ]
            bounds: dict[str, float] = {}
            for name in INTERVALS:
                low, high = bootstrap_interval(np.stack([own[name] for own in gains]))
                bounds |= {f"{name}_low": low, f"{name}_high": high}
            rows.append(self._row("systems", system, metrics, stored, extra=bounds))
        return rows

    def comparisons(self) -> list[ResultRow]:
        """Paired differences of the pairs in COMPARISONS."""
        rows = []
        for question, one, other in COMPARISONS:
            if metrics := self._difference(one, other, slice(None)):
                asked = {"question": question, "against": other.label}
                found = self.stored(one)
                rows.append(self._row("comparisons", one, [metrics], found, settings=asked))
        return rows

    def by_stratum(self) -> list[ResultRow]:
        """Where head and backbone of the same weights differ: kinds of targets and of users."""
        rows = []
        for name in ("nezha", "three-levels"):
            one, other = System(name, "nezha", "prefix"), System(name, "autoregressive", "prefix")
            for by, stratum, users in strata(self.dataset, self.test):
                if not (metrics := self._difference(one, other, users)):
                    break
                asked: dict[str, Any] = {"by": by, "stratum": stratum, "against": other.label}
                asked |= {"stratum_users": int(users.sum())}
                found = self.stored(one)
                rows.append(self._row("strata", one, [metrics], found, settings=asked))
        return rows

    def agreement(self) -> list[ResultRow]:
        """How head and backbone of the same weights rank the whole catalogue."""
        rows = []
        for name, found in self._json(AGREEMENT_FILE):
            metrics: list[dict[str, float]] = [one["metrics"] for one in found]
            system = System(name, "nezha", "prefix")
            rows.append(self._row("agreement", system, metrics, found, few=found[0]["users"]))
        return rows

    def hallucination(self) -> list[ResultRow]:
        """Drafts that exist, by beam width and after the catalogue changed."""
        rows = []
        for name, found in self._json(HALLUCINATION_FILE):
            for index, entry in enumerate(found[0]["rows"]):
                system = System(name, "nezha", entry["verifier"])
                metrics = [one["rows"][index]["metrics"] for one in found]
                asked = {"removed": entry["removed"], "occupancy": self._occupancy(name)}
                row = self._row(
                    "hallucination",
                    system,
                    metrics,
                    found,
                    settings=asked,
                    few=found[0]["users"],
                    beam=entry["beam"],
                )
                rows.append(row)
        return rows

    def learning(self) -> list[ResultRow]:
        """After every epoch: NDCG@10 on validation users, and how many unchecked drafts exist."""
        rows = []
        for name, found in self._json(TRAINED_FILE):
            if name not in VARIANTS:
                continue
            logs = [[e for e in one["log"] if "eval_valid" in e] for one in found]
            for index in range(min(map(len, logs))):
                entries = [log[index] for log in logs]
                metrics = [
                    {"validation_ndcg@10": e["eval_ndcg@10"], "valid_unchecked": e["eval_valid"]}
                    for e in entries
                ]
                asked = {"epoch": round(entries[0]["epoch"], 2)}
                users = self.config.validation_users
                system = System(name, *VARIANTS[name].decoded[0])
                rows.append(
                    self._row("learning", system, metrics, found, settings=asked, few=users)
                )
        return rows

    def costs(self) -> list[ResultRow]:
        """What training took, where it was not interrupted."""
        rows = []
        for name, found in self._json(TRAINED_FILE):
            whole = [one for one in found if not one["resumed"]]
            if len(whole) < len(found):
                continue
            metrics = []
            for one in whole:
                # SASRec's record has its scores apart.
                scores = one.get("validation_ndcg@10") or [e for e in one["log"] if WATCHED in e]
                epochs = len(scores)
                metrics.append(
                    {
                        "cpu_seconds_per_epoch": one["cpu_seconds"] / epochs,
                        "seconds_per_epoch": one["seconds"] / epochs,
                        "peak_mib": one["peak_mib"],
                        "epochs": float(epochs),
                        "best_epoch": one["best_epoch"],
                    }
                )
            rows.append(self._row("costs", System(name, "", ""), metrics, found))
        return rows

    def stored(self, system: System) -> list[Stored]:
        """The system's lists of every seed, or none if a seed is missing."""
        if system not in self._stored:
            name = "counting" if system.name in ("popularity", "item-knn") else system.name
            seeds = (0,) if name == "counting" else self.config.seeds
            file = lists_file(system.decoder, system.verification)
            needed = [file] if name == "counting" else [file, TRAINED_FILE]
            folders = [self.study / name / f"seed-{seed}" for seed in seeds]
            whole = all((folder / one).is_file() for folder in folders for one in needed)
            self._stored[system] = (
                [load_lists(folder / file) for folder in folders] if whole else []
            )
        return self._stored[system]

    def gains(self, system: System) -> list[dict[str, Array]]:
        """For every seed, what each of the test users got of each measure: (U,) by name."""
        if system not in self._gains:
            found = (one.evaluation for one in self.stored(system))
            self._gains[system] = [measures(evaluation, self.test) for evaluation in found]
        return self._gains[system]

    def _difference(self, one: System, other: System, users: Any) -> dict[str, float]:
        """`one` against `other` on some of the test users; empty if one of them is not there."""
        pairs = self.gains(one), self.gains(other)
        most = max(map(len, pairs))
        if not all(pairs):
            return {}
        # What is only counted has one run, which every seed of the other is compared with.
        mine, theirs = ((side * most)[:most] for side in pairs)
        metrics: dict[str, float] = {}
        for name in INTERVALS:
            left, right = (np.stack([own[name][users] for own in side]) for side in (mine, theirs))
            metrics |= {name: float(left.mean()), f"{name}_other": float(right.mean())}
            metrics |= {f"{name}_{key}": x for key, x in difference(left, right).items()}
        chosen = np.arange(len(self.test))[users]
        shares = []
        for index in range(most):
            runs = (self.stored(side) for side in (one, other))
            ours, others = (run[index % len(run)].evaluation.lists for run in runs)
            shares.append(overlap_at([ours[u] for u in chosen], [others[u] for u in chosen], 10))
        return metrics | {"overlap@10": float(np.mean(shares))}

    def _json(self, file: str) -> list[tuple[str, list[dict[str, Any]]]]:
        """The file of every system that has it for all seeds, in the order of the seeds."""
        found: dict[str, list[Job]] = {}
        jobs = study_jobs(self.dataset, self.config)
        for job in sorted(jobs, key=lambda job: self.config.seeds.index(job.seed)):
            needed = {file, TRAINED_FILE}
            if needed <= {*job.files} and not needed & {*job.missing(self.study)}:
                found.setdefault(job.name, []).append(job)
        return [
            (name, [read_object(job.folder(self.study) / file) for job in jobs])
            for name, jobs in found.items()
            if len(jobs) == len(self.config.seeds)
        ]

    def _occupancy(self, name: str) -> float:
        path = self.study / name / f"seed-{self.config.seeds[0]}" / TRAINED_FILE
        return float(f"{read_object(path, 'occupancy')['occupancy']:.3g}")

    def _model(self, name: str) -> dict[str, Any]:
        if name in ("popularity", "item-knn"):
            settings = asdict(self.config.knn) if name == "item-knn" else {}
            return {"preset": name, **settings}
        path = self.study / name / f"seed-{self.config.seeds[0]}" / TRAINED_FILE
        needed = ("parameters", "config") if name == "sasrec" else ("model",)
        trained = read_object(path, *needed)
        if name == "sasrec":
            return {"preset": name, "parameters": trained["parameters"], **trained["config"]}
        return dict(trained["model"])

    def _row(
        self,
        part: str,
        system: System,
        metrics: Sequence[Mapping[str, float]],
        found: Sequence[Stored | Mapping[str, Any]],
        *,
        settings: Mapping[str, Any] | None = None,
        extra: Mapping[str, float] | None = None,
        few: int | None = None,
        beam: int | None = None,
    ) -> ResultRow:
        abouts = [one.about if isinstance(one, Stored) else one for one in found]
        several = len(metrics) > 1
        mean, std, per_seed = over_seeds(metrics) if several else (dict(metrics[0]), {}, {})
        mean |= extra or {}
        generative = system.name not in NOT_GENERATIVE
        says = VARIANTS[system.name].says if generative else system.name
        shared = {} if part == "comparisons" else {"says": says}
        training = as_json(asdict(self.config.training)) if part == "systems" else None
        return ResultRow(
            kind="quality",
            dataset=self.dataset.name,
            model=self._model(system.name),
            decoder=system.decoder or None,
            verifier=system.verification if system.decoder and generative else None,
            beam=(beam or self.config.beam) if system.decoder and generative else None,
            metrics=_rounded(mean),
            std=_rounded(std),
            per_seed={name: [_round(x) for x in values] for name, values in per_seed.items()},
            seeds=[] if system.name in ("popularity", "item-knn") else list(self.config.seeds),
            settings={
                "part": part,
                "system": system.label,
                **shared,
                "users": len(self.test) if few is None else min(few, len(self.test)),
                **(settings or {}),
                **({"training": training} if training and generative else {}),
            },
            seconds=round(sum(about["measured_seconds"] for about in abouts), 1),
            **abouts[-1]["provenance"],
        )


def _round(value: float) -> float:
    return float(f"{value:.5g}") if abs(value) >= 1 else round(value, 5)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: _round(value) for name, value in values.items()}
