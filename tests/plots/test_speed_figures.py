"""Figures of speed: their marks, the sentences computed from the rows, and readable pages."""

import math
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from nezha_lite.bench.decoders import DECODERS as MEASURED
from nezha_lite.common.results import ResultRow
from nezha_lite.plots import (
    Figure,
    figure_svg,
    latency_figure,
    phases_figure,
    tradeoff_figure,
    verifiers_figure,
)
from nezha_lite.plots.draw import SeriesStyle
from nezha_lite.plots.labelled_lines import Line, labelled_lines_figure, spread
from nezha_lite.plots.static_svg import plain
from nezha_lite.plots.style import DECODERS, STRUCTURES
from nezha_lite.verifiers import VERIFIER_KINDS
from tests.helpers.hostile import MARKUP
from tests.helpers.rows import row_of
from tests.plots.test_static_layout import assert_readable, boxes


def row(
    decoder: str | None,
    beam: int | None,
    metrics: dict[str, float],
    verifier: str | None = "prefix",
    **settings: Any,
) -> ResultRow:
    return row_of(metrics, decoder=decoder, verifier=verifier, beam=beam, settings=settings)


def decoding(decoder: str, beam: int | None, ratio: float, verifier: str | None = "prefix") -> Any:
    forward = "captured" if MEASURED[decoder].captured else "eager"
    metrics = {"median_ms": 4 * ratio, f"ratio_to_{forward}_forward": ratio}
    return row(decoder, beam, metrics, verifier)


ROWS = [
    decoding("forward", None, 1.0, None),
    decoding("forward-captured", None, 1.0, None),
    *[decoding("generate-constrained", beam, beam / 2) for beam in (512, 10)],
    *[decoding("nezha", beam, 0.7 + beam / 1000) for beam in (10, 512)],
    *[decoding("nezha", beam, 0.6 + beam / 1000, "off") for beam in (10, 512)],
    *[decoding("autoregressive", beam, 2 + beam / 50) for beam in (10, 512)],
]


def split(decoder: str, beam: int, *phases: float) -> ResultRow:
    names = ("forward_ms", "head_ms", "verify_ms", "select_ms")
    return row(decoder, beam, dict(zip(names, phases, strict=True)))


PHASES = [
    split("nezha-eager", 512, 2, 3, 4, 1),
    split("autoregressive-eager", 10, 15, 0, 4, 1),
    split("nezha-eager", 10, 3, 0.5, 0.25, 0.25),
    decoding("nezha", 10, 1),
]


def quality(decoder: str, beam: int, recall: float, verifier: str = "prefix") -> ResultRow:
    return row(decoder, beam, {"recall@10": recall}, verifier)


def caption(figure: Figure) -> str:
    return plain(figure.layout.title.text).split("\n", 1)[1].replace("\n", " ")


def line(figure: Figure, name: str) -> Any:
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


# ---- phases -------------------------------------------------------------------------------------


def test_phases_are_shares_grouped_by_decoder_and_ordered_by_beam() -> None:
    figure = phases_figure(PHASES)
    assert list(figure.layout.xaxis.ticktext) == ["beam 10", "beam 512", "beam 10"]
    assert list(line(figure, "forward").y) == [75, 20, 75]
    assert list(line(figure, "verify").y) == [6.25, 40, 20]
    totals, groups = (trace for trace in figure.data if trace.type == "scatter")
    assert list(totals.text) == ["4 ms", "10 ms", "20 ms"]
    assert list(groups.text) == ["NEZHA, eager", "autoregressive, eager"]
    assert "75 % of a decode at beam 10, 20 % at beam 512" in caption(figure)


def test_rows_without_phases_are_refused() -> None:
    with pytest.raises(ValueError, match="No row has its time split"):
        phases_figure(ROWS)


# ---- latency ------------------------------------------------------------------------------------


