"""Titles and names from data, shown: one short line that commands nothing and disguises nothing."""

import csv
import io
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from nezha_lite.cli import app
from nezha_lite.datasets import InteractionDataset, ItemText, load_dataset, shown_text
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.spreadsheet import read_sid_map, sid_map_csv, write_sid_map

FORMULAS = ("=1+1", "+SUM(A1)", "-2", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", " =1+1")


@given(st.text(max_size=400))
def test_shown_text_is_one_short_line_without_commands(text: str) -> None:
    shown = shown_text(text)
    assert len(shown) <= 200
    assert len(shown.splitlines()) <= 1
    for letter in shown:
        kind = unicodedata.category(letter)
        assert kind not in ("Cc", "Cs", "Co", "Zl", "Zp")
        assert kind != "Cf" or letter in "\u200c\u200d"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A plain title", "A plain title"),
        ("two\nlines\tand  spaces", "two lines and spaces"),
        ("\x1b[2J\x1b]0;owned\x07red", "[2J]0;ownedred"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("\u2066\u2067isolated\u2069", "isolated"),
        ("שלום", "שלום"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("&lt;b&gt;bold&lt;/b&gt;", "<b>bold</b>"),
        ("x" * 1_000_000, "x" * 199 + "…"),
        ("a\x00b", "ab"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert shown_text(text) == shown


def hostile_shop(names: tuple[str, ...], titles: tuple[str, ...]) -> InteractionDataset:
    return InteractionDataset(
        "toy", names, ("\x1b[31mu\u202e",), ((0, 1, 2),), tuple(map(ItemText, titles))
    )


def test_titles_and_names_of_a_data_set_are_inert() -> None:
    shop = hostile_shop(("a\x1b[2J", "b", "c\u202e"), ("", "\x1b[2Jtitle", ""))
    assert [shop.title(item) for item in range(3)] == ["item a[2J", "[2Jtitle", "item c"]
    assert shop.user_name(0) == "[31mu"


def test_a_title_of_nothing_visible_still_names_its_item() -> None:
    shop = hostile_shop(("\x00", "b", "c"), ("\u202e", "\x07", "c"))
    assert [shop.title(item) for item in range(2)] == ["item 0", "item b"]
    assert shop.user_name(0)


def test_the_map_for_a_spreadsheet_holds_no_formula(tmp_path: Path) -> None:
    shop = InteractionDataset(
        "toy", FORMULAS, ("u",), ((0, 1, 2),), tuple(ItemText(text) for text in FORMULAS)
    )
    ids = SemanticIds.from_codes(torch.arange(len(FORMULAS))[:, None], (8,), FORMULAS)
    for row in csv.reader(io.StringIO(sid_map_csv(ids, shop))):
        for cell in row:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert read_sid_map(write_sid_map(tmp_path / "map.csv", ids, shop)).items == FORMULAS


def test_the_command_line_prints_no_command_for_the_terminal(tmp_path: Path) -> None:
    sample = load_dataset("sample")
    folder = tmp_path / "shop"
    folder.mkdir()
    source = Path("data/sample")
    for part in ("inter", "item"):
        text = (source / f"sample.{part}.json").read_text(encoding="utf-8")
        words = '"title": "' if part == "item" else "\0"
        hostile = text.replace(words, words + "\\u001b[2J\\u202e")
        (folder / f"shop.{part}.json").write_text(hostile, encoding="utf-8")
    called = ["recommend", "data/checkpoints/sample", str(folder), "--user", sample.users[4]]
    result = CliRunner().invoke(app, called)
    assert result.exit_code == 0, result.output
    assert "[2J" in result.output
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
