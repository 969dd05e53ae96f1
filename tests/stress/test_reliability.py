"""Counts of faults: merged by class into one results file, and counted from pytest's reports."""

from pathlib import Path

import pytest

from nezha_lite.common.results import read_results
from tests.helpers.reliability import FILE, Count, Counter, counted, merge_counts


def figures(path: Path) -> dict[str, tuple[float, float]]:
    rows = read_results(path)
    assert all(row.kind == "reliability" for row in rows)
    return {
        row.settings["fault_class"]: (row.metrics["tried"], row.metrics["kept"]) for row in rows
    }


def test_a_class_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "reliability-faults-kept.json"
    merge_counts(path, [Count("b", 3, 3), Count("a", 2, 1)], 1.5)
    assert list(figures(path)) == ["a", "b"]
    merge_counts(path, [Count("a", 5, 5), Count("c", 1, 1)], 2.0)
    assert figures(path) == {"a": (5, 5), "b": (3, 3), "c": (1, 1)}
    assert [row.seconds for row in read_results(path)] == [2.0, 1.5, 2.0]


@pytest.mark.parametrize(("tried", "kept"), [(0, 0), (2, 3), (2, -1)])
def test_counts_that_cannot_be_are_refused(tried: int, kept: int) -> None:
    with pytest.raises(ValueError, match=f"kept is {kept} of {tried} tried"):
        Count("a", tried, kept)
    with pytest.raises(ValueError, match="fault_class is empty"):
        Count("", 1, 1)


def report(when: str = "call", outcome: str = "passed", **properties: object) -> pytest.TestReport:
    return pytest.TestReport(
        "a", ("a", 1, "a"), {}, outcome, None, when, user_properties=[*properties.items()]
    )


def test_reports_are_counted_by_class(tmp_path: Path) -> None:
    file = tmp_path / "reliability-faults-kept.json"
    counter = Counter(file)
    for one in (
        *(report(when, fault_class="probe") for when in ("setup", "call", "teardown")),
        report(outcome="failed", fault_class="probe"),
        report(fault_class="probe", tried=10),
        report(outcome="failed", fault_class="probe", tried=7),
        report(outcome="skipped", fault_class="probe"),
        report(outcome="failed"),
        report(fault_class="other"),
    ):
        counter.pytest_runtest_logreport(one)
    counter.pytest_sessionfinish()
    assert figures(file) == {"other": (1, 1), "probe": (19, 17)}


def test_nothing_is_written_where_nothing_was_tried(tmp_path: Path) -> None:
    counter = Counter(tmp_path / "file.json")
    counter.pytest_runtest_logreport(report())
    counter.pytest_sessionfinish()
    assert not [*tmp_path.iterdir()]


@pytest.mark.data
def test_the_kept_file_holds_no_broken_promise() -> None:
    for row in read_results(FILE):
        assert row.metrics["kept"] == row.metrics["tried"] > 0, row.settings


def test_counts_of_longer_runs_are_added_up_by_class(tmp_path: Path) -> None:
    merge_counts(tmp_path / "one.json", [Count("kills", 20, 20), Count("soak", 5, 5)], 1.0)
    merge_counts(tmp_path / "two.json", [Count("kills", 3, 2)], 1.0)
    found = counted([tmp_path / "one.json", tmp_path / "two.json"])
    assert sorted(found, key=lambda count: count.tried) == [
        Count("soak", 5, 5),
        Count("kills", 23, 22),
    ]


@pytest.mark.data
def test_the_committed_file_holds_every_class_that_was_measured() -> None:
    others = set(FILE.parent.glob("reliability-*.json")) - {FILE}
    assert others
    rows = {row.settings["fault_class"]: row.metrics for row in read_results(FILE)}
    for count in counted(others):
        assert rows[count.fault_class] == {"tried": count.tried, "kept": count.kept}
    assert all(row["kept"] == row["tried"] for row in rows.values())
