"""The map of semantic IDs: what it holds, safe in a spreadsheet, and read back as it was."""

import csv
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.spreadsheet import (
    read_sid_map,
    sid_map_csv,
    sid_map_rows,
    write_sid_map,
)

RADICES = (3, 300, 2)
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''", '=HYPERLINK("x")')
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)


def shop(names: tuple[str, ...], titles: tuple[str, ...] | None = None) -> InteractionDataset:
    texts = None if titles is None else tuple(map(ItemText, titles))
    return InteractionDataset("shop", names, ("u",), ((0,),), texts)


def ids(names: tuple[str, ...]) -> SemanticIds:
    codes = [[row % 3, 299 - row, row % 2] for row in range(len(names))]
    return SemanticIds.from_codes(codes, RADICES, names)


def same(one: SemanticIds, other: SemanticIds) -> bool:
    equal = torch.equal(one.codes, other.codes)
    return equal and one.radices == other.radices and one.items == other.items


def test_a_row_holds_item_codes_key_and_title() -> None:
    dataset = shop(("7", "8"), ("Mug &amp; Lid, red", ""))
    assert list(sid_map_rows(ids(dataset.items), dataset)) == [
        ("item", "code_1_of_3", "code_2_of_300", "code_3_of_2", "key", "title"),
        ("7", 0, 299, 0, 299 * 3, "Mug & Lid, red"),
        ("8", 1, 298, 1, 1 + 298 * 3 + 900, "item 8"),
    ]
    assert sid_map_csv(ids(dataset.items), dataset) == (
        "item,code_1_of_3,code_2_of_300,code_3_of_2,key,title\r\n"
        '7,0,299,0,897,"Mug & Lid, red"\r\n'
        "8,1,298,1,1795,item 8\r\n"
    )


def test_no_cell_can_be_run_as_a_formula(tmp_path: Path) -> None:
    dataset = shop(FORMULAS, FORMULAS)
    path = write_sid_map(tmp_path / "map.csv", ids(FORMULAS), dataset)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + len(FORMULAS)
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "+", "-", "@", *"\t\r\n")]
    assert [row[0] for row in rows[1:]] == [f"'{name}" for name in FORMULAS]
    assert same(read_sid_map(path), ids(FORMULAS))


@given(names=st.lists(ANY, min_size=1, max_size=9, unique=True), titles=st.lists(ANY, min_size=9))
def test_the_map_is_read_back_as_it_was(
    names: list[str], titles: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("maps") / "map.csv"
    dataset = shop(tuple(names), tuple(titles[: len(names)]))
    assert write_sid_map(path, ids(dataset.items), dataset) == path
    assert same(read_sid_map(path), ids(dataset.items))
    assert path.read_bytes().startswith(b"\xef\xbb\xbfitem,")


def test_another_catalogue_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match="2 items that are not the 3 of data set 'shop'"):
        write_sid_map(path, ids(("1", "2")), shop(("1", "2", "3")))
    with pytest.raises(ValueError, match="surrogates not allowed"):
        write_sid_map(path, ids(("1", "\ud800")), shop(("1", "\ud800")))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "map.csv: it holds no header"),
        ("item,key,title\n1,2,x\n", "map.csv, line 1: the columns must be item, code_1_of_…"),
        ("item,code_1_of_3,title,key\n1,2,x,2\n", "line 1: the columns must be"),
        ("item,code_2_of_3,key,title\n1,2,2,x\n", "line 1: the columns must be"),
        ("item,code_1_of_3,x,key,title\n1,2,0,2,x\n", "line 1: the columns must be"),
        ("item,code_1_of_3,key,title\n1,2,2\n", "line 2: '1,2,2' has 3 cells"),
        ("item,code_1_of_3,key,title\n1,2.0,2,x\n", "line 2, column 'code_1_of_3': '2.0' is no"),
        ("item,code_1_of_3,key,title\n1,2,-2,x\n", "line 2, column 'key': '-2' is no"),
        ("item,code_1_of_3,key,title\n1,3,3,x\n", "Item '1' has code 3 at level 1"),
        ("item,code_1_of_3,key,title\n1,1,1,x\n2,1,2,x\n", "line 3, column 'key': 2 is not the"),
        ("item,code_1_of_3,key,title\n", "does not hold valid semantic IDs"),
        (f"item,code_1_of_3,key,title\n1,{'9' * 19},1,x\n", "does not hold valid semantic IDs"),
    ],
)
def test_what_is_no_map_is_refused_by_place(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"map\.csv") as raised:
        read_sid_map(path)
    assert words in str(raised.value)
