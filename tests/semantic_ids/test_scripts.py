"""Texts of every script: terms that tell items apart, and a warning where none do."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.datasets import InteractionDataset, ItemText, load_folder
from nezha_lite.evaluation.tokenizer_report import report_tokenizer
from nezha_lite.semantic_ids.tokenizer import (
    CollapseWarning,
    ItemTokenizer,
    TokenizerConfig,
    item_vectors,
)
from nezha_lite.semantic_ids.vectors.signal import text_weakness
from nezha_lite.semantic_ids.vectors.tfidf import TfidfVectors, best_terms, failing_words
from tests.helpers.for_each import for_each

KINDS, COLOURS, BRANDS = 6, 5, 4
A_KIND = COLOURS * BRANDS
CHINESE = (
    ("咖啡杯", "自行车", "运动鞋", "笔记本", "望远镜", "电饭锅"),
    ("红色", "蓝色", "绿色", "黑色", "白色"),
    ("金龙", "海燕", "天鹅", "长城"),
)
JAPANESE = (
    ("デスクランプ", "折りたたみ傘", "電気ケトル", "ひざ掛け", "リュックサック", "目覚まし時計"),
    ("レッド", "ブルー", "グリーン", "グレー", "ホワイト"),
    ("クラウド", "マウンテン", "リバー", "スター"),
)
THAI = (
    ("โคมไฟ", "ร่ม", "กาน้ำ", "ผ้าห่ม", "กระเป๋า", "นาฬิกาปลุก"),
    ("สีแดง", "สีน้ำเงิน", "สีเขียว", "สีเทา", "สีขาว"),
    ("ตราเมฆ", "ตราภูเขา", "ตราแม่น้ำ", "ตราดาว"),
)
Words = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def titles(words: Words, layout: str = "{brand}{colour}{kind}") -> list[str]:
    kinds, colours, brands = words
    return [
        layout.format(brand=brand, colour=colour, kind=kind)
        for kind in kinds
        for brand in brands
        for colour in colours
    ]


def shop(names: list[str], walk: bool = True) -> InteractionDataset:
    """Users who take things of one kind, unless they do not walk."""
    draw = np.random.default_rng(3)
    starts = draw.integers(0, len(names), size=200)
    step = 4 if walk else len(names)
    sequences = [
        [int(start // A_KIND * A_KIND + item) % len(names) for item in draw.integers(0, A_KIND, 6)]
        if walk
        else draw.integers(0, step, 6).tolist()
        for start in starts
    ]
    return InteractionDataset(
        "shop",
        tuple(map(str, range(len(names)))),
        tuple(map(str, range(len(sequences)))),
        tuple(map(tuple, sequences)),
        tuple(map(ItemText, names)),
    )


def of_same_kind(vectors: torch.Tensor) -> float:
    cosines = vectors @ vectors.T
    nearest = cosines.fill_diagonal_(-9).topk(10).indices
    kind = torch.arange(len(vectors)) // A_KIND
    return float((kind[nearest] == kind[:, None]).float().mean())


@for_each({"chinese": (CHINESE,), "japanese": (JAPANESE,), "thai": (THAI,)})
def test_neighbours_are_of_the_same_kind_in_scripts_without_spaces(words: Words) -> None:
    for layout in ("{brand}{colour}{kind}", "{brand}{kind}{colour}", "{kind}{brand}{colour}"):
        data = shop(titles(words, layout))
        assert of_same_kind(item_vectors(data)) >= 0.8
        assert text_weakness(data, item_vectors(data)) is None
        by_words = TfidfVectors(terms="words").fit_transform(titles(words, layout))
        if words is not THAI:  # whose marks split a title into pieces, some of which are words
            assert of_same_kind(by_words) < 0.25


def test_words_stay_where_words_work(tmp_path: Path) -> None:
    english = [f"{brand} {kind}" for brand in ("Hob", "Pim", "Lux") for kind in ("mug", "pot")]
    assert failing_words(english) == (0, 0, 6)
    assert best_terms(english)[0] == "words"
    glued = [title.replace(" ", "") for title in english]
    assert failing_words([*glued, "!", "", glued[0]]) == (0, 6, 6)
    assert best_terms(glued)[0] == "characters"
    assert best_terms([*english * 5, "红色台灯"])[0] == "words"  # one seventh
    assert failing_words(["iPhone 15 手机壳", "iPhone 15 case"]) == (1, 0, 2)
    assert failing_words(["alone"]) == (0, 0, 1)


@given(
    st.lists(
        st.text(st.sampled_from("红绿灯伞ランプไฟสี ,。a\n"), max_size=8), min_size=1, max_size=9
    )
)
def test_characters_are_stored_and_applied_as_words_are(texts: list[str]) -> None:
    if not any(one.isalnum() for one in "".join(texts)):
        return
    fitted = TfidfVectors(4, terms="characters")
    rows = fitted.fit_transform(texts)
    lengths = rows.norm(dim=1)
    assert ((lengths - 1).abs() < 1e-5).logical_or(lengths == 0).all()
    again = TfidfVectors.from_state(*fitted.state()).transform(texts)
    torch.testing.assert_close(again, rows, atol=1e-5, rtol=0)


def test_a_file_without_terms_holds_words() -> None:
    fitted = TfidfVectors(4).fit(["red mug", "red pot"])
    tensors, settings = fitted.state()
    assert settings.pop("terms") == "words"
    assert TfidfVectors.from_state(tensors, settings).terms == "words"


RANDOM = [f"{number:08x}" for number in np.random.default_rng(0).integers(2**32, size=120)]


@for_each(
    {
        "random strings": (RANDOM, "taken by the same users"),
        "the same text": (["mug"] * 100 + titles(CHINESE)[:20], "100 of 120 items have the same"),
        "no text": (["!"] * 70 + titles(CHINESE)[:50], "70 of 120 items have no text vector"),
        "shuffled texts": (
            [title for first in range(7) for title in titles(CHINESE)[first::7]],
            "taken by the same users",
        ),
    }
)
def test_texts_that_tell_nothing_are_reported(names: list[str], words: str) -> None:
    data = shop(names)
    with pytest.warns(CollapseWarning, match="Text vectors tell next to nothing") as raised:
        report = report_tokenizer(data, TokenizerConfig(levels=2, codes=8))
    (problem,) = (issue for issue in report.quality.issues if issue.kind == "texts")
    assert words in problem.sentence
    assert problem.sentence in {str(warning.message) for warning in raised}
    assert problem.sentence in report.quality.table()


def test_orthogonal_vectors_and_few_interactions() -> None:
    data = shop(titles(CHINESE))
    assert "cosine of 0.00" in (text_weakness(data, torch.eye(120)) or "")
    few = replace(data, users=("u",), sequences=((0, 100, 50, 1),))
    noise = torch.randn(120, 9, generator=torch.Generator().manual_seed(0))
    assert text_weakness(few, noise) is None  # too few interactions to tell
    assert text_weakness(data, noise)


def test_the_tokenizer_of_a_chinese_shop_places_new_items(tmp_path: Path) -> None:
    data = shop(titles(CHINESE))
    tokenizer = ItemTokenizer(TokenizerConfig(levels=2, codes=8)).fit(data)
    tokenizer.save(tmp_path / "ids")
    loaded = ItemTokenizer.load(tmp_path / "ids")
    new = loaded.add(["new"], [ItemText("金龙紫色望远镜")])
    same_kind = {tuple(row) for row in tokenizer.semantic_ids.codes[80:100, :1].tolist()}
    assert tuple(new.encoded[0, :1].tolist()) in same_kind


def test_the_folder_of_a_chinese_shop_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    names = titles(CHINESE)
    (folder / "shop.inter.json").write_text(json.dumps({"u": ["0", "1", "2", "3"]}))
    entries = {str(item): {"title": name} for item, name in enumerate(names)}
    (folder / "shop.item.json").write_text(json.dumps(entries, ensure_ascii=False))
    assert of_same_kind(item_vectors(load_folder(folder))) >= 0.8
