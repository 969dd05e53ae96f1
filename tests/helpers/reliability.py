"""How many faults of each class were tried, and how many kept their promise: one results file.

Several test runs and programs write into it; each replaces its own classes and leaves the others:

    pytest tests/faults --reliability data/results/reliability-faults-kept.json
    python tests/reliability.py     # takes in the counts of the other reliability-*.json beside it
"""

import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # where this file is run by itself

from nezha_lite.common.results import ResultRow, provenance, read_results, write_results

FILE = Path(__file__).parents[2] / "data" / "results" / "reliability-faults-kept.json"


@dataclass(frozen=True)
class Count:
    """Of one class of faults; ValueError if more kept their promise than were tried, or none was.

    Attributes:
        fault_class: what kind of faults, in words that a reader of the file understands.
        tried: how many faults.
        kept: how many of them kept the promise.
    """

    fault_class: str
    tried: int
    kept: int

    def __post_init__(self) -> None:
        if not self.fault_class:
            raise ValueError("fault_class is empty; it must name what was tried")
        if not 0 <= self.kept <= self.tried or not self.tried:
            raise ValueError(f"kept is {self.kept} of {self.tried} tried; none tried is no class")


def merge_counts(path: Path, counts: Iterable[Count], seconds: float) -> list[ResultRow]:
    """Put a row for each class into the file, in place of an older one; rows by class.

    `seconds` is what trying all of `counts` took, and is noted in each of their rows.
    """
    made_by = provenance("cpu")
    rows = {
        count.fault_class: ResultRow(
            kind="reliability",
            dataset="faults",
            model={},
            metrics={"tried": count.tried, "kept": count.kept},
            settings={"fault_class": count.fault_class},
            seconds=round(seconds, 1),
            **made_by,
        )
        for count in counts
    }
    if path.exists():
        old = {str(row.settings["fault_class"]): row for row in read_results(path)}
        rows = old | rows
    merged = [rows[name] for name in sorted(rows)]
    write_results(path, merged)
    return merged


def counted(paths: Iterable[Path]) -> list[Count]:
    """The counts of longer runs, added up by class; those of all verifiers together."""
    tried: dict[str, int] = defaultdict(int)
    kept: dict[str, int] = defaultdict(int)
    for path in paths:
        for row in read_results(path):
            name = str(row.settings["fault_class"]).removesuffix(f", {row.verifier}")
            tried[name] += int(row.metrics["tried"])
            kept[name] += int(row.metrics["kept"])
    return [Count(name, tried[name], kept[name]) for name in tried]


class Counter:
    """A plugin of pytest that adds up the reports of all tests that have a fault class.

    A test that fails breaks one promise, whether in its setup, its call or its teardown.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.started = time.perf_counter()
        self.tried: dict[str, int] = defaultdict(int)
        self.broken: dict[str, int] = defaultdict(int)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        mark = item.get_closest_marker("fault_class")
        if mark is not None:
            item.user_properties.append(("fault_class", mark.args[0]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if report.skipped or "fault_class" not in properties:
            return
        name = properties["fault_class"]
        if report.when == "call":
            self.tried[name] += properties.get("tried", 1)
        if report.failed:
            self.broken[name] += 1

    def pytest_sessionfinish(self) -> None:
        counts = [
            Count(name, tried, max(0, tried - self.broken[name]))
            for name, tried in self.tried.items()
        ]
        if counts:
            merge_counts(self.file, counts, time.perf_counter() - self.started)


if __name__ == "__main__":
    merge_counts(FILE, counted(set(FILE.parent.glob("reliability-*.json")) - {FILE}), seconds=0)
