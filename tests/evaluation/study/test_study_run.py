"""Working a study off: alone and several at once, interrupted, failing, killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import parameters_to_vector

from nezha_lite.decoding.recommender import Recommender
from nezha_lite.evaluation import Evaluation
from nezha_lite.evaluation.baselines.teachers import BackboneTeacher
from nezha_lite.evaluation.run_folders import load_lists, save_lists
from nezha_lite.evaluation.study import (
    PRESETS,
    VARIANTS,
    Identifiers,
    Report,
    Status,
    StudyConfig,
    run_study,
    status,
)
from nezha_lite.evaluation.study import scheduler as run
from nezha_lite.evaluation.study.job_runner import AGREEMENT_FILE, TRAINED_FILE, Work, study_jobs
from nezha_lite.model import NezhaModel
from nezha_lite.training.packing import training_rows
from nezha_lite.training.teacher_lists import TeacherLists, make_lists
from tests.helpers.logs import logged
from tests.helpers.runs import ROOT
from tests.helpers.studies import CONFIG, DATASET, DONE, FakeWork, all_lists, jobs, one_job, work
from tests.helpers.toys import toy_dataset

pytestmark = [pytest.mark.usefixtures("random_state"), pytest.mark.timeout(600)]
SMALLEST = ("counting", "backbone-only")


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    lists = draw(st.lists(st.lists(st.integers(-1, 2**31 - 1), max_size=6), min_size=1, max_size=5))
    users = len(lists)
    columns = [draw(st.lists(st.integers(-1, 9), min_size=users, max_size=users)) for _ in range(4)]
    ranks, sid_ranks, returned, existing = map(np.array, columns)
    return Evaluation(ranks, sid_ranks, lists, returned, existing, draw(st.integers(1, 512)))


@given(evaluation=evaluations(), about=st.dictionaries(st.text(), st.integers() | st.text()))
def test_lists_come_back(evaluation: Evaluation, about: dict, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "stored" / "lists.safetensors"
    save_lists(path, evaluation, about)
    found = load_lists(path)
    assert (found.evaluation.lists, found.evaluation.beam) == (evaluation.lists, evaluation.beam)
    assert found.about == about
    for name in ("ranks", "sid_ranks", "returned", "existing"):
        array = getattr(found.evaluation, name)
        assert array.dtype == np.int64
        assert array.tolist() == getattr(evaluation, name).tolist()


def test_damaged_lists_are_one_sentence(tmp_path: Path) -> None:
    path, column = tmp_path / "lists.safetensors", np.array([0, -1])
    save_lists(path, Evaluation(column, column, [[1, 2], []], column, column, 10), {"a": 1})
    whole = path.read_bytes()
    swapped = whole.replace(b'"beam"', b'"bean"')
    wrong = whole.replace(b'"beam":"10"', b'"beam":"ten"'[:11] + b'"')
    for content in (b"", whole[:7], whole[:-3], b"\0" * 100, swapped, wrong):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged, delete it to decode again") as damaged:
            load_lists(path)
        assert str(path) in str(damaged.value)
        assert "\n" not in str(damaged.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"seeds": (0, 1, 0)}, r"seeds is \[0, 1, 0\], but must be one or more different numbers"),
        ({"seeds": ()}, r"seeds is \[\]"),
        ({"beam": 9}, r"beam is 9, but must be at least 10, which Recall@10 needs"),
        ({"exact_users": 0}, r"exact_users is 0, but must be a whole number of at least 1"),
        ({"beams": (10, 0)}, r"beams is \[10, 0\], but must be numbers of at least 1"),
        ({"removed": (0.5, 1.0)}, r"removed is \[0.5, 1.0\], but must be shares in \[0, 1\)"),
        ({"preset": "vast"}, r"preset is 'vast', but must be one of \['"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        StudyConfig(**settings)
    assert all(isinstance(config, StudyConfig) for config in PRESETS.values())


def test_the_jobs() -> None:
    found = jobs()
    assert len({(job.name, job.seed) for job in found}) == len(found) == 1 + (1 + len(VARIANTS)) * 2
    assert [job.seed for job in found] == sorted(job.seed for job in found)
    for seed in CONFIG.seeds:
        expected = [job.expected for job in found if job.seed == seed]
        assert expected == sorted(expected, reverse=True)
        assert min(expected) > 0
    with pytest.raises(ValueError, match=r"only names 'nzeha', but the study has counting, sasrec"):
        jobs("sasrec", "nzeha")


def test_status_counts_and_does_nothing(studied: Path, tmp_path: Path) -> None:
    empty = status(DATASET, CONFIG, tmp_path / "new")
    total = len(jobs())
    assert (len(empty.done), len(empty.left)) == (0, total)
    assert not (tmp_path / "new").exists()
    assert empty.sentence(1).startswith(f"0 of {total} jobs done, about ")
    shutil.copytree(studied, tmp_path / "some")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    some = status(DATASET, CONFIG, tmp_path / "some")
    assert {job.name for job in some.left} == set(VARIANTS) - set(DONE)
    assert len(some.done) == 1 + 2 * (len(DONE) - 1)
    assert some.sentence(2).endswith(f"(seed 0) and {len(some.left) - 4} more.")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert status(DATASET, CONFIG, studied, ["sasrec"]).sentence(1) == "All 2 jobs are done."


def test_the_time_left_is_the_work_shared_out_but_no_job_is_split() -> None:
    long, short = (replace(one_job("nezha", 0), expected=seconds) for seconds in (600.0, 60.0))
    assert Status((), (long, short, short)).seconds_left(1) == 720
    assert Status((), (long, short, short)).seconds_left(2) == 600
    assert Status((), (short, short), pace=2.0).seconds_left(2) == 120
    assert "about 12 min left" in Status((), (long, short, short)).sentence(1)


def test_the_same_seed_in_a_fresh_folder_gives_the_same_lists(
    studied: Path, tmp_path: Path
) -> None:
    work(one_job("nezha", 1), tmp_path)
    again = all_lists(tmp_path)
    assert len(again) == 5
    assert again == all_lists(studied, "nezha/seed-1") | again
    assert again == {n: v for n, v in all_lists(studied).items() if n.startswith("nezha/seed-1")}
    first, second = (all_lists(studied, f"nezha/seed-{seed}") for seed in (0, 1))
    assert list(first.values()) != list(second.values()), "seeds matter"


def test_lost_files_are_made_again_and_no_others(studied: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nezha" / "seed-0"
    shutil.copytree(studied / "nezha" / "seed-0", folder)
    trained = (folder / TRAINED_FILE).stat().st_mtime_ns
    kept = (folder / "lists" / "nezha-off.safetensors").stat().st_mtime_ns
    agreement = (folder / AGREEMENT_FILE).read_text()
    (folder / AGREEMENT_FILE).unlink()
    (folder / "lists" / "parallel-heads-prefix.safetensors").unlink()
    work(one_job("nezha", 0), tmp_path)
    assert all_lists(tmp_path) == all_lists(studied, "nezha/seed-0")
    assert (folder / TRAINED_FILE).stat().st_mtime_ns == trained
    assert (folder / "lists" / "nezha-off.safetensors").stat().st_mtime_ns == kept
    assert (folder / AGREEMENT_FILE).read_text().split('"measured')[0] == agreement.split(
        '"measured'
    )[0]


def test_a_training_that_was_interrupted_ends_the_same(
    studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, calls, forward = one_job("backbone-only", 0), [], NezhaModel.forward

    def stopped(self: NezhaModel, *arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 6:  # four steps an epoch
            raise KeyboardInterrupt
        return forward(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(NezhaModel, "forward", stopped)
        with pytest.raises(KeyboardInterrupt):
            work(job, tmp_path)
    folder = job.folder(tmp_path)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["checkpoint-4"]
    assert job.missing(tmp_path) == list(job.files)
    work(job, tmp_path)
    assert all_lists(tmp_path) == all_lists(studied, "backbone-only/seed-0")
    assert not (folder / "checkpoints").exists(), "nothing is left to resume"
    # What it took is not known, so that no row says so.
    costs = list(Report(DATASET, replace(CONFIG, seeds=(0,)), tmp_path).costs())
    assert costs == []


def test_other_settings_or_data_in_the_same_folder_are_refused(
    studied: Path, tmp_path: Path
) -> None:
    shutil.copytree(studied, tmp_path / "study")
    study, said = tmp_path / "study", []
    (study / "nezha" / "seed-1" / AGREEMENT_FILE).unlink()
    longer = replace(CONFIG, training=replace(CONFIG.training, epochs=3))
    before = sorted(study.rglob("*"))
    for config, dataset, only, named in (
        (longer, DATASET, (), "config.training.epochs"),
        (longer, DATASET, ("counting",), "config.training.epochs"),
        (replace(CONFIG, beam=11), DATASET, (), "config.beam"),
        (CONFIG, toy_dataset(users=29), (), "dataset.sha256"),
    ):
        with (
            pytest.raises(ValueError, match="other data or settings") as refused,
            logged(said),
        ):
            run_study(dataset, config, study, only)
        assert f"({named})" in str(refused.value)
        with pytest.raises(ValueError, match="other data or settings"):
            status(dataset, config, study, only)
    with pytest.raises(ValueError, match="workers is 0"), logged(said):
        run_study(DATASET, CONFIG, study, workers=0)
    with pytest.raises(ValueError, match="device is 'abacus', but this machine"), logged(said):
        run_study(DATASET, CONFIG, study, device="abacus")
    assert said == []
    assert sorted(study.rglob("*")) == before
    # Other seeds are the same study, longer.
    new = len(VARIANTS) - (len(DONE) - 2)  # counting and sasrec are no variants
    assert len(status(DATASET, replace(CONFIG, seeds=(0, 1, 2)), study).left) == 1 + 3 * new + 5


@pytest.mark.slow
def test_several_workers_and_one_give_the_same_and_a_failure_stops_no_other(
    studied: Path, tmp_path: Path
) -> None:
    blocked = tmp_path / "backbone-only" / "seed-1"
    blocked.parent.mkdir()
    blocked.write_text("a file where the job's folder should be")
    failure = r"1 of 3 jobs failed \(backbone-only \(seed 1\)\); backbone"
    with logged() as said, pytest.raises(OSError, match=failure):
        run_study(DATASET, CONFIG, tmp_path, SMALLEST, workers=2)
    assert said[0].startswith("0 of 3 jobs done")
    assert len([line for line in said if "backbone-only (seed 1) failed: " in line]) == 1
    assert len(said) == 4
    assert [job.folder(tmp_path) for job in status(DATASET, CONFIG, tmp_path, SMALLEST).left] == [
        blocked
    ]
    blocked.unlink()
    with logged() as said:
        run_study(DATASET, CONFIG, tmp_path, SMALLEST, workers=1)
    assert said[-1].endswith("backbone-only (seed 1) done. All 3 jobs are done.")
    expected = {n: v for n, v in all_lists(studied).items() if n.startswith(SMALLEST)}
    assert all_lists(tmp_path) == expected
    one, other = (
        [row for row in Report(DATASET, CONFIG, study).systems() if row.settings["system"] in named]
        for study, named in (
            (tmp_path, ("item-knn", "backbone-only")),
            (studied, ("item-knn", "backbone-only")),
        )
    )
    assert [row.metrics for row in one] == [row.metrics for row in other]
    with logged() as said:
        run_study(DATASET, CONFIG, tmp_path, SMALLEST)
    assert said[-1] == "All 3 jobs are done.", "and nothing is started"


@pytest.mark.slow
def test_a_job_that_is_killed_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "Work", FakeWork)
    config = replace(CONFIG, seeds=(0,))
    only = ("counting", "sasrec", "head-only")
    errors = (ValueError, OSError)
    with logged() as said, pytest.raises(errors, match=r"2 of 3 jobs failed") as failed:
        run_study(DATASET, config, tmp_path, only, workers=2)
    assert "sasrec (seed 0)" in str(failed.value)
    assert "head-only (seed 0)" in str(failed.value)
    assert [
        line for line in said if line.startswith("sasrec (seed 0) failed: its process was kill")
    ]
    assert [line for line in said if line.startswith("head-only (seed 0) failed: Expecting prop")]
    assert [job.name for job in status(DATASET, config, tmp_path, only).done] == ["counting"]


ORPHANS = """
import sys
from pathlib import Path
from tests.helpers.studies import Sleeper
from nezha_lite.evaluation.study.scheduler import _alone
if __name__ == "__main__":
    _alone(Sleeper(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_a_killed_study_leaves_no_job_behind(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    study = subprocess.Popen(
        [sys.executable, "-c", ORPHANS, str(pid_file)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        wait_until(pid_file.is_file, 300)
        child = int(pid_file.read_text())
        assert alive(child)
    finally:
        study.send_signal(signal.SIGKILL)
        study.wait()
    wait_until(lambda: not alive(child), 60)


def alive(process: int) -> bool:
    """Whether it runs; one that ended and waits to be collected does not."""
    state = Path(f"/proc/{process}/stat")
    if not Path("/proc/self").exists():
        pytest.skip("no /proc to look at")
    try:
        return state.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(holds, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_self_taught_goes_on_from_the_model_whose_backbone_teaches_it(
    studied: Path, tmp_path: Path
) -> None:
    job, config = one_job("self-taught", 1), replace(CONFIG, seeds=(1,))
    with pytest.raises(FileNotFoundError, match="nezha"):
        work(job, tmp_path, config)
    shutil.copytree(studied / "nezha" / "seed-1", tmp_path / "nezha" / "seed-1")
    work(job, tmp_path, config)
    lists = TeacherLists.load(job.folder(tmp_path) / "teacher.safetensors")
    before = Recommender.load(tmp_path / "nezha" / "seed-1")
    teacher = BackboneTeacher(before.model, before.semantic_ids, "the backbone of nezha")
    rows = training_rows(DATASET, CONFIG.training, max_items=6)
    again = make_lists(teacher, rows, tmp_path / "again.safetensors", 4, progress=False)
    assert torch.equal(lists.items, again.items)
    record = json.loads((job.folder(tmp_path) / TRAINED_FILE).read_text())
    assert record["config"]["learning_rate"] == CONFIG.training.learning_rate / 4
    after = Recommender.load(job.folder(tmp_path)).model
    fresh = NezhaModel.from_preset("tiny", before.semantic_ids, seed=1, **CONFIG.settings)
    far, near = (
        torch.dist(parameters_to_vector(model.parameters()), start)
        for start in [parameters_to_vector(before.model.parameters())]
        for model in (fresh, after)
    )
    assert 0 < near < far / 2
    rows = {row.settings["system"] for row in Report(DATASET, config, tmp_path).agreement()}
    assert rows == {"nezha", "self-taught"}


@pytest.mark.slow
def test_a_shop_without_texts_and_with_few_items_is_studied(tmp_path: Path) -> None:
    wordless = replace(DATASET, texts=None)
    config = replace(CONFIG, seeds=(0,), ids=Identifiers(codes=512), beam=10)
    for name in ("counting", "sasrec", "strong"):
        (job,) = study_jobs(wordless, config, [name])
        Work(job, wordless, config, tmp_path).run()
    rows = {row.settings["system"]: row for row in Report(wordless, config, tmp_path).systems()}
    assert {"popularity", "item-knn", "sasrec", "blend", "strong"} <= set(rows)
    assert max(rows["strong"].model["radices"]) <= wordless.n_items
