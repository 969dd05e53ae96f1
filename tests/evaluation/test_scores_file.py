"""A teacher's scores from a Parquet file."""

from pathlib import Path

import polars as pl
import pytest
import torch

from nezha_lite.evaluation.baselines.scores_file import ScoresFileTeacher
from nezha_lite.training.packing import TrainingRows
from nezha_lite.training.teacher_lists import make_lists
from tests.helpers.toys import toy_dataset

DATA = toy_dataset()


def write(path: Path, rows: list[tuple[int, int, int, float]]) -> Path:
    """Rows of (user, after, item, score), by index."""
    users, items = DATA.users, DATA.items
    named = [(users[user], items[after], items[item], score) for user, after, item, score in rows]
    frame = pl.DataFrame(named, schema=["user", "after", "item", "score"], orient="row")
    frame.write_parquet(path)
    return path


def test_lists_are_those_of_the_file_best_first(tmp_path: Path) -> None:
    file = write(
        tmp_path / "scores.parquet",
        [(1, 2, 5, 0.1), (0, 2, 7, 0.5), (0, 2, 3, 0.25), (0, 2, 2, 1.0), (0, 4, 6, 2.0)],
    )
    teacher = ScoresFileTeacher(file, DATA)
    users, histories = [0, 0, 1, 1], [(1, 2), (2, 4), (0, 2), (9,)]
    items, weights = teacher.lists(users, histories, 2, unseen=False)
    assert items.tolist() == [[2, 7], [6, 0], [5, 0], [0, 0]]
    torch.testing.assert_close(weights, torch.tensor([[1, 0.5], [2, 0], [0.1, 0], [0, 0]]))
    items, weights = teacher.lists(users[:1], histories[:1], 3, unseen=True)
    assert items.tolist() == [[7, 3, 0]]  # item 2 is in the history
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.25, 0]]))


def test_a_prefix_without_scores_learns_the_true_item_alone(tmp_path: Path) -> None:
    rows = TrainingRows(DATA.train_sequences(), max_items=5)
    first = DATA.train_sequences()[0]
    file = write(tmp_path / "scores.parquet", [(0, first[0], 3, 0.2), (0, first[0], 1, 0.6)])
    teacher = ScoresFileTeacher(file, DATA)
    lists = make_lists(teacher, rows, tmp_path / "l.safetensors", 3, unseen=False, progress=False)
    scored = [
        number
        for number, (user, history) in enumerate(rows.prefixes())
        if user == 0 and history[-1] == first[0]
    ]
    assert 0 in scored
    for number, target in enumerate(rows.next_items):
        if number in scored:
            assert lists.items[number, :2].tolist() == [1, 3]
            torch.testing.assert_close(lists.weights[number], torch.tensor([0.75, 0.25, 0]))
        else:
            assert lists.items[number, 0] == target
            assert lists.weights[number].tolist() == [1, 0, 0]


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    with pytest.raises(FileNotFoundError, match=r"There is no file .*scores\.parquet"):
        ScoresFileTeacher(file, DATA)
    file.write_text("user,after,item,score\n")
    with pytest.raises(ValueError, match=r"scores\.parquet cannot be read as Parquet"):
        ScoresFileTeacher(file, DATA)
    pl.DataFrame({"user": [DATA.users[0]], "item": [DATA.items[0]]}).write_parquet(file)
    with pytest.raises(ValueError, match=r"columns of .* with user, after, item, score"):
        ScoresFileTeacher(file, DATA)
    for bad in (float("nan"), -0.5, float("inf")):
        write(file, [(0, 0, 0, 1.0), (0, 0, 1, bad)])
        with pytest.raises(ValueError, match=f"score of row 1 is {bad}, but must be a number"):
            ScoresFileTeacher(file, DATA)
    frame = {"user": DATA.users[:1] * 2, "after": DATA.items[:2], "item": ["x", "y"]}
    pl.DataFrame({**frame, "score": [1, 2]}).write_parquet(file)
    with pytest.raises(ValueError, match="first of 2 unknown items is 'x'"):
        ScoresFileTeacher(file, DATA)
