"""Names and paths in data never lead out of their folder, and never say where to write."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from nezha_lite.datasets import InteractionDataset, load_folder, write_folder
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.evaluation.run_folders import fingerprint
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.spreadsheet import read_sid_map, write_sid_map
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer, TokenizerConfig
from nezha_lite.semantic_ids.vectors.item_vectors import ItemVectorizer, VectorConfig
from tests.faults.promises import tree
from tests.faults.test_model_folders import model_folder
from tests.helpers.shops import Run
from tests.helpers.toys import fitted_vectorizer, toy_dataset, toy_ids

pytestmark = pytest.mark.fault_class("data: names that are paths")

OUTWARD = (
    "../../x",
    "/etc/passwd",
    "..",
    ".",
    "",
    "~root",
    "a/../../b",
    "..\\..\\x",
    "C:\\x",
    "file:///etc/passwd",
    "x\0/../y",
    "$(touch x)",
    "`touch x`",
    "; touch x",
    "-rf",
    "nul",
    "%2e%2e%2fx",
    "\u2025/x",
    "x" * 300,
)


def renamed(name: str) -> InteractionDataset:
    """The toy world with this name for an item and a user."""
    toy = toy_dataset()
    return replace(toy, items=(name, *toy.items[1:]), users=(name, *toy.users[1:]))


@pytest.mark.parametrize("name", OUTWARD)
def test_an_item_or_user_of_that_name_is_only_a_name(name: str, tmp_path: Path) -> None:
    dataset = renamed(name)
    inside = tmp_path / "a" / "b" / "shop"
    inside.parent.mkdir(parents=True)
    write_folder(dataset, inside)
    found = load_folder(inside)
    assert name in found.items
    assert name in found.users
    ids = SemanticIds.from_codes(toy_ids().codes, toy_ids().radices, dataset.items)
    assert SemanticIds.load(ids.save(inside / "ids.json")).items == dataset.items
    if "\0" not in name:
        assert read_sid_map(write_sid_map(inside / "map.csv", ids, dataset)).items == dataset.items
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in written} == {inside}


def test_a_history_in_those_names_trains_and_recommends(tmp_path: Path, cli: Run) -> None:
    """The whole way, for what a command makes of names: only the folder it was given changes."""
    toy = toy_dataset()
    names = tuple(sorted([*OUTWARD, "other"]))
    dataset = InteractionDataset("shop", names, toy.users, toy.sequences, toy.texts)
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    shop = write_folder(dataset, inside / "shop")
    before = tree(shop)
    small = ("--epochs", "1", "--levels", "2", "--codes", "4", "--max-items", "6")
    assert cli("train", shop, inside / "run", *small).status == 0
    answer = cli("recommend", inside / "run", shop, "--item", "../../x", "-k", "3")
    assert answer.status == 0
    assert tree(shop) == before
    assert {path.name for path in inside.iterdir()} == {"shop", "run"}
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


@pytest.mark.parametrize("name", [name for name in OUTWARD if not {*"/\0"} & {*name}][:-1])
def test_a_name_of_an_inter_file_does_not_lead_out(name: str, tmp_path: Path) -> None:
    """A folder's only inter file names the data set; its other files are looked for beside it."""
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / f"{name}.item.json").write_text('{"9": {"title": "outside"}}')
    (folder / f"{name}.inter.json").write_text('{"ann": [1, 2, 3]}')
    found = load_folder(folder)
    assert found.name == name
    assert found.texts is None
    assert fingerprint(found)["name"] == name


def test_a_vectorizer_from_elsewhere_does_not_say_where_to_write(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    config = VectorConfig(dim=6, cache=str(outside))
    folder = fitted_vectorizer(config).save(tmp_path / "vectors")
    loaded = ItemVectorizer.load(folder)
    assert loaded.config == replace(config, cache=None)
    loaded.transform(toy_dataset().texts or ())
    assert not outside.exists()


def test_a_tokenizer_from_elsewhere_does_not_say_where_to_write(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    config = TokenizerConfig(levels=2, codes=4, vectors=VectorConfig(dim=6))
    folder = ItemTokenizer(config).fit(toy_dataset()).save(tmp_path / "tokenizer")
    content = asdict(config)
    content["vectors"]["cache"] = str(outside)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    loaded = ItemTokenizer.load(folder)
    assert loaded.config == config
    loaded.add(["new"], [(toy_dataset().texts or ())[0]])
    assert not outside.exists()


def test_weights_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    model_folder(tmp_path / "good")
    for field in ("transformers_weights", "_name_or_path"):
        folder = model_folder(tmp_path / field)
        (folder / "model.safetensors").unlink()
        content = json.loads((folder / "config.json").read_text())
        content[field] = "../good/model.safetensors"
        (folder / "config.json").write_text(json.dumps(content))
        with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
            Recommender.load(folder)
    index = {"weight_map": {"head.classifiers.0.weight": "../good/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "../good"}')
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        Recommender.load(folder)
