"""IDs and vectors that other programs made: every way to write them, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.datasets.id_tokens import IdParser
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.outside import load_ids, read_vectors
from nezha_lite.semantic_ids.quality import id_quality
from nezha_lite.semantic_ids.quantizers import RQKMeans
from nezha_lite.semantic_ids.spreadsheet import write_sid_map
from nezha_lite.semantic_ids.tokenizer import (
    ItemTokenizer,
    TokenizerConfig,
    build_semantic_ids,
    tokenize,
)
from nezha_lite.semantic_ids.vectors.item_vectors import VectorConfig

ITEMS = ("mug", "pot", "7")
CODES = [[1, 2, 3], [0, 2, 4], [5, 0, 3]]
SHUFFLED = (2, 0, 1)  # the files' rows, so that a position alone would be wrong
DATA = InteractionDataset("shop", ITEMS, ("u",), ((0, 1, 2),))
VECTORS = np.array([[0.0, 1.0], [1.0, 0.5], [-1.0, 0.25]], dtype=np.float32)


def index(write: Callable[[list[int]], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "ids.json"
        path.write_text(json.dumps({ITEMS[row]: write(CODES[row]) for row in SHUFFLED}))
        return path

    return make


def tokens(form: str, codes: list[int]) -> list[str]:
    return [form.format(letter, code) for letter, code in zip("abc", codes, strict=True)]


def own_map(folder: Path) -> Path:
    codes = [CODES[row] for row in SHUFFLED]
    items = tuple(ITEMS[row] for row in SHUFFLED)
    ids = SemanticIds.from_codes(codes, (6, 3, 5), items)
    return write_sid_map(
        folder / "map.csv", ids, InteractionDataset("shop", items, ("u",), ((0,),))
    )


WAYS: dict[str, Callable[[Path], Path]] = {
    "LETTER's tokens": index(lambda codes: tokens("<{}_{}>", codes)),
    "another prefix": index(lambda codes: tokens("<s_{}_{}>", codes)),
    "one prefix": index(lambda codes: [f"<id_{code}>" for code in codes]),
    "whole numbers": index(lambda codes: codes),
    "numbers as text": index(lambda codes: list(map(str, codes))),
    "one string": index(lambda codes: "".join(tokens("<{}_{}>", codes))),
    "one string with blanks": index(lambda codes: " ".join(tokens("<{}_{}>", codes))),
    "numbers in one string": index(lambda codes: ", ".join(map(str, codes))),
    "our map": own_map,
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_write_ids_is_read_by_name(way: str, tmp_path: Path) -> None:
    path = WAYS[way](tmp_path)
    ids = build_semantic_ids(DATA, str(path))
    assert ids.codes.tolist() == CODES
    assert ids.items == ITEMS
    assert ids.radices == (6, 3, 5)  # the largest code plus one, and what our map says
    if path.suffix == ".json":
        assert load_ids(path, DATA, radices=[9]).radices == (9, 9, 9)
        assert load_ids(path, DATA, radices=[6, 8, 5]).radices == (6, 8, 5)
        with pytest.raises(ValueError, match="code 5 at level 1, but valid codes there are 0 to 3"):
            load_ids(path, DATA, radices=[4])


@given(rows=st.lists(st.lists(st.integers(0, 299), min_size=2, max_size=2), min_size=1, max_size=8))
def test_a_map_is_read_back_in_the_data_sets_order(
    rows: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = tuple(f"i{row}" for row in range(len(rows)))
    data = InteractionDataset("shop", names, ("u",), ((0,),))
    path = tmp_path_factory.mktemp("maps") / "map.csv"
    write_sid_map(path, SemanticIds.from_codes(rows, (300, 300), names), data)
    other = InteractionDataset("shop", names[::-1], ("u",), ((0,),))
    read = build_semantic_ids(other, str(path))
    assert read.codes.tolist() == rows[::-1]
    assert read.radices == (300, 300)


def test_codes_of_numpy_need_names(tmp_path: Path) -> None:
    path, names = tmp_path / "codes.npy", tmp_path / "names.txt"
    np.save(path, np.array(CODES, dtype=np.uint16)[list(SHUFFLED)])
    names.write_text("\n".join(ITEMS[row] for row in SHUFFLED) + "\n")
    assert load_ids(path, DATA, names).codes.tolist() == CODES
    as_json = tmp_path / "names.json"
    as_json.write_text(json.dumps([ITEMS[row] for row in SHUFFLED]))
    assert load_ids(path, DATA, as_json).codes.tolist() == CODES
    with pytest.raises(ValueError, match=r"codes\.npy does not name .* 3 rows: give .* --names"):
        load_ids(path, DATA)
    names.write_text("mug\npot\n")
    with pytest.raises(ValueError, match=r"names\.txt names 2 items, but .*codes\.npy has 3 rows"):
        load_ids(path, DATA, names)
    names.write_text("mug\npot\nmug\n")
    with pytest.raises(ValueError, match=r"names\.txt names 'mug' 2 times"):
        load_ids(path, DATA, names)
    np.save(path, np.array(CODES, dtype=float))
    with pytest.raises(ValueError, match="holds float64 of shape"):
        load_ids(path, DATA, as_json)
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="is not a NumPy file of numbers"):
        load_ids(path, DATA, as_json)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": [1], "b": [2]}, "no name matches; one is called 'a' there and 'mug' here"),
        (
            {"mug": [1], "pot": [2]},
            "not the 3 of data set 'shop': 1 are missing",
        ),
        ({"mug": [1], "pot": [2, 3], "7": [1]}, "item 'pot' cannot be used"),
        ({"mug": [1], "pot": ["<a_1>"], "7": [1]}, "the token '<a_1>' must read 183, as others do"),
        ({"mug": [1], "pot": [-1], "7": [1]}, "the token -1 must read"),
        ({"mug": [True], "pot": [1], "7": [1]}, "the token True must read"),
        ({"mug": ["<a_1>", "<c_2>"]}, "the token '<c_2>' must read <b_183>"),
        ({}, "no name matches; 'mug' here"),
        ([1, 2], "does not hold valid semantic IDs"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"ids\.json") as raised:
        load_ids(path, DATA)
    assert words in str(raised.value)


def test_more_items_are_left_out_and_other_files_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    path.write_text(json.dumps({"extra": [9], "mug": [1], "pot": [2], "7": [1]}))
    with pytest.warns(UserWarning, match="names 1 items that data set 'shop' .* such as 'extra'"):
        ids = load_ids(path, DATA)
    assert ids.codes.tolist() == [[1], [2], [1]]
    with pytest.raises(ValueError, match=r"ids\.pkl cannot be read as semantic IDs: valid are"):
        load_ids(tmp_path / "ids.pkl", DATA)
    with pytest.raises(ValueError, match=r"map\.csv itself says what its items and radices"):
        load_ids(own_map(tmp_path), DATA, radices=[7])


def test_the_file_of_plain_numbers_is_also_a_data_sets_own() -> None:
    parse = IdParser()
    assert [parse([1, 2]), parse([3, 4])] == [(1, 2), (3, 4)]
    with pytest.raises(ValueError, match="the token '<a_1>' must read 183"):
        parse(["<a_1>", "<b_2>"])


# ---- vectors -------------------------------------------------------------------------------------


def names_file(folder: Path) -> Path:
    path = folder / "names.txt"
    path.write_text("\n".join(ITEMS[row] for row in SHUFFLED))
    return path


def test_vectors_are_read_by_name(tmp_path: Path) -> None:
    rows = VECTORS[list(SHUFFLED)]
    names = [ITEMS[row] for row in SHUFFLED]
    np.save(tmp_path / "v.npy", rows.astype(np.float64))
    header = {"items": json.dumps(names)}
    save_file({"v": torch.tensor(rows)}, tmp_path / "v.safetensors", header)
    save_file({"v": torch.tensor(rows)}, tmp_path / "bare.safetensors")
    pl.DataFrame({"item": names, "v": rows.tolist()}).write_parquet(tmp_path / "lists.parquet")
    columns = {"name": names, "x": rows[:, 0], "y": rows[:, 1]}
    pl.DataFrame(columns).write_parquet(tmp_path / "columns.parquet")
    named = names_file(tmp_path)
    for file, other in (
        ("v.npy", named),
        ("v.safetensors", None),
        ("bare.safetensors", named),
        ("lists.parquet", None),
        ("columns.parquet", None),
    ):
        read = read_vectors(tmp_path / file, DATA, other)
        assert read.dtype == torch.float32
        assert read.tolist() == VECTORS.tolist(), file
    for file, words in (
        ("v.npy", "does not name the items of its 3 rows"),
        ("bare.safetensors", "does not name the items of its 3 rows"),
        ("v.pt", "v.pt is not a file: name item vectors as .npy"),
    ):
        with pytest.raises(ValueError, match=words):
            read_vectors(tmp_path / file, DATA)
    np.save(tmp_path / "v.npy", np.array([[1.0], [np.nan], [0.0]]))
    with pytest.raises(ValueError, match=r"v\.npy does not hold item vectors: .* row 1 holds NaN"):
        read_vectors(tmp_path / "v.npy", DATA, named)


def test_arrays_and_lists_are_vectors_in_python() -> None:
    quantizer = RQKMeans(RQKMeans.config_class(2, 3))
    expected = tokenize(DATA, quantizer, torch.tensor(VECTORS))
    for vectors in (VECTORS, VECTORS.tolist(), VECTORS.astype(np.float64)):
        ids = tokenize(DATA, RQKMeans(RQKMeans.config_class(2, 3)), vectors)
        assert torch.equal(ids.codes, expected.codes)
        assert torch.equal(quantizer.encode(vectors), quantizer.encode(torch.tensor(VECTORS)))
        assert id_quality(ids, vectors).different_vectors == 3
    with pytest.raises(ValueError, match=r"vectors is .* equally many numbers"):
        tokenize(DATA, vectors=[[1.0], [1.0, 2.0], [3.0]])


def test_a_tokenizer_of_own_vectors_is_kept_and_places_new_ones(tmp_path: Path) -> None:
    config = TokenizerConfig(levels=2, codes=3, vectors=VectorConfig(sources=("own",)))
    fitted = ItemTokenizer(config).fit(DATA, vectors=VECTORS)
    expected = tokenize(DATA, RQKMeans(RQKMeans.config_class(2, 3)), VECTORS)
    assert torch.equal(fitted.semantic_ids.codes, expected.codes)
    kept = ItemTokenizer.load(fitted.save(tmp_path / "ids"))
    texts = [ItemText("")]
    new = kept.add(["pan"], texts, VECTORS[1:2])
    assert new.encoded.tolist() == fitted.plain_ids.codes[1:2].tolist()
    with pytest.raises(ValueError, match="'own' vectors, but none are given"):
        kept.add(["lid"], texts)
    with pytest.raises(ValueError, match="'own' vectors, but none are given"):
        ItemTokenizer(config).fit(DATA)
