"""Texts before they become vectors: placeholders, entities, gaps and repetitions, counted."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.datasets import InteractionDataset, ItemText, load_dataset, plain_text
from nezha_lite.semantic_ids.vectors.tfidf import item_sentences, text_report
from tests.helpers.toys import N_ITEMS, toy_dataset

REAL_DATA = Path(os.environ.get("NEZHA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))

PLACEHOLDERS = [
    *("Unknown", " unknown ", "title_495", "brand_2237", "Brand 7", "item #12", "N/A", "NaN"),
    *("null", "None", "product-0003", "Untitled", "TITLE_1", "Unbranded"),
]
REAL_NAMES = [
    *("Title", "brand", "Item", "Naked 3", "666", "T3", "3M", "Connect 4", "Item 7 Mascara"),
    *("Nan Goldin", "Unknown Pleasures", "The Brand 45", "title_", "NARS", "None Such"),
]


def dataset_of(*texts: ItemText) -> InteractionDataset:
    names = tuple(f"i{item}" for item in range(len(texts)))
    return InteractionDataset("shop", names, ("u",), ((0,),), texts)


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_placeholders_say_nothing(text: str) -> None:
    assert plain_text(text) == ""
    assert ItemText(text, text, ("Games", text), text).sentence() == "Games"
    assert dataset_of(ItemText(text)).title(0) == "item i0"


@pytest.mark.parametrize("text", REAL_NAMES)
def test_real_names_are_no_placeholders(text: str) -> None:
    assert plain_text(text) == text
    assert ItemText(text, "Hob").sentence() == f"{text}, Hob"


def test_entities_are_resolved_once_or_twice() -> None:
    assert (
        plain_text("Tea &amp;\n Co&#39;s &amp;#8482 &amp;quot;Cup&amp;quot;")
        == 'Tea & Co\'s ™ "Cup"'
    )


@given(st.text(max_size=20))
def test_plain_text_is_one_line_without_outer_blanks(text: str) -> None:
    assert plain_text(text) == " ".join(plain_text(text).split())


def test_the_report_counts_each_trouble() -> None:
    dataset = dataset_of(
        ItemText("Red mug", "Hob", ("Kitchen",)),
        ItemText("Red  mug", "Hob", ("Kitchen",)),  # the same sentence, twice more
        ItemText("Red mug", "Hob", ("Kitchen", "Unknown")),
        ItemText("title_7", "brand_9", ("Kitchen",)),
        ItemText("", "Unknown", ("Kitchen",)),
        ItemText("Cup &amp; saucer", "", ()),
        ItemText("Cup &amp;amp; pot", "Hob", ("n/a",)),
        ItemText("  ", "", ()),
        ItemText("!?", "-", ()),
        ItemText("Unknown", "Unknown", ()),
    )
    report = text_report(dataset)
    assert report == {
        "items": 10,
        "missing_titles": 2,
        "placeholder_titles": 2,
        "missing_brands": 2,
        "placeholder_brands": 3,
        "missing_categories": 5,
        "titles_with_entities": 2,
        "titles_escaped_twice": 1,
        "duplicate_sentences": 3,  # two red mugs, and "Kitchen" alone
        "without_words": 3,
    }
    assert json.loads(json.dumps(report)) == report
    assert str(report) == (
        "10 items: 2 missing titles, 2 placeholder titles, 2 missing brands, 3 placeholder brands, "
        "5 missing categories, 2 titles with entities, 1 titles escaped twice, "
        "3 duplicate sentences, 3 without words"
    )


def test_a_clean_catalogue_and_one_without_texts() -> None:
    clean = text_report(toy_dataset())
    assert str(clean) == "20 items: nothing missing, nothing repeated"
    assert sum(clean.values()) == N_ITEMS
    bare = text_report(replace(toy_dataset(), texts=None))
    assert bare["missing_titles"] == bare["missing_brands"] == bare["missing_categories"] == N_ITEMS
    assert bare["without_words"] == N_ITEMS
    assert bare["duplicate_sentences"] == 0  # no sentence is no duplicate of another one


def test_sentences_without_a_word_are_empty() -> None:
    texts = [ItemText("Mug"), ItemText("!?", "--"), ItemText("title_3"), ItemText("", "7")]
    assert item_sentences(texts) == ["Mug", "", "", "7"]


def test_the_sample_is_clean() -> None:
    report = text_report(load_dataset("sample"))
    assert sum(report.values()) == report["items"]


@pytest.mark.parametrize(
    ("name", "titles", "brands"),
    [("beauty", 7, 2038 + 20), ("toys", 59, 0)],
    ids=["beauty", "toys"],
)
def test_the_real_catalogues_placeholders_are_found(name: str, titles: int, brands: int) -> None:
    if not (REAL_DATA / name).is_dir():
        pytest.skip(f"no real data at {REAL_DATA / name}")
    dataset = load_dataset(REAL_DATA / name)
    report = text_report(dataset)
    assert (report["placeholder_titles"], report["placeholder_brands"]) == (titles, brands)
    assert report["titles_with_entities"] > 1000
    assert report["without_words"] == 0
    assert not any("brand_" in text or "title_" in text for text in item_sentences(dataset.texts))
