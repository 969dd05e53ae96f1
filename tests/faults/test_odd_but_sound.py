"""What looks like a fault and is none: it is read, and works."""

import random
from pathlib import Path

import pytest

from nezha_lite.datasets import InteractionDataset, load_folder, read_tables
from tests.faults.data_folders import write
from tests.helpers.shops import SMALL, Run, write_dataset
from tests.helpers.toys import toy_dataset

pytestmark = pytest.mark.fault_class("data: odd, but sound")


@pytest.mark.slow
def test_users_with_no_one_and_ten_thousand_items(tmp_path: Path, cli: Run) -> None:
    draw = random.Random(2)
    many = [draw.randint(1, 3) for _ in range(10_000)]
    inter = {"none": [], "one": [2], "two": [3, 1], "many": many, "again": [2] * 6}
    shop = write(tmp_path, inter=inter, index=None)
    found = load_folder(shop)
    assert [len(sequence) for sequence in found.sequences] == [0, 1, 2, 10_000, 6]
    assert len(found.split("test")) == 2
    answer = cli("train", shop, tmp_path / "run", *SMALL)
    assert answer.status == 0, answer.err
    for user in inter:
        answer = cli("recommend", tmp_path / "run", shop, "--user", user, "-k", "3")
        assert answer.status == 0, answer.err
        assert len(answer.out.split("Recommended:\n")[1].splitlines()) == 3


@pytest.mark.filterwarnings("ignore::nezha_lite.semantic_ids.tokenizer.CollapseWarning")
def test_one_item(tmp_path: Path, cli: Run) -> None:
    shop = write(tmp_path, inter={"ann": [1, 1, 1, 1]}, item={"1": {"title": "Mug"}}, index=None)
    assert load_folder(shop).n_items == 1
    assert cli("data", shop).status == 0
    answer = cli("train", shop, tmp_path / "run", "--epochs", "1", "--codes", "1", "--levels", "1")
    assert answer.status == 0, answer.err
    answer = cli("recommend", tmp_path / "run", shop, "--user", "ann")
    assert answer.status == 0, answer.err
    assert "Mug" in answer.out


def test_nobody_with_three_items_is_said_in_one_sentence(tmp_path: Path, cli: Run) -> None:
    shop = write(tmp_path, inter={"ann": [1], "bob": [2, 3]}, index=None)
    answer = cli("train", shop, tmp_path / "run", *SMALL)
    assert answer.status == 2
    assert "Traceback" not in answer.err
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_unsorted_and_equal_times(tmp_path: Path) -> None:
    table = tmp_path / "orders.csv"
    table.write_text("user,item,time\nann,c,3\nann,a,1\nann,d,3\nann,b,2\nann,e,3\n")
    found = read_tables(table)
    assert [found.items[item] for item in found.sequences[0]] == ["a", "b", "c", "d", "e"]
    table.write_text("user,item,time\n" + "".join(f"ann,{item},0\n" for item in "cabed"))
    assert [read_tables(table).items[item] for item in read_tables(table).sequences[0]] == [
        *"cabed"
    ]


TITLES = {
    "escape": "\x1b[2J\x1b]0;gone\x07",
    "backspace": "a\x08\x08b",
    "C1": "\x9b31m",
    "NUL": "\x00",
    "lines": "a\r\nb",
    "emoji": "🛒" * 9,
}


@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES.keys())
def test_titles_cannot_command_a_terminal(
    title: str, tmp_path: Path, cli: Run, trained: Path
) -> None:
    toy = toy_dataset()
    texts = tuple(type(text)(title + " thing") for text in toy.texts or ())
    hostile = InteractionDataset("toy", toy.items, toy.users, toy.sequences, texts)
    shop = write_dataset(tmp_path / "shop", hostile)
    answer = cli("recommend", trained, shop, "--user", "u0", "-k", "3")
    assert answer.status == 0, answer.err
    codes = [code for code in map(ord, answer.out) if code < 32 or 127 <= code < 160]
    assert {*codes} == {ord("\n")}
    assert len(answer.out.splitlines()) == len(answer.out.split("\n")) - 1
    assert answer.out.count("thing") >= 3
