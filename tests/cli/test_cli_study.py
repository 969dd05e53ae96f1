"""`nezha-lite study`: what it prints and writes, and one sentence for bad input."""

from dataclasses import replace
from pathlib import Path

import pytest

import nezha_lite.evaluation.study
from nezha_lite.common.results import read_results
from nezha_lite.datasets import load_dataset
from nezha_lite.evaluation.study.job_runner import Work, study_jobs
from tests.cli.test_cli_errors import refused
from tests.helpers.shops import Run
from tests.helpers.studies import CONFIG, FakeWork

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nezha_lite.evaluation.study, "PRESETS", {"quick": CONFIG, "wide": replace(CONFIG, beam=12)}
    )


def count(shop: Path, study: Path) -> None:
    dataset = load_dataset(str(shop))
    Work(study_jobs(dataset, CONFIG, ["counting"])[0], dataset, CONFIG, study).run()


@pytest.mark.slow
def test_a_table_and_a_file(shop: Path, tmp_path: Path, cli: Run) -> None:
    study, results = tmp_path / "study", tmp_path / "new" / "study.json"
    asked = ("study", shop, study, "--only", "counting", "--workers", 1, "--results", results)
    first = cli(*asked)
    assert first.status == 0
    begun, ended = first.err.splitlines()
    assert begun.startswith("0 of 1 jobs done")
    assert ended.endswith("counting (seed 0) done. All 1 jobs are done.")
    lines = first.out.splitlines()
    rows = read_results(results)
    shown = [row for row in rows if row.settings["part"] == "systems"]
    assert [row.settings["system"] for row in shown] == ["popularity", "item-knn"]
    for line, row in zip(lines[:2], shown, strict=True):
        assert line.split()[0] == row.settings["system"]
        assert f"recall@10 {row.metrics['recall@10']:.4f}" in line
        assert f"ndcg@10 {row.metrics['ndcg@10']:.4f}" in line
    assert lines[2:] == [f"Written to {results}."]
    again = cli(*asked)
    assert (again.err, again.out) == ("All 1 jobs are done.\n", first.out)
    assert read_results(results) == rows


def test_status_says_what_is_left(shop: Path, tmp_path: Path, cli: Run) -> None:
    study, results = tmp_path / "study", tmp_path / "study.json"
    asked = ("study", shop, study, "--status", "--workers", 2)
    answer = cli(*asked, "--results", results)
    assert answer.out.startswith("0 of 31 jobs done, about ")
    assert not study.exists()
    assert not results.exists()
    count(shop, study)
    assert cli(*asked).out.startswith("1 of 31 jobs done, about ")
    assert cli(*asked, "--seed", 5).out.startswith("1 of 16 jobs done, about ")
    assert cli(*asked, "--only", "counting").out == "All 1 jobs are done.\n"
    assert cli(*asked, "--only", "sasrec", "--seed", 3, "--seed", 2).out.startswith("0 of 2 jobs")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preset", "vast"), ("preset is 'vast'", "['quick', 'wide']")),
        (("--only", "nzeha"), ("only names 'nzeha'", "counting", "backbone-only")),
        (("--seed", 1, "--seed", 1), ("seeds is [1, 1]", "different")),
        (("--workers", -1), ("workers is -1",)),
        (("--device", "abacus"), ("device is 'abacus'",)),
    ],
)
def test_bad_options_are_one_sentence(
    options: tuple[object, ...], words: tuple[str, ...], shop: Path, tmp_path: Path, cli: Run
) -> None:
    study = tmp_path / "study"
    assert refused(cli("study", shop, study, *options), *words)
    assert not study.exists()


@pytest.mark.slow
def test_a_job_that_fails_is_one_sentence_whatever_it_fails_with(
    shop: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nezha_lite.evaluation.study.scheduler, "Work", FakeWork)
    asked = ("study", shop, tmp_path / "study", "--workers", 1, "--seed", 0)
    for name, reason in (
        ("three-levels", "RuntimeError: a defect in two lines"),
        ("head-only", "Expecting property name"),
        ("sasrec", "its process was killed, perhaps because memory ran out"),
    ):
        answer = cli(*asked, "--only", name)
        assert answer.status == 2
        *progress, error = answer.err.splitlines()
        failed = f"1 of 1 jobs failed ({name} (seed 0)); {name}: {reason}"
        assert error.startswith(f"nezha-lite: {failed}")
        assert len(progress) == 2


def test_bad_places_are_one_sentence(shop: Path, tmp_path: Path, cli: Run) -> None:
    study = tmp_path / "study"
    unknown = "neither a folder nor one of the data sets sample, beauty"
    assert refused(cli("study", "bueaty", study), "'bueaty'", unknown)
    count(shop, study)
    only = ("--only", "counting")
    answer = cli("study", shop, study, "--preset", "wide", *only)
    assert refused(answer, str(study), "other data or settings (config.beam)")
    assert refused(cli("study", shop, study, "--preset", "wide", "--status"), "(config.beam)")
    lists = study / "counting" / "seed-0" / "lists" / "item-knn-items.safetensors"
    lists.write_bytes(b"")
    answer = cli("study", shop, study, *only)
    progress, error = answer.err.splitlines()
    assert (answer.status, progress) == (2, "All 1 jobs are done.")
    assert f"{lists} is damaged, delete it to decode again" in error
    (tmp_path / "file").write_text("")
    assert cli("study", shop, tmp_path / "file", *only).status == 2


def test_a_study_of_nothing_finished_is_refused_by_its_data(tmp_path: Path, cli: Run) -> None:
    (tmp_path / "empty").mkdir()
    assert refused(cli("study", tmp_path / "empty", tmp_path / "study"), "empty.inter.json")
