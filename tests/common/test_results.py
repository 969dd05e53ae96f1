"""Results files: what is written is what is read, and nonsense is refused with a clear sentence."""

import json
import math
import os
import statistics
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.common import results
from nezha_lite.common.results import ResultRow, over_seeds, provenance, read_results, write_results
from tests.helpers.for_each import for_each

COMMITTED = sorted((Path(__file__).resolve().parents[2] / "data" / "results").glob("*.json"))

ROW = ResultRow(
    kind="quality",
    dataset="sample",
    model={"preset": "tiny", "width": 64, "layers": 2},
    decoder="nezha",
    verifier="prefix",
    beam=20,
    metrics={"recall@10": 0.25, "valid": 1.0},
    std={"recall@10": 0.01},
    per_seed={"recall@10": [0.24, 0.26]},
    seeds=[0, 1],
    settings={"history": 20, "learning_rate": 1e-3},
    device="one CPU",
    versions={"python": "3.11.7"},
    commit="unknown",
    date="2026-11-23T21:55:00+00:00",
    seconds=1.5,
)


def test_one_row_is_one_object_with_every_field(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "quality-sample-decoders.json"
    write_results(path, [ROW])
    content = json.loads(path.read_text(encoding="utf-8"))
    fields = "kind dataset model decoder verifier beam metrics seeds settings device versions"
    assert set(content) == {*fields.split(), "commit", "date", "seconds", "std", "per_seed"}
    assert read_results(path) == [ROW]


def test_a_single_run_has_no_spread_in_its_file(tmp_path: Path) -> None:
    row = replace(ROW, std={}, per_seed={}, seeds=[0], decoder=None, verifier=None, beam=None)
    write_results(tmp_path / "a.json", [row])
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert "std" not in content
    assert "per_seed" not in content
    assert content["beam"] is None
    assert read_results(tmp_path / "a.json") == [row]


def test_several_rows_keep_their_order(tmp_path: Path) -> None:
    rows = [replace(ROW, beam=beam) for beam in (50, 1, 20)]
    write_results(tmp_path / "a.json", rows)
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert list(content) == ["rows"]
    assert read_results(tmp_path / "a.json") == rows


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(metrics=st.dictionaries(st.text(min_size=1), numbers, min_size=1))
def test_numbers_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, metrics: dict[str, float]
) -> None:
    path = tmp_path_factory.mktemp("results") / "a.json"
    row = replace(ROW, metrics=metrics, std={}, per_seed={})
    write_results(path, [row])
    assert read_results(path)[0].metrics == metrics


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "speed"}, "kind is 'speed', but must be one of quality, latency"),
        ({"dataset": ""}, "dataset is '', but must be the name"),
        ({"beam": 0}, "beam is 0, but must be at least 1, or None"),
        ({"metrics": {}}, "metrics is {}, but must be one measured number"),
        (
            {"metrics": {"valid": math.nan}},
            r"metrics\['valid'\] is nan, but must be a finite",
        ),
        ({"metrics": {"valid": True}}, r"metrics\['valid'\] is True"),
        ({"metrics": {"valid": "1"}}, r"metrics\['valid'\] is '1'"),
        ({"seconds": math.inf}, "seconds is inf"),
        (
            {"std": {"ndcg@10": 0.1}},
            "a name in std is 'ndcg@10', but must be one of the",
        ),
        ({"per_seed": {"ndcg@10": [1, 2]}}, "a name in per_seed is 'ndcg@10', but must be"),
        ({"per_seed": {"recall@10": [0.1]}}, r"is \[0.1\], but must be .* the 2 seeds"),
        ({"std": {"recall@10": math.inf}}, r"std\['recall@10'\] is inf"),
        ({"per_seed": {"recall@10": [0.1, math.nan]}}, r"per_seed\['recall@10'\] is nan"),
        ({"date": "yesterday"}, "date is 'yesterday', but must be ISO 8601 such as"),
    ],
)
def test_rows_refuse_nonsense(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ROW, **change)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_results(path, [ROW])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.json cannot be written as JSON"):
        write_results(path, [replace(ROW, settings={"path": tmp_path})])
    with pytest.raises(ValueError, match=r"rows is \[\], but must be at least one"):
        write_results(path, [])

    def full_disk(source: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_results(path, [replace(ROW, beam=1)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "row 1: a row must be an object, this is list"),
        ('{"rows": []}', "must be a list of at least one row"),
        ('{"rows": {}}', "must be a list of at least one row"),
        ('{"rows": [3]}', "row 1: a row must be an object, this is int"),
        ('{"kind": "quality"}', "row 1: the field 'beam' is missing"),
        ('{"kind": 1}', "row 1: kind is 1, but must be str"),
        ('{"kind": "quality", "speed": 1}', "row 1: unknown field 'speed'"),
    ],
)
def test_reading_names_the_file_and_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"broken\.json.*{message}"):
        read_results(path)


