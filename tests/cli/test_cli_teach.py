"""`nezha-lite teach`, and `train` with a teacher's lists, item memory and candidate embeddings."""

import re
from pathlib import Path

import polars as pl
import pytest

from nezha_lite.datasets import load_dataset
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.training.teacher_lists import TeacherLists
from tests.helpers.shops import SMALL, Run


def test_lists_are_made_shown_and_learnt(shop: Path, tmp_path: Path, cli: Run) -> None:
    made = cli("teach", shop, tmp_path / "knn", "--teacher", "item-knn", "--list-length", "6")
    assert made.status == 0, made.err
    lists = TeacherLists.load(tmp_path / "knn" / "lists.safetensors")
    number, share = re.match(
        r"([\d,]+) lists of 6 items are in .*; ([\d.]+)% hold", made.out
    ).groups()
    assert int(number.replace(",", "")) == len(lists.items)
    assert 50 < float(share) <= 100  # every user walks on by one item
    assert made.out.count("After '") == 3
    assert "← came next" in made.out
    trained = cli(
        *("train", shop, tmp_path / "run", *SMALL, "--teacher", tmp_path / "knn"),
        *("--item-memory", "--list-length", "4", "--list-weight", "0.5"),
    )
    assert trained.status == 0, trained.err
    model = Recommender.load(tmp_path / "run").model
    assert model.config.item_memory
    assert model.config.list_weight == 0.5
    assert not (tmp_path / "run" / "teacher").exists()
    asked = cli("recommend", tmp_path / "run", shop, "--user", "u1")
    assert asked.status == 0, asked.err
    own = cli(
        *("teach", shop, tmp_path / "own", "--teacher", "own", "--run", tmp_path / "run"),
        *("--list-length", "5"),
    )
    assert own.status == 0, own.err
    assert TeacherLists.load(tmp_path / "own" / "lists.safetensors").items.shape[1] == 5


@pytest.mark.slow
def test_the_strong_recipe_brings_its_own_teacher(shop: Path, tmp_path: Path, cli: Run) -> None:
    answer = cli(
        *("train", shop, tmp_path / "run", *SMALL, "--recipe", "strong"),
        *("--ids", "rq-kmeans", "--list-length", "4"),
    )
    assert answer.status == 0, answer.err
    config = Recommender.load(tmp_path / "run").model.config
    assert config.item_memory
    assert config.candidate_embeddings == 1
    assert (tmp_path / "run" / "teacher" / "sasrec.safetensors").is_file()
    plain = cli(
        *("train", shop, tmp_path / "plain", *SMALL, "--recipe", "strong"),
        *("--ids", "rq-kmeans", "--teacher", "none", "--no-item-memory"),
    )
    assert plain.status == 0, plain.err
    assert not (tmp_path / "plain" / "teacher").exists()
    assert not Recommender.load(tmp_path / "plain").model.config.item_memory


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--teacher", "nobody"],
            "teacher is 'nobody', but must be one of sasrec, item-knn, blend",
        ),
        (["--teacher", "own"], "name its run by --run"),
        (
            ["--list-length", "21", "--teacher", "item-knn"],
            "list length is 21, but must be 1 to 20",
        ),
    ],
)
def test_what_cannot_teach_is_one_sentence(
    shop: Path, tmp_path: Path, cli: Run, options: list[str], sentence: str
) -> None:
    answer = cli("teach", shop, tmp_path / "lists", *options)
    assert answer.status == 2
    assert sentence in answer.err


def test_lists_of_other_prefixes_are_refused(shop: Path, tmp_path: Path, cli: Run) -> None:
    made = cli("teach", shop, tmp_path / "knn", "--teacher", "item-knn", "--max-items", "3")
    assert made.status == 0, made.err
    answer = cli("train", shop, tmp_path / "run", *SMALL, "--teacher", tmp_path / "knn")
    assert answer.status == 2
    assert "teacher's prefixes" in answer.err


def test_a_file_of_scores_is_a_teacher(shop: Path, tmp_path: Path, cli: Run) -> None:
    data = load_dataset(shop)
    first = data.train_sequences()[0]
    names = [data.users[0], data.items[first[0]], data.items[first[1]]]
    frame = pl.DataFrame([[*names, 0.75]], ["user", "after", "item", "score"], orient="row")
    frame.write_parquet(tmp_path / "scores.parquet")
    options = ("--teacher", tmp_path / "scores.parquet", "--list-length", "3")
    made = cli("teach", shop, tmp_path / "lists", *options)
    assert made.status == 0, made.err
    lists = TeacherLists.load(tmp_path / "lists" / "lists.safetensors")
    assert lists.items[0, 0] == first[1]
    trained = cli("train", shop, tmp_path / "run", *SMALL, *options)
    assert trained.status == 0, trained.err
    absent = cli("teach", shop, tmp_path / "none", "--teacher", tmp_path / "absent.parquet")
    assert (absent.status, "absent.parquet" in absent.err) == (2, True)
