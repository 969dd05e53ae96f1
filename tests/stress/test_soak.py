"""The soak in small: what it counts, and that it sees what is wrong."""

import itertools
import math
import threading
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from nezha_lite.common.results import read_results
from nezha_lite.decoding.recommender import Recommender
from tests.decoding.test_recommender import recommender
from tests.helpers.shops import Run
from tests.helpers.toys import toy_dataset
from tests.stress import membership, soak
from tests.stress.__main__ import main
from tests.stress.membership import bench_membership
from tests.stress.random_calls import Lists
from tests.stress.soak import bench_soak, summary

RESULTS = Path(__file__).parents[2] / "data" / "results"
DATASET = toy_dataset()
SERIES = {"calls", "changes", "median_ms", "p95_ms", "cpu_median_ms", "cpu_p95_ms", "rss_mib"}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "WARM_UP", 2)
    monkeypatch.setattr(soak, "CAPTURED_EVERY", 3)


@pytest.mark.slow
def test_every_list_is_right_while_items_come_and_go(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nezha_lite")
    running = threading.active_count()
    rows = list(bench_soak(recommender(), DATASET, 3, minute=1.0))
    assert threading.active_count() == running
    assert caplog.messages == []
    assert [row.settings["minutes"] for row in rows] == [1, 2, 3]
    metrics, series = rows[-1].metrics, rows[-1].settings["per_minute"]
    assert metrics["kept"] == metrics["tried"] > sum(series["calls"]) > 0, "captured ones too"
    assert metrics["changes"] == sum(series["changes"]) > 0
    assert set(series) == SERIES | {"load"}
    assert {len(values) for values in series.values()} == {3}
    for name in ("median", "cpu_median"):
        assert 0 < metrics[f"{name}_ms"] <= metrics[f"{name.replace('median', 'p95')}_ms"]
    assert math.isclose(
        metrics["wall_ratio"], series["median_ms"][2] / series["median_ms"][0], abs_tol=1e-4
    )
    slope = (series["rss_mib"][2] - series["rss_mib"][0]) / (2 / 3600)
    assert math.isclose(metrics["rss_slope_mib_per_hour"], slope, abs_tol=0.1)


def test_a_removed_item_in_a_list_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is ever really removed: the recommender only says so.
    def say(self: Recommender, items: Collection[int]) -> None:
        said.update(items)

    said: set[int] = set()
    monkeypatch.setattr(Recommender, "remove_items", say)
    monkeypatch.setattr(Recommender, "removed", property(lambda self: frozenset(said)))
    caplog.set_level("INFO", "nezha_lite")
    (row,) = bench_soak(recommender(), DATASET, 1, minute=1.5)
    assert row.metrics["kept"] < row.metrics["tried"]
    assert any("which it must not" in line for line in caplog.messages)


def test_a_call_that_fails_is_counted_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, number = Recommender.recommend, itertools.count()

    def sometimes(self: Recommender, *arguments: object, **options: object) -> Lists:
        if next(number) % 4 == 3:
            raise RuntimeError("no luck")
        return original(self, *arguments, **options)

    monkeypatch.setattr(Recommender, "recommend", sometimes)
    caplog.set_level("INFO", "nezha_lite")
    (row,) = bench_soak(recommender(), DATASET, 1, minute=1.0)
    assert set(caplog.messages) == {"RuntimeError: no luck"}
    assert row.metrics["tried"] - row.metrics["kept"] <= len(caplog.messages)
    assert row.metrics["kept"] > row.metrics["tried"] // 2


def test_a_captured_decoder_that_misses_a_change_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unchanged(soak.CapturedDecoder):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            verifier = self.decoder.verifier
            assert verifier is not None
            verifier.remove = lambda keys: None

    monkeypatch.setattr(soak, "CapturedDecoder", Unchanged)
    caplog.set_level("INFO", "nezha_lite")
    (row,) = bench_soak(recommender(), DATASET, 1, minute=1.0)
    assert row.metrics["kept"] < row.metrics["tried"]
    assert all(line.startswith("captured: ") for line in caplog.messages)


@pytest.mark.slow
def test_compiled_programs_outlive_the_changes_of_the_catalogue(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compile_ = torch.compile

    def trace(function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        return compile_(function, fullgraph=True, dynamic=False, backend="eager")

    monkeypatch.setattr(torch, "compile", trace)  # no compiler: the graphs run step by step
    caplog.set_level("INFO", "nezha_lite")
    (row,) = bench_soak(recommender(), DATASET, 1, minute=1.5, compile=True)
    assert [line for line in caplog.messages if "torch" not in line] == []
    assert row.metrics["kept"] == row.metrics["tried"] > 0
    assert row.metrics["changes"] > 0
    assert row.metrics["recompilations"] == 0


@pytest.mark.parametrize(("minutes", "threads"), [(0, 2), (5, 0)])
def test_no_minutes_and_no_threads_are_refused(minutes: int, threads: int) -> None:
    with pytest.raises(ValueError, match=f"minutes and threads are {minutes} and {threads}"):
        next(bench_soak(recommender(), DATASET, minutes, threads))


def test_a_system_without_proc_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(soak, "STATM", tmp_path / "statm")
    with pytest.raises(ValueError, match=r"There is no .*statm here"):
        next(bench_soak(recommender(), DATASET))


def test_memory_that_grows_is_seen_as_a_slope() -> None:
    series: dict[str, list[float]] = {name: [1.0] * 8 for name in SERIES}
    series["rss_mib"] = [500, 300, 100, 101, 102, 103, 104, 105]  # the first quarter is warming up
    series["median_ms"] = [2, 2, 9, 9, 9, 9, 3, 3]
    metrics = summary(series, minute=60)
    assert metrics["rss_slope_mib_per_hour"] == 60
    assert (metrics["wall_ratio"], metrics["cpu_ratio"]) == (1.5, 1)
    assert metrics["rss_mib"] == 105


@pytest.mark.data
def test_the_kept_soak_was_an_hour_long_and_flat() -> None:
    row, fresh = read_results(RESULTS / "reliability-sample-soak.json")
    metrics, series = row.metrics, row.settings["per_minute"]
    assert row.settings["minutes"] == len(series["rss_mib"]) == 60
    assert row.settings["threads"] == row.settings["cores"] == 2
    assert metrics["kept"] == metrics["tried"] > 100_000
    assert metrics["changes"] > 50_000
    assert abs(metrics["rss_slope_mib_per_hour"]) < 0.05 * metrics["rss_mib"]
    # CPU time, for what else ran on the machine is not in it.
    assert 0.7 < metrics["cpu_ratio"] < 1.3
    # A process started right after the hour was no faster: what had become slower is the machine.
    assert fresh.settings["minutes"] == 2
    last_quarter = sorted(series["cpu_median_ms"][-15:])[7]
    assert last_quarter < 1.1 * fresh.metrics["cpu_median_ms"]


@pytest.mark.data
def test_the_stored_soak_of_the_captured_decoder_compiled_nothing_and_is_flat() -> None:
    (row,) = read_results(RESULTS / "reliability-sample-soak-captured.json")
    metrics = row.metrics
    assert row.settings["compile"]
    assert row.settings["minutes"] == len(row.settings["per_minute"]["rss_mib"]) > 40
    assert metrics["kept"] == metrics["tried"] > 100_000
    assert metrics["changes"] > 50_000
    assert metrics["recompilations"] == 0
    assert abs(metrics["rss_slope_mib_per_hour"]) < 0.05 * metrics["rss_mib"]


# ---- on the command line ------------------------------------------------------------------------


@pytest.fixture
def stress(cli: Run) -> Run:
    return partial(cli, program=main)


def test_soak_keeps_its_rows_as_they_come(
    trained: Path, shop: Path, tmp_path: Path, stress: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "bench_soak", partial(bench_soak, minute=0.6))
    results = tmp_path / "soak.json"
    options = ["--minutes", 2, "--threads", 1, "--device", "cpu", "--results", results]
    answer = stress("soak", trained, shop, *options)
    assert answer.status == 0, answer.err
    assert answer.err.count(f"Written to {results}.") == 2
    (row,) = read_results(results)
    assert (row.kind, row.dataset, row.settings["minutes"]) == ("reliability", "shop", 2)
    assert f"tried {row.metrics['tried']:,}  kept {row.metrics['tried']:,}" in answer.out


def test_recommend_says_what_each_precision_kept(
    trained: Path, shop: Path, tmp_path: Path, stress: Run
) -> None:
    results = tmp_path / "recommend.json"
    answer = stress(
        *["recommend", trained, shop, "--calls", 40, "--device", "cpu"],
        *["--results", results],
    )
    assert answer.status == 0, answer.err
    rows = read_results(results)
    assert [row.settings["precision"] for row in rows] == ["float32", "bfloat16"]
    assert all(row.metrics["tried"] == row.metrics["kept"] == 40 for row in rows), answer.err
    answer = stress("recommend", trained, shop, "--precision", "float8")
    assert answer.status == 2
    assert "precision is 'float8', but must be float32 or bfloat16" in answer.err


def test_membership_says_what_each_structure_kept(
    tmp_path: Path, stress: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = partial(bench_membership, spaces=((8, 9, 10),))
    monkeypatch.setattr(membership, "bench_membership", small)
    results = tmp_path / "membership.json"
    options = ["--checks", "1e3", "--structure", "bitset", "--ids", 100, "--device", "cpu"]
    answer = stress("membership", *options, "--results", results)
    assert answer.status == 0, answer.err
    rows = read_results(results)
    assert [row.settings["pattern"] for row in rows] == ["random", "clustered", "adversarial"]
    assert all(row.metrics["tried"] == row.metrics["kept"] > 333 for row in rows)
    assert answer.out.count("false_accepts 0  false_rejects 0") == 3
    assert "kind is 'abacus'" in stress("membership", "--structure", "abacus").err
