"""The answers, as rows of a results file, from what the jobs left. Nothing is decoded here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nezha_lite.datasets import InteractionDataset
from nezha_lite.evaluation import Evaluation, ndcg_at, overlap_at, recall_at
from nezha_lite.results import ResultRow, over_seeds
from nezha_lite.run_folders import as_json, read_object
from nezha_lite.study.jobs import (
    AGREEMENT_FILE,
    HALLUCINATION_FILE,
    TRAINED_FILE,
    Job,
    lists_file,
    study_jobs,
)
from nezha_lite.study.plan import VARIANTS, StudyConfig
from nezha_lite.study.statistics import difference, interval
from nezha_lite.study.stored import Stored, load_lists
from nezha_lite.study.strata import strata
from nezha_lite.study.systems import COMPARISONS, NOT_GENERATIVE, System, all_systems


class Report:
    """Reads a study's folder; every method returns rows for what is there, and skips the rest."""

    def __init__(self, dataset: InteractionDataset, config: StudyConfig, study: str | Path) -> None:
        self.dataset, self.config, self.study = dataset, config, Path(study)
        self.test = dataset.split("test")
        self._stored: dict[System, list[Stored]] = {}

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
            metrics = [one.evaluation.metrics((5, 10)) for one in stored]
            bounds: dict[str, float] = {}
            for name, gains in MEASURES.items():
                low, high = interval(np.stack([gains(one.evaluation) for one in stored]))
                bounds |= {f"{name}_low": low, f"{name}_high": high}
            rows.append(self._row("systems", system, metrics, stored, extra=bounds))
        return rows

    def comparisons(self) -> list[ResultRow]:
        """Paired differences of the pairs in COMPARISONS."""
        rows = []
        for question, one, other in COMPARISONS:
            left, right = self._paired(one, other)
            if left:
                metrics = self._difference(left, right, slice(None))
                asked = {"question": question, "against": other.label}
                rows.append(self._row("comparisons", one, [metrics], left, settings=asked))
        return rows

    def by_stratum(self) -> list[ResultRow]:
        """Where head and backbone of the same weights differ: kinds of targets and of users."""
        rows = []
        for name in ("nezha", "three-levels"):
            one, other = System(name, "nezha", "prefix"), System(name, "autoregressive", "prefix")
            left, right = self._paired(one, other)
            if not left:
                continue
            for by, stratum, users in strata(self.dataset, self.test):
                metrics = self._difference(left, right, users)
                asked: dict[str, Any] = {"by": by, "stratum": stratum, "against": other.label}
                asked |= {"stratum_users": int(users.sum())}
                rows.append(self._row("strata", one, [metrics], left, settings=asked))
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
                decoder, _ = VARIANTS[name].decoded[0]
                users = self.config.validation_users
                system = System(name, decoder, "off")
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
                epochs = len([entry for entry in one["log"] if "eval_watched" in entry])
                metrics.append(
                    {
                        "cpu_seconds_per_epoch": one["cpu_seconds"] / epochs,
                        "seconds_per_epoch": one["seconds"] / epochs,
                        "peak_mib": one["peak_mib"],
                        "epochs": float(epochs),
                        "best_epoch": one["best_epoch"],
                    }
                )
            rows.append(self._row("costs", System(name, "", ""), metrics, found, kind="training"))
        return rows

    def stored(self, system: System) -> list[Stored]:
        """The system's lists of every seed, or none if a seed is missing."""
        if system not in self._stored:
            name = "counting" if system.name in ("popularity", "item-knn") else system.name
            seeds = (0,) if name == "counting" else self.config.seeds
            file = lists_file(system.decoder, system.verification)
            paths = [self.study / name / f"seed-{seed}" / file for seed in seeds]
            whole = all(path.is_file() for path in paths)
            self._stored[system] = [load_lists(path) for path in paths] if whole else []
        return self._stored[system]

    def _paired(self, one: System, other: System) -> tuple[list[Stored], list[Stored]]:
        left, right = self.stored(one), self.stored(other)
        if not left or not right:
            return [], []
        most = max(len(left), len(right))
        # What is only counted has one run, which every seed of the other is compared with.
        return [(side * most)[:most] for side in (left, right)]  # type: ignore[return-value]

    def _difference(
        self, left: Sequence[Stored], right: Sequence[Stored], users: Any
    ) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, gains in MEASURES.items():
            one, other = (np.stack([gains(s.evaluation)[users] for s in x]) for x in (left, right))
            found = difference(one, other)
            metrics |= {f"{name}": float(one.mean()), f"{name}_other": float(other.mean())}
            metrics |= {f"{name}_{key}": value for key, value in found.items()}
        chosen = np.arange(len(self.test))[users]
        metrics["overlap@10"] = float(
            np.mean(
                [
                    overlap_at(
                        [one.evaluation.lists[user] for user in chosen],
                        [other.evaluation.lists[user] for user in chosen],
                        10,
                    )
                    for one, other in zip(left, right, strict=True)
                ]
            )
        )
        return metrics

    def _json(self, file: str) -> list[tuple[str, list[dict[str, Any]]]]:
        """The file of every system that has it for all seeds."""
        found: dict[str, list[Job]] = {}
        for job in study_jobs(self.dataset, self.config):
            if file in job.files and (job.folder(self.study) / file).is_file():
                found.setdefault(job.name, []).append(job)
        return [
            (name, [read_object(job.folder(self.study) / file) for job in jobs])
            for name, jobs in found.items()
            if len(jobs) == len(self.config.seeds)
        ]

    def _occupancy(self, name: str) -> float:
        path = self.study / name / f"seed-{self.config.seeds[0]}" / TRAINED_FILE
        return float(f"{read_object(path)['occupancy']:.3g}")

    def _model(self, name: str) -> dict[str, Any]:
        if name in ("popularity", "item-knn"):
            settings = asdict(self.config.knn) if name == "item-knn" else {}
            return {"preset": name, **settings}
        path = self.study / name / f"seed-{self.config.seeds[0]}" / TRAINED_FILE
        trained = read_object(path)
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
        kind: str = "quality",
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
            kind=kind,
            dataset=self.dataset.name,
            model=self._model(system.name),
            decoder=system.decoder or None,
            verifier=system.verification if system.decoder and generative else None,
            beam=(beam or self.config.beam) if system.decoder and generative else None,
            metrics=_rounded(mean),
            std=_rounded(std),
            per_seed={name: [_round(x) for x in values] for name, values in per_seed.items()},
            seeds=list(self.config.seeds) if len(found) > 1 else [],
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


MEASURES: Mapping[str, Callable[[Evaluation], NDArray[np.float64]]] = {
    "recall@10": lambda evaluation: recall_at(evaluation.ranks, 10),
    "ndcg@10": lambda evaluation: ndcg_at(evaluation.ranks, 10),
}


def _round(value: float) -> float:
    return float(f"{value:.5g}") if abs(value) >= 1 else round(value, 5)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: _round(value) for name, value in values.items()}
