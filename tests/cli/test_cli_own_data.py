"""`nezha-lite import` and `map`: tables to a folder every command reads, and IDs to a table."""

from pathlib import Path

import pytest
import torch

from nezha_lite.datasets import load_folder
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.spreadsheet import read_sid_map
from tests.helpers.shops import SMALL, Answer, Run
from tests.helpers.toys import toy_dataset


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """The toy shop as tables, the latest interactions first."""
    dataset = toy_dataset()
    rows = [
        f"{dataset.users[user]};{dataset.items[item]};{day}"
        for user, sequence in enumerate(dataset.sequences)
        for day, item in enumerate(sequence)
    ]
    orders, items = tmp_path / "orders.csv", tmp_path / "items.csv"
    orders.write_text("\n".join(["who;item;day", *reversed(rows)]))
    assert dataset.texts is not None
    titles = [
        f"{item};{text.title}" for item, text in zip(dataset.items, dataset.texts, strict=True)
    ]
    items.write_text("\n".join(["item;title", *titles]))
    return orders, items


LAYOUT = ("--user", "who", "--time", "day", "--separator", ";")


def test_imported_tables_train_recommend_and_map(
    tables: tuple[Path, Path], tmp_path: Path, cli: Run
) -> None:
    folder, run, table = tmp_path / "shop", tmp_path / "run", tmp_path / "map.csv"
    answer = cli("import", *tables, folder, *LAYOUT)
    assert (answer.status, answer.err) == (0, "")
    dataset, toy = load_folder(folder), toy_dataset()
    assert answer.out.splitlines()[2] == (
        f"Readable: {toy.n_interactions} interactions, 30 users, 20 items."
    )
    assert answer.out.splitlines()[-1] == (
        f"Data set written to {folder}. Next: nezha-lite train {folder} runs/shop"
    )
    taken = {
        user: [dataset.items[item] for item in sequence]
        for user, sequence in zip(dataset.users, dataset.sequences, strict=True)
    }
    assert taken == {
        user: [toy.items[item] for item in sequence]
        for user, sequence in zip(toy.users, toy.sequences, strict=True)
    }
    assert dataset.title(dataset.items.index("i7")) == toy.title(7)
    written = {path.name for path in folder.iterdir()}
    assert written == {"shop.inter.json", "shop.item.json", "shop.times.safetensors"}

    assert cli("train", folder, run, *SMALL).status == 0
    assert "Recommended" in cli("recommend", run, folder, "--user", "u3").out
    answer = cli("map", run, folder, "--out", table)
    assert (answer.status, answer.out) == (0, f"20 items with 3 codes each: {table}\n")
    trained = SemanticIds.load(run / "semantic_ids.safetensors")
    assert torch.equal(read_sid_map(table).codes, trained.codes)
    assert read_sid_map(table).items == dataset.items


def test_interactions_alone_and_tabs(tmp_path: Path, cli: Run) -> None:
    (tmp_path / "orders.tsv").write_text("user\titem\ttime\nu\ti1\t2\nu\ti2\t1\n")
    answer = cli("import", tmp_path / "orders.tsv", tmp_path / "shop", "--separator", "tab")
    assert answer.status == 0
    assert "'u' has fewer than 4 interactions" in answer.out
    written = {path.name for path in (tmp_path / "shop").iterdir()}
    assert written == {"shop.inter.json", "shop.times.safetensors"}
    dataset = load_folder(tmp_path / "shop")
    assert (dataset.sequences, dataset.texts) == (((1, 0),), None)


def test_every_option_of_a_column_is_passed_on(tmp_path: Path, cli: Run) -> None:
    (tmp_path / "o.csv").write_text("a,b,c\nu,1,5\n")
    (tmp_path / "i.csv").write_text("b,t,m,k,d\n1,Mug,Hob,Home|Tea,for two\n")
    names = ("--user", "a", "--item", "b", "--time", "c", "--title", "t", "--brand", "m")
    more = ("--categories", "k", "--description", "d", "--category-separator", "|")
    answer = cli("import", tmp_path / "o.csv", tmp_path / "i.csv", tmp_path / "shop", *names, *more)
    assert answer.status == 0
    (text,) = load_folder(tmp_path / "shop").texts or ()
    assert text.sentence() == "Mug, Hob. Home, Tea. for two"


def refused(answer: Answer, *words: str) -> bool:
    """One sentence on stderr that holds all these words, and status 2."""
    (line,) = answer.err.splitlines()
    assert line.startswith("nezha-lite: ")
    for word in words:
        assert word in line
    return answer.status == 2


def test_errors_are_all_listed_and_nothing_is_written(tmp_path: Path, cli: Run) -> None:
    orders, folder = tmp_path / "orders.csv", tmp_path / "shop"
    orders.write_text("user,item,time\nann,1,x\n,2,2\nann,3,3\n")
    answer = cli("import", orders, folder)
    assert refused(answer, f"{orders}, line 2, column 'time': 'x'", "1 more error")
    listed = answer.out.splitlines()
    assert listed[2] == "Errors, to be mended before the tables can be read:"
    assert f"{orders}, line 3, column 'user': ''" in listed[4]
    assert not folder.exists()
    assert refused(cli("import", tmp_path / "none.csv", folder), "none.csv", "no such file")
    assert refused(cli("import", tmp_path, folder), "it is a folder: name the file in it")
    assert not folder.exists()


def test_folders_that_cannot_be_written_are_refused(
    tables: tuple[Path, Path], tmp_path: Path, cli: Run
) -> None:
    orders, items = tables
    assert refused(cli("import", *tables, items, *LAYOUT), "items.csv is a file: name a folder")
    assert refused(cli("import", *tables, "beauty", *LAYOUT), "'beauty' is the name of a known")
    assert refused(cli("import", *tables, orders, tmp_path / "x"), "3 tables are named")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "Shop.item.json").write_text("{}")
    answer = cli("import", *tables, tmp_path / "shop", *LAYOUT)
    assert refused(answer, "Shop.item.json already exists", "name another folder")
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["Shop.item.json"]


def test_a_failure_while_writing_leaves_no_half_of_a_data_set(
    tables: tuple[Path, Path], tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nezha_lite.datasets import json_folder

    def full(path: Path, content: str) -> None:
        if path.name.endswith(".inter.json"):
            raise OSError(f"no space left for {path.name}")
        path.write_text(content)

    monkeypatch.setattr(json_folder, "atomic_write", full)
    answer = cli("import", *tables, tmp_path / "shop", *LAYOUT)
    assert refused(answer, "no space left for shop.inter.json")
    assert list((tmp_path / "shop").iterdir()) == []


def test_map_takes_a_tokenizers_folder_and_refuses_other_things(
    shop: Path, tmp_path: Path, cli: Run
) -> None:
    ids, out = tmp_path / "ids", tmp_path / "map.csv"
    assert cli("tokenize", shop, ids, "--levels", "2", "--codes", "5").status == 0
    assert cli("map", ids, shop, "--out", out).status == 0
    assert read_sid_map(out).n_items == 20
    before = out.read_bytes()
    other = tmp_path / "other.csv"
    other.write_text("user,item,time\nu,1,1\n")
    assert cli("import", other, tmp_path / "other").status == 0
    assert refused(cli("map", ids, tmp_path / "other", "--out", out), "20 items", "'other'")
    assert refused(cli("map", tmp_path / "none", shop, "--out", out), "semantic_ids.safetensors")
    lost = tmp_path / "no" / "folder.csv"
    assert refused(cli("map", ids, shop, "--out", lost), "folder.csv")
    assert out.read_bytes() == before
