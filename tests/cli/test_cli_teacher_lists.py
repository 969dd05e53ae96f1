"""Lists of a teacher that do not fit the training that should learn them."""

from pathlib import Path

import pytest

from tests.helpers.shops import SMALL, Run

TEACH = ("--teacher", "item-knn", "--list-length", "4", "--max-items", "6")


def test_lists_of_other_prefixes_and_longer_ones_are_refused(
    shop: Path, tmp_path: Path, cli: Run
) -> None:
    assert cli("teach", shop, tmp_path / "teacher", *TEACH).status == 0
    learn = ("train", shop, tmp_path / "run", *SMALL[:-2], "--teacher", tmp_path / "teacher")
    for items, length, message in (
        ("5", "3", "teacher's prefixes is 'others', but must be those of this data set"),
        ("6", "5", "list length is 5, but must be 1 to 4, the lists' own"),
    ):
        answer = cli(*learn, "--max-items", items, "--list-length", length)
        assert answer.status == 2
        assert message in answer.err


def test_several_processes_do_not_make_the_same_lists(
    shop: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer = cli("train", shop, tmp_path / "run", *SMALL, "--teacher", "item-knn")
    assert answer.status == 2
    assert "must be a folder written by `nezha-lite teach`, where several processes" in answer.err
    assert not (tmp_path / "run").exists()