def test_lines_of_latency_hold_the_ratios_by_rising_beam() -> None:
    figure = latency_figure(ROWS)
    generate = line(figure, "generate, constrained")
    assert (list(generate.x), list(generate.y)) == ([10, 512], [5, 256])
    assert list(line(figure, "NEZHA").y) == pytest.approx([0.71, 1.212])
    assert list(line(figure, "NEZHA, unchecked").y) == pytest.approx([0.61, 1.112])
    flat = line(figure, "bare forward pass")
    assert (list(flat.x), list(flat.y), flat.mode) == ([10, 512], [1, 1], "lines")
    assert len([trace for trace in figure.data if "forward" in str(trace.name)]) == 1


def test_the_caption_of_latency_is_computed() -> None:
    said = caption(latency_figure(ROWS))
    assert "captured or eager: NEZHA 1.21; autoregressive 12.2;" in said
    assert "generate, constrained 256." in said
    eager = [decoding("nezha-eager", 50, 3), decoding("autoregressive-eager", 50, 9)]
    said = caption(latency_figure(eager))
    assert said.startswith("At beam 50, in bare forward passes of the same kind, captured or eager")
    assert ": NEZHA, eager 3; autoregressive," in said
    unchecked = latency_figure([decoding("nezha", 50, 3, "off")])
    assert not plain(unchecked.layout.title.text).split("\n", 1)[1:]


def test_rows_of_two_settings_are_not_mixed() -> None:
    with pytest.raises(ValueError, match=r"Two rows are nezha \(verifier prefix\) at beam 10"):
        latency_figure([*ROWS, decoding("nezha", 10, 3)])


def test_everything_that_is_measured_has_a_look_of_its_own() -> None:
    assert set(MEASURED) - {"forward", "forward-captured"} == set(DECODERS)
    assert set(VERIFIER_KINDS) == set(STRUCTURES)
    for looks in (DECODERS, STRUCTURES):
        seen = {(look.dash, look.symbol) for look in looks.values()}
        assert len(seen) == len(looks), "two lines differ in colour alone"


# ---- trade-offs ---------------------------------------------------------------------------------


def test_a_trade_off_joins_by_decoder_verifier_and_beam() -> None:
    scores = [
        quality("nezha", 10, 0.3),
        quality("nezha", 10, 0.2, "off"),
        quality("nezha", 999, 0.9),
        quality("autoregressive", 512, 0.4),
    ]
    figure = tradeoff_figure(ROWS, scores, "recall@10", "Recall@10", "Recall", "Said.")
    points = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert {name: values for name, (_, values) in points.items()} == {
        "NEZHA": [0.3],
        "NEZHA, unchecked": [0.2],
        "autoregressive": [0.4],
    }
    assert points["NEZHA"][0] == pytest.approx([4 * 0.71])
    assert caption(figure) == "Said. Marks along a line: beam 10, 512."
    with pytest.raises(ValueError, match="measured for both median_ms and valid"):
        tradeoff_figure(ROWS, scores, "valid", "", "")


# ---- verifiers ----------------------------------------------------------------------------------


def test_what_was_extrapolated_is_dotted_and_has_no_marks() -> None:
    rows = [
        row(None, 512, {"step_ms": 1}, "trie", items=10**7),
        row(None, 512, {"step_ms": 1}, "trie", items=10**4),
        row(None, 512, {"step_ms": 1}, "trie", items=10**9, extrapolated=True),
        row(None, 512, {"step_ms": 1}, "isin", items=10**4),
    ]
    values = {
        ("trie", 10**4): 1.0,
        ("trie", 10**7): 2.0,
        ("trie", 10**9): 3.0,
        ("isin", 10**4): 9.0,
    }
    figure = verifiers_figure(rows, values, "ms", "Title", "Caption")
    measured, beyond = line(figure, "trie"), line(figure, "trie, extrapolated")
    assert (list(measured.x), list(measured.y)) == ([10**4, 10**7], [1, 2])
    assert (list(beyond.x), list(beyond.y)) == ([10**7, 10**9], [2, 3])
    assert (beyond.mode, beyond.line.dash) == ("lines", "dot")
    assert list(figure.layout.xaxis.ticktext) == ["10k", "10M", "1B"]
    few = [row(None, 512, {"step_ms": 1}, "trie", items=500)]
    ticks = verifiers_figure(few, {("trie", 500): 1.0}, "ms", "", "").layout.xaxis.ticktext
    assert list(ticks) == ["500"]
    del values["isin", 10**4]
    assert "torch.isin" not in {
        trace.name for trace in verifiers_figure(rows, values, "", "", "").data
    }


