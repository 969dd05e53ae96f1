"""A catalogue that grows and shrinks, and IDs and vectors that come from files."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nezha_lite.datasets import load_folder
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer
from tests.helpers.shops import SMALL, Run, write_dataset
from tests.helpers.toys import N_ITEMS, toy_dataset

TABLE = """item,title,categories
i0,red mug,"home, mug"
new1,yellow mug,"home, mug"
new2,golden rug,"home, rug"
"""


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text(TABLE)
    return path


def ids_of(run: Path) -> SemanticIds:
    return SemanticIds.load(run / SEMANTIC_IDS_FILE)


def recommended(out: str) -> list[str]:
    return re.findall(r"\(item (\w+),", out.split("Recommended:")[1])


def test_new_items_are_served_at_once_and_old_ids_stay(
    run: Path, shop: Path, table: Path, cli: Run
) -> None:
    old = ids_of(run)
    answer = cli("add-items", run, table, shop, "--beam", "20")
    assert answer.status == 0
    assert "3 items, of which" in answer.out
    assert "has 1." in answer.out
    assert "New items: 2. Of these," in answer.out
    new = ids_of(run)
    assert new.items == (*old.items, "new1", "new2")
    assert new.radices == old.radices
    assert torch.equal(new.codes[:N_ITEMS], old.codes)
    shares = re.search(r"new items take ([0-9.]+)% of the entries .* are in ([0-9.]+)%", answer.out)
    assert shares
    assert re.search(r"Recall@10 0\.\d{4} before, 0\.\d{4} after", answer.out)

    ask = ("recommend", run, shop, "--user", "u3", "-k", "30", "--beam", "30")
    everything = cli(*ask)
    assert {*recommended(everything.out)} == {*new.items}
    assert "yellow mug  (item new1," in everything.out
    assert "golden rug" in cli("recommend", run, shop, "--item", "new2", "--beam", "5").out
    mugs = cli(*ask, "--category", "mug")
    assert "new1" in recommended(mugs.out)
    assert cli("evaluate", run, shop, "--beam", "10").status == 0

    again = cli("add-items", run, table, shop)
    assert again.status == 0
    assert "Nothing to add." in again.out


def test_the_data_set_with_the_new_items_is_served_too(
    run: Path, shop: Path, table: Path, tmp_path: Path, cli: Run
) -> None:
    data = load_folder(shop)
    bigger = tmp_path / "bigger"
    bigger.mkdir()
    histories = {
        user: [data.items[item] for item in sequence]
        for user, sequence in zip(data.users, data.sequences, strict=True)
    }
    histories["u3"] = ["new1", *histories["u3"]]
    (bigger / "bigger.inter.json").write_text(json.dumps(histories))
    titles = {name: {"title": data.title(item)} for item, name in enumerate(data.items)}
    titles["new1"] = {"title": "yellow mug of the data set"}
    (bigger / "bigger.item.json").write_text(json.dumps(titles))
    ask = ("recommend", run, bigger, "--user", "u3", "-k", "30", "--beam", "30")
    refused = cli(*ask)
    assert refused.status == 2
    assert "'bigger' has 1 items that" in refused.err
    assert f"such as 'new1': give them IDs by `nezha-lite add-items {run} ITEMS.csv`" in refused.err
    assert cli("add-items", run, table, bigger, "--beam", "20").status == 0
    answer = cli(*ask)
    assert "yellow mug of the data set  (item new1," in answer.out
    assert sorted(recommended(answer.out)) == sorted(ids_of(run).items)


def test_an_interruption_leaves_the_old_run(
    run: Path, shop: Path, table: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cli("recommend", run, shop, "--user", "u3").out

    def killed(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(SemanticIds, "save", killed)
        assert cli("add-items", run, table, shop).status == 2
    assert cli("recommend", run, shop, "--user", "u3").out == before
    assert not list(run.glob(".*"))
    assert cli("add-items", run, table, shop, "--beam", "20").status == 0


def test_a_run_without_its_tokenizer_says_the_remedy(
    run: Path, shop: Path, table: Path, tmp_path: Path, cli: Run
) -> None:
    before = (run / SEMANTIC_IDS_FILE).read_bytes()
    shutil.rmtree(run / "tokenizer")
    answer = cli("add-items", run, table, shop)
    assert answer.status == 2
    assert "holds no tokenizer" in answer.err
    assert answer.err.count("\n") == 1
    shape = SMALL[SMALL.index("--levels") : SMALL.index("--max-items")]
    assert cli("tokenize", shop, tmp_path / "other", *shape, "--seed", "5").status == 0
    other = cli("add-items", run, table, shop, "--tokenizer", tmp_path / "other")
    assert "gives other IDs than" in other.err
    assert (run / SEMANTIC_IDS_FILE).read_bytes() == before
    assert cli("tokenize", shop, tmp_path / "same", *shape).status == 0
    answer = cli("add-items", run, table, shop, "--tokenizer", tmp_path / "same", "--beam", "20")
    assert answer.status == 0
    assert ids_of(run).n_items == N_ITEMS + 2


def test_removed_items_are_not_recommended(run: Path, shop: Path, tmp_path: Path, cli: Run) -> None:
    ask = ("recommend", run, shop, "--user", "u3", "-k", "20", "--beam", "20")
    names = tmp_path / "gone.txt"
    names.write_text("i3\ni5\n")
    rest = [name for name in recommended(cli(*ask).out) if name not in ("i3", "i5")]
    assert recommended(cli(*ask, "--without", names).out) == rest
    names.write_text("i3\nnothing\n")
    with pytest.warns(UserWarning, match=r"gone\.txt names 1 items that do not exist: 'nothing'"):
        cli(*ask, "--without", names)
    names.write_text("nothing\n")
    answer = cli(*ask, "--without", names)
    assert answer.status == 2
    assert "names 1 items, but none" in answer.err


def test_ids_of_a_map_and_of_plain_numbers_are_trained_on(
    run: Path, shop: Path, tmp_path: Path, cli: Run
) -> None:
    table = tmp_path / "map.csv"
    assert cli("map", run, shop, "--out", table).status == 0
    brief = ("--epochs", "1", "--batch-rows", "30")
    assert cli("train", shop, tmp_path / "again", "--ids", table, *brief).status == 0
    assert torch.equal(ids_of(tmp_path / "again").codes, ids_of(run).codes)
    assert not (tmp_path / "again" / "tokenizer").exists()
    codes = tmp_path / "codes.npy"
    names = tmp_path / "names.txt"
    ids = ids_of(run)
    np.save(codes, ids.codes.numpy()[::-1])
    names.write_text("\n".join(ids.items[::-1]))
    named = ("--ids", codes, "--names", names, "--codes", "99")
    answer = cli("train", shop, tmp_path / "npy", *named, *brief)
    assert answer.status == 0
    assert "largest codes plus one, or --codes" in answer.out
    assert torch.equal(ids_of(tmp_path / "npy").codes, ids.codes)
    assert {*ids_of(tmp_path / "npy").radices} == {99}
    answer = cli("train", shop, tmp_path / "out", "--ids", table, "--codes", "99")
    assert answer.status == 2
    assert "--codes has no say" in answer.err


def test_own_vectors_make_ids_and_place_new_items(
    shop: Path, table: Path, tmp_path: Path, cli: Run
) -> None:
    data = load_folder(shop)
    vectors, names = tmp_path / "v.npy", tmp_path / "names.txt"
    rows = np.random.default_rng(0).normal(size=(N_ITEMS, 4))
    np.save(vectors, rows)
    names.write_text("\n".join(data.items))
    own = ("--vectors", vectors, "--names", names, "--levels", "2", "--codes", "4")
    assert cli("tokenize", shop, tmp_path / "ids", *own).status == 0
    assert ItemTokenizer.load(tmp_path / "ids").config.vectors.sources == ("own",)
    run = tmp_path / "run"
    assert cli("train", shop, run, *own, "--epochs", "1", "--batch-rows", "30").status == 0
    kept = ItemTokenizer.load(tmp_path / "ids")
    assert torch.equal(ids_of(run).codes, kept.semantic_ids.codes)
    answer = cli("add-items", run, table, shop)
    assert answer.status == 2
    assert "'own' vectors, but none are given" in answer.err
    np.save(vectors, rows[:2])
    names.write_text("new2\nnew1\n")
    more = ("--vectors", vectors, "--names", names, "--beam", "20")
    assert cli("add-items", run, table, shop, *more).status == 0
    assert ids_of(run).codes[N_ITEMS, :2].tolist() == ids_of(run).codes[1, :2].tolist()
    assert cli("tokenize", shop, *own[:2], "--levels", "2").status == 2
    answer = cli("tokenize", shop, "--names", names)
    assert "--names is" in answer.err


def test_what_no_data_set_can_tell(run: Path, table: Path, cli: Run) -> None:
    answer = cli("add-items", run, table)
    assert answer.status == 0
    assert "Name the data set after ITEMS" in answer.out
    table.write_text("title\nmug\n")
    answer = cli("add-items", run, table)
    assert answer.status == 2
    assert "column 'item'" in answer.err


def test_another_catalogue_stays_another(run: Path, tmp_path: Path, cli: Run) -> None:
    other = write_dataset(tmp_path / "other", toy_dataset(name="other"))
    text = (other / "other.inter.json").read_text().replace('"i', '"x')
    (other / "other.inter.json").write_text(text)
    answer = cli("recommend", run, other, "--user", "u3")
    assert "trained on another catalogue" in answer.err
