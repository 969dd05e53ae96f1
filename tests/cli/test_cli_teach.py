"""A teacher's lists, made and learnt through the command line."""

from pathlib import Path

import pytest

from nezha_lite.training.teacher_lists import TeacherLists
from tests.helpers.shops import SMALL, Run

TEACH = ("--teacher", "item-knn", "--list-length", "4", "--max-items", "6")


def test_lists_are_made_shown_and_learnt(shop: Path, tmp_path: Path, cli: Run) -> None:
    folder, run = tmp_path / "teacher", tmp_path / "run"
    answer = cli("teach", shop, folder, *TEACH, "--show", "2")
    assert answer.status == 0
    lists = TeacherLists.load(folder / "lists.safetensors")
    assert f"{len(lists.items):,} lists of 4 items are in" in answer.out
    assert answer.out.count("After ") == 2
    learn = ("train", shop, run, *SMALL[:-2], "--teacher", folder)
    for items, length, message in (
        ("5", "3", "teacher's prefixes is 'others', but must be those of this data set"),
        ("6", "5", "list length is 5, but must be 1 to 4, the lists' own"),
    ):
        answer = cli(*learn, "--max-items", items, "--list-length", length)
        assert answer.status == 2
        assert message in answer.err
    answer = cli(*learn, "--max-items", "6", "--list-length", "3", "--item-memory")
    assert answer.status == 0
    assert (run / "model.safetensors").is_file()


def test_teachers_that_cannot_be_asked(
    shop: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = cli("teach", shop, tmp_path / "own", "--teacher", "own")
    assert answer.status == 2
    assert "name its run by --run" in answer.err
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer = cli("train", shop, tmp_path / "run", *SMALL, "--teacher", "item-knn")
    assert answer.status == 2
    assert "must be a folder written by `nezha-lite teach`, where several processes" in answer.err
    assert not (tmp_path / "run").exists()