# ---- names at the ends of lines -----------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted", [[0.0], [0.5, 0.5, 0.5], [1.0, 0.98, 0.1], [0.0, 0.05, 1.0, 0.97], [0.3] * 9]
)
def test_names_keep_their_distance_their_order_and_the_page(wanted: list[float]) -> None:
    places = spread(wanted, 0.1, 0.0, 1.0)
    assert min(places) >= -1e-9
    assert max(places) <= 1 + 1e-9
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for low, high in pairwise(order):
        assert places[high] - places[low] >= 0.1 - 1e-9


def test_names_with_room_stay_where_their_lines_end() -> None:
    assert spread([0.9, 0.1, 0.5], 0.1, 0.0, 1.0) == pytest.approx([0.9, 0.1, 0.5])
    assert spread([0.5, 0.5], 0.1, 0.0, 1.0) == pytest.approx([0.45, 0.55])


@pytest.mark.parametrize(("xs", "ys"), [([], []), ([1], [1, 2]), ([1, 2], [0, 1]), ([-1], [1])])
def test_lines_that_cannot_be_drawn_are_named(xs: list[float], ys: list[float]) -> None:
    with pytest.raises(ValueError, match=r"line 'one' is .*, but must be as many x as y"):
        labelled_lines_figure([Line(SeriesStyle("one", "#000000"), xs, ys)], "", "", "", "", [])
    with pytest.raises(ValueError, match=r"lines is \[\], but must be one"):
        labelled_lines_figure([], "", "", "", "", [])


# ---- the page -----------------------------------------------------------------------------------


def every_figure() -> list[Figure]:
    crowd = [decoding(name, beam, 1 + beam / 50) for name in DECODERS for beam in (10, 50, 512)]
    names = [MARKUP, *VERIFIER_KINDS]
    sizes = [row(None, 512, {"x": 1}, name, items=10**power) for name in names for power in (4, 7)]
    values = {(str(one.verifier), one.settings["items"]): 1.0 for one in sizes}
    scores = [quality(name, beam, 0.1) for name in DECODERS for beam in (10, 50, 512)]
    return [
        phases_figure(PHASES),
        latency_figure([*ROWS[:2], *crowd]),
        tradeoff_figure(crowd, scores, "recall@10", "Recall@10", "Recall against time", MARKUP),
        verifiers_figure(sizes, values, "ms", MARKUP, MARKUP),
    ]


@pytest.mark.parametrize("place", range(4))
def test_nothing_is_cut_or_written_across_and_data_is_text(place: int) -> None:
    svg = figure_svg(every_figure()[place])
    assert svg == figure_svg(every_figure()[place])
    assert_readable(svg)
    ElementTree.fromstring(svg)
    assert "<img" not in svg


def test_a_long_legend_goes_on_in_another_row() -> None:
    names = {trace.name for trace in every_figure()[2].data}
    rows = {box.bottom for box in boxes(figure_svg(every_figure()[2])) if box.text in names}
    assert len(names) == len(DECODERS)
    assert len(rows) > 1


def test_the_page_has_room_for_what_spans_many_decades() -> None:
    steep = Line(SeriesStyle("steep", "#000000"), [1, 10], [1e-6, 1e7])
    figure = labelled_lines_figure([steep], "x", "y", "t", "c", [(1, "1"), (10, "10")])
    ticks = figure.layout.yaxis.tickvals
    assert all(math.isclose(high / low, 100) for low, high in pairwise(ticks))
    assert_readable(figure_svg(figure))
