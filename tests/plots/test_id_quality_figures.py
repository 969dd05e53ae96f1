"""Figures of the quality report: their marks, their sentences, and that nothing is cut off."""

import re
from xml.etree import ElementTree

import pytest
import torch

from nezha_lite.plots import Figure, figure_svg, neighbours_figure, tokenizers_figure
from nezha_lite.plots.numbers import percent
from nezha_lite.plots.static_svg import plain
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quality import IdQuality, id_quality
from nezha_lite.semantic_ids.quantizers import RQKMeans, RQKMeansConfig
from tests.helpers.builders import catalogue
from tests.helpers.hostile import MARKUP
from tests.helpers.slow_quantizing import clustered
from tests.plots.test_static_layout import assert_readable

VECTORS = clustered(200)


def fitted(levels: int, codes: int) -> SemanticIds:
    quantizer = RQKMeans(RQKMeansConfig(levels=levels, codes=codes)).fit(VECTORS)
    return SemanticIds.from_codes(quantizer.encode(VECTORS), quantizer.radices)


@pytest.fixture(scope="module")
def reports() -> dict[str, IdQuality]:
    three = fitted(3, 8)
    codes = torch.randint(0, 8, (200, 2), generator=torch.Generator().manual_seed(0))
    return {
        "RQ-KMeans, 3 × 8": id_quality(three, VECTORS),
        "the same, extra level": id_quality(three.with_extra_level(), VECTORS),
        "random, 2 × 8": id_quality(SemanticIds.from_codes(codes, (8, 8)), VECTORS),
    }


def every_figure(reports: dict[str, IdQuality]) -> list[Figure]:
    return [neighbours_figure(reports), tokenizers_figure(reports)]


def caption(figure: Figure) -> str:
    return plain(figure.layout.title.text).split("\n", 1)[1].replace("\n", " ")


def marks(figure: Figure) -> dict[tuple[str, int], float]:
    """(series, row) → x."""
    return {
        (trace.name, y): x
        for trace in figure.data
        if trace.mode == "markers"
        for x, y in zip(trace.x, trace.y, strict=True)
    }


# ---- tokenizers compared ------------------------------------------------------------------------


def test_marks_stand_at_the_share_of_neighbours(reports: dict[str, IdQuality]) -> None:
    found = marks(neighbours_figure(reports))
    expected = {}
    for row, quality in enumerate(reports.values()):
        expected["chance", row] = 100 * quality.prefixes[0].neighbours_chance
        for use, prefix in zip(quality.levels, quality.prefixes, strict=True):
            if not use.extra:
                name = f"{prefix.level} code{'s' if prefix.level > 1 else ''}"
                expected[name, row] = 100 * prefix.neighbours
    assert found == pytest.approx(expected)
    assert found["1 code", 0] > 5 * found["chance", 0], "clusters are kept"
    assert found["1 code", 2] == pytest.approx(found["chance", 2], abs=3), "random codes keep none"


def test_marks_and_words_compare_use_and_collisions(reports: dict[str, IdQuality]) -> None:
    figure = tokenizers_figure(reports)
    expected = {
        (f"level {level.level}", row): 100 * level.attained
        for row, quality in enumerate(reports.values())
        for level in quality.levels
        if not level.extra
    }
    assert marks(figure) == pytest.approx(expected)
    words = next(trace for trace in figure.data if trace.mode == "text").text
    assert words[1] == "0 % collide"
    rate = reports["random, 2 × 8"].collision_rate
    assert words[2] == f"{percent(rate)} collide"
    assert "Fewest collisions: the same, extra level, 0 % of the items." in caption(figure)


def test_the_caption_says_who_keeps_most(reports: dict[str, IdQuality]) -> None:
    reversed_reports = dict(reversed(reports.items()))
    said = caption(neighbours_figure(reversed_reports))
    kept = reports["RQ-KMeans, 3 × 8"].prefixes[0].neighbours
    assert said.startswith(f"the same, extra level keeps the most: {percent(kept)} of")
    chance = reports["RQ-KMeans, 3 × 8"].prefixes[0].neighbours_chance
    assert f"chance gives {percent(chance)} (grey ring)" in said


def test_series_differ_without_colour(reports: dict[str, IdQuality]) -> None:
    for figure in every_figure(reports):
        shapes = [trace.marker.symbol for trace in figure.data if trace.mode == "markers"]
        assert len(set(shapes)) == len(shapes)
        sizes = [t.marker.size for t in figure.data if t.mode == "markers" and t.name != "chance"]
        assert sizes == sorted(set(sizes), reverse=True), "a mark below another stays visible"


# ---- the page -----------------------------------------------------------------------------------


def test_many_levels_are_cut_to_the_first_and_the_last() -> None:
    deep = id_quality(catalogue(100, (4,) * 9), torch.rand(100, 3))
    figure = tokenizers_figure({"deep": deep})
    names = [trace.name for trace in figure.data if (trace.name or "").startswith("level")]
    assert names == ["level 1", "level 2", "level 3", "level 9"]
    assert "Of 9 levels, the first 3 and the last are shown." in caption(figure)
    names = [trace.name for trace in neighbours_figure({"deep": deep}).data]
    assert names == ["1 code", "2 codes", "3 codes", "9 codes", "chance"]


@pytest.mark.parametrize(
    "name", ["a", "A rather long name of a tokenizer with its settings, 4 × 256"]
)
@pytest.mark.parametrize("count", [1, 3, 9])
def test_nothing_is_cut_or_written_across(name: str, count: int) -> None:
    quality = id_quality(catalogue(100, (12,) * 10), torch.rand(100, 3))
    for figure in every_figure({f"{number} {name}": quality for number in range(count)}):
        assert_readable(figure_svg(figure))


def test_the_static_form_is_the_same_each_time_and_hostile_names_are_text(
    reports: dict[str, IdQuality],
) -> None:
    named = {MARKUP: reports["RQ-KMeans, 3 × 8"]}
    for first, second in zip(every_figure(named), every_figure(named), strict=True):
        svg = figure_svg(first)
        assert svg == figure_svg(second)
        ElementTree.fromstring(svg)
        assert "<img" not in svg
        text = first.to_json()
        assert not re.search(r"<(?!br>|/span>|span style)", text.encode().decode("unicode_escape"))


def test_reports_that_cannot_be_drawn_are_named(reports: dict[str, IdQuality]) -> None:
    blind = id_quality(catalogue(9))
    with pytest.raises(ValueError, match="report of 'blind' has no neighbours"):
        neighbours_figure({**reports, "blind": blind})
    with pytest.raises(ValueError, match="There are no neighbours"):
        neighbours_figure({})
    with pytest.raises(ValueError, match="no tokenizers"):
        tokenizers_figure({})