def test_reading_checks_the_row_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_results(path, [ROW, ROW])
    content = json.loads(path.read_text(encoding="utf-8"))
    content["rows"][1]["kind"] = "speed"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="row 2: kind is 'speed'"):
        read_results(path)


def test_over_seeds_gives_mean_and_sample_deviation() -> None:
    mean, std, per_seed = over_seeds([{"a": 1, "b": 0.5}, {"b": 0.5, "a": 2}, {"a": 6, "b": 0.5}])
    assert mean == {"a": 3.0, "b": 0.5}
    assert std["a"] == pytest.approx(statistics.stdev([1, 2, 6]))
    assert std["b"] == 0.0
    assert per_seed == {"a": [1.0, 2.0, 6.0], "b": [0.5, 0.5, 0.5]}
    row = replace(ROW, metrics=mean, std=std, per_seed=per_seed, seeds=[0, 1, 2])
    assert row.metrics["a"] == 3.0


def test_one_seed_has_no_spread() -> None:
    assert over_seeds([{"a": 1, "b": 0.5}]) == ({"a": 1, "b": 0.5}, {}, {})


@pytest.mark.parametrize(
    ("per_seed", "message"),
    [
        ([], "must be one mapping per seed"),
        ([{"a": 1.0}, {"b": 1.0}], r"\['b'\], but must be \['a'\]"),
    ],
)
def test_over_seeds_refuses_what_cannot_be_averaged(
    per_seed: list[dict[str, float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        over_seeds(per_seed)


def test_a_measured_row_is_rounded_and_says_where_it_was_made() -> None:
    fields = {name: getattr(ROW, name) for name in ("kind", "dataset", "model", "decoder")}
    metrics = {"median_ms": 1.234567}
    started = time.perf_counter() - 2
    row = ResultRow.measured(device="cpu", started=started, digits=3, metrics=metrics, **fields)
    assert row.metrics == {"median_ms": 1.235}
    assert 2 <= row.seconds < 10
    assert row.device == provenance("cpu")["device"]


def test_provenance_fits_a_row() -> None:
    measured_on = provenance("cpu")
    assert measured_on["device"].endswith(("thread", "threads"))
    assert set(measured_on["versions"]) == {"python", "torch", "transformers", "nezha_lite"}
    assert abs(datetime.now(UTC) - datetime.fromisoformat(measured_on["date"])) < timedelta(
        minutes=1
    )
    fields = {name: getattr(ROW, name) for name in ("kind", "dataset", "model", "metrics")}
    assert ResultRow(**fields, seconds=0.0, **measured_on).commit == measured_on["commit"]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a package, and its first commit."""
    package = tmp_path / "nezha_lite"
    package.mkdir()
    (package / "model.py").write_text("width = 1\n", encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_the_commit_of_a_clean_checkout(checkout: Path) -> None:
    assert results._commit(checkout / "nezha_lite") == git(checkout, "rev-parse", "HEAD")
    (checkout / "new-results.json").write_text("{}", encoding="utf-8")
    assert not results._commit(checkout / "nezha_lite").endswith("+changes")


@pytest.mark.parametrize("name", ["model.py", "new.py"])
def test_a_changed_package_says_so(checkout: Path, name: str) -> None:
    (checkout / "nezha_lite" / name).write_text("width = 2\n", encoding="utf-8")
    head = git(checkout, "rev-parse", "HEAD")
    assert results._commit(checkout / "nezha_lite") == f"{head}+changes"


def test_no_commit_is_borrowed_from_elsewhere(checkout: Path, tmp_path_factory) -> None:
    installed = checkout / "lib" / "site-packages" / "nezha_lite"
    installed.mkdir(parents=True)
    assert results._commit(installed) == "unknown"
    assert results._commit(tmp_path_factory.mktemp("plain") / "nezha_lite") == "unknown"


def test_without_git_the_commit_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert results._commit(checkout / "nezha_lite") == "unknown"


@pytest.mark.data
@for_each({path.name: (path,) for path in COMMITTED})
def test_committed_results_are_named_after_what_they_hold(path: Path) -> None:
    for row in read_results(path):
        assert path.name.startswith(f"{row.kind}-{row.dataset}-")
