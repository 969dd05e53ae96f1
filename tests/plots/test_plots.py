"""Figures: what their marks say, in both forms, and that data never becomes markup."""

import json
import re
from itertools import combinations
from xml.etree import ElementTree

import plotly.graph_objects as go
import plotly.io
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.decoding import DecodeTrace, NezhaDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.plots import (
    Figure,
    attention_mask_figure,
    bars_figure,
    beam_tree_figure,
    figure_svg,
    id_space_figure,
    lines_figure,
)
from nezha_lite.plots.beam_figures import (
    Outcome,
    beam_nodes,
    draft_counts,
    drafts_figure,
    tree_nodes,
)
from nezha_lite.plots.numbers import number
from nezha_lite.plots.static_svg import page_svg
from nezha_lite.plots.style import TEMPLATE
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import HashSetVerifier
from tests.helpers.hostile import MARKUP

HOSTILE = MARKUP + "\x00"
SVG = "{http://www.w3.org/2000/svg}"
MODES = ("off", "final", "prefix")


def catalogue() -> SemanticIds:
    generator = torch.Generator().manual_seed(3)
    return SemanticIds.from_codes(torch.randint(0, 5, (40, 3), generator=generator), (5, 5, 5))


IDS = catalogue()
TITLED = InteractionDataset(
    "toy",
    items=IDS.items,
    users=("u",),
    sequences=((0, 1, 2, 3),),
    texts=tuple(ItemText(f"thing {i} {HOSTILE}") for i in range(IDS.n_items)),
)


@pytest.fixture(scope="module")
def model() -> NezhaModel:
    return NezhaModel.from_preset("tiny", IDS).eval()


def decode(model: NezhaModel, mode: str, beam: int) -> DecodeTrace:
    decoder = NezhaDecoder(model, HashSetVerifier(IDS), mode)
    prompts = model.build_prompts([[5, 6], [0, 1, 2]], IDS)
    trace = decoder.decode(prompts, beam, trace=True).trace
    assert trace is not None
    return trace


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter(f"{SVG}text")]


def every_figure(model: NezhaModel) -> list[Figure]:
    trace = decode(model, "prefix", 6)
    return [
        bars_figure([HOSTILE, "b"], [1, 2], [0.1, 0.2], HOSTILE, HOSTILE, HOSTILE),
        lines_figure({HOSTILE: ([1, 2], [3, 4]), "b": ([1], [1])}, HOSTILE, "y", HOSTILE, HOSTILE),
        attention_mask_figure(torch.eye(2, dtype=torch.bool), [HOSTILE, "b"], HOSTILE, HOSTILE),
        id_space_figure(IDS),
        drafts_figure(draft_counts(trace, 0)),
        beam_tree_figure(trace, 0, IDS, TITLED),
    ]


# ---- both forms ---------------------------------------------------------------------------------


def test_every_figure_is_stored_interactive_and_static(model: NezhaModel) -> None:
    for figure in every_figure(model):
        stored, _ = DisplayFormatter().format(figure)
        assert {"application/vnd.plotly.v1+json", "image/svg+xml", "text/plain"} <= set(stored)
        assert "text/html" not in stored
        assert stored["image/svg+xml"] == figure_svg(figure)
        json.dumps(stored, allow_nan=False)


def test_static_forms_are_well_formed_and_the_same_each_time(model: NezhaModel) -> None:
    for first, second in zip(every_figure(model), every_figure(model), strict=True):
        assert figure_svg(first) == figure_svg(second)
        names = {element.tag.removeprefix(SVG) for element in parsed(figure_svg(first)).iter()}
        assert names <= {"svg", "g", "rect", "path", "pattern", "circle", "polygon", "text"}


def test_hostile_text_is_shown_and_never_read_as_markup(model: NezhaModel) -> None:
    for figure in every_figure(model):
        for text in strings(json.loads(figure.to_json())):
            # Ours are the tags that set a caption apart; the data's would be written &lt;.
            assert "<" not in re.sub(r"<br>|</span>|<span style=\"[\w:;#-]+\">", "", text), text
            assert "$" not in text, text
    bars = figure_svg(every_figure(model)[0])
    assert HOSTILE.removesuffix("\x00") in texts(bars)


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


def test_the_template_is_small_and_not_registered() -> None:
    assert len(json.dumps(TEMPLATE.to_plotly_json())) < 1500
    assert plotly.io.templates.default == "plotly"


def test_captions_are_in_the_picture() -> None:
    caption = "The right bar is higher, " * 8
    figure = bars_figure(["a", "b"], [1, 2], caption=caption)
    assert " ".join(texts(figure_svg(figure))).count("right bar is higher") == 8


def test_an_unknown_trace_is_refused() -> None:
    figure = Figure([go.Pie(values=[1])], bars_figure(["a"], [1]).layout)
    with pytest.raises(ValueError, match="'pie'"):
        figure_svg(figure)


def test_a_page_holds_its_blocks_one_below_the_other() -> None:
    page = page_svg([["first <line>"], bars_figure(["a"], [1]), ["last line"]])
    places = {e.text: float(e.get("y", "nan")) for e in parsed(page).iter(f"{SVG}text")}
    assert (
        places["first <line>"]
        < 30
        < 300
        < places["last line"]
        < float(parsed(page).get("height", ""))
    )


# ---- charts -------------------------------------------------------------------------------------


def test_bars_are_as_high_as_their_values() -> None:
    svg = figure_svg(bars_figure(["a", "b", "c"], [1.0, 2.0, 0.5]))
    rects = [e for e in parsed(svg).iter(f"{SVG}rect") if e.get("fill", "").startswith("#")]
    heights = [float(e.get("height", "nan")) for e in rects]
    assert heights[1] / heights[0] == pytest.approx(2, abs=0.01)
    assert heights[2] / heights[0] == pytest.approx(0.5, abs=0.01)
    assert {"1", "2", "0.5"} <= set(texts(svg))
    assert "0" in texts(figure_svg(bars_figure(["none"], [0.0])))


def test_an_error_bar_reaches_as_far_as_its_error() -> None:
    svg = figure_svg(bars_figure(["a"], [1.0], [0.25]))
    (bar,) = [e for e in parsed(svg).iter(f"{SVG}rect") if e.get("fill", "").startswith("#")]
    whisker = next(
        e.get("d", "") for e in parsed(svg).iter(f"{SVG}path") if e.get("stroke") == "#000000"
    )
    ends = [float(part.split(",")[1]) for part in whisker[1:].split("L")]
    assert abs(ends[0] - ends[1]) / float(bar.get("height", "")) == pytest.approx(0.5, abs=0.01)


def test_series_differ_without_colour() -> None:
    figure = lines_figure({f"s{i}": ([1, 2], [i, i]) for i in range(7)}, "x", "y")
    looks = {(trace.line.dash, trace.marker.symbol) for trace in figure.data}
    assert len(looks) == 7


def test_large_ticks_are_short() -> None:
    figure = lines_figure({"s": ([0, 60_000], [0, 6e6]), "t": ([0], [0])}, "x", "y")
    assert {"20k", "60k", "2M", "6M"} <= set(texts(figure_svg(figure)))


def test_a_logarithmic_axis_gives_equal_room_to_equal_ratios() -> None:
    svg = figure_svg(lines_figure({"s": ([1, 10, 100], [1, 2, 3])}, "x", "y", log_x=True))
    xs = [float(e.get("cx", "nan")) for e in parsed(svg).iter(f"{SVG}circle")]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bars_figure(["a"], [1, 2]), r"is \[1, 2, 2\], but must be equal"),
        (lambda: bars_figure(["a"], [1], [1, 2]), r"is \[1, 1, 2\]"),
        (
            lambda: lines_figure({"s": ([1], [1, 2])}, "x", "y"),
            "number of y of 's' is 2",
        ),
        (lambda: lines_figure({"s": ([0, 1], [1, 2])}, "x", "y", log_x=True), "x of 's' is"),
        (lambda: attention_mask_figure(torch.ones(2, 3).bool(), ["a", "b"]), r"\(2, 3\)"),
    ],
)
def test_figures_that_cannot_be_drawn_say_why(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("tokens", [1, 7, 40, 95])
def test_a_mask_fills_a_cell_for_each_true(tokens: int) -> None:
    mask = torch.tril(torch.ones(tokens, tokens)).bool()
    figure = attention_mask_figure(mask, [f"t{i}" for i in range(tokens)])
    empty, filled = list(parsed(figure_svg(figure)).iter(f"{SVG}path"))[-2:]
    assert filled.get("d", "").count("M") == int(mask.sum())
    assert empty.get("d", "").count("M") == int((~mask).sum())
    assert len(figure.layout.xaxis.tickvals) <= 40
    rows = [float(cell.split(",")[1].split("h")[0]) for cell in filled.get("d", "").split("M")[1:]]
    assert rows == sorted(rows), "the first token is at the top"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.12345, "0.123"),
        (12.5, "12.5"),
        (999.6, "1,000"),
        (2e-5, "2.00e-05"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


# ---- the beam tree ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("beam", [1, 4, 30, 200])
def test_every_node_has_the_fate_that_a_recount_gives_it(
    model: NezhaModel, mode: str, beam: int
) -> None:
    catalogue_codes = IDS.codes.tolist()
    trace = decode(model, mode, beam)
    for row in (0, 1):
        nodes = beam_nodes(trace, row, max_pruned=2)
        for level, step in enumerate(trace.levels, start=1):
            here = [node for node in nodes if node.level == level]
            living = sorted((n for n in here if n.position >= 0), key=lambda n: n.position)
            kept = [codes for codes in trace.prefixes(level)[row].tolist() if codes[0] >= 0]
            assert [list(node.codes) for node in living] == kept
            for node in here:
                exists = list(node.codes) in [codes[:level] for codes in catalogue_codes]
                assert exists == (node.outcome in (Outcome.KEPT, Outcome.PRUNED))
                assert (node.position >= 0) == (node.outcome in (Outcome.KEPT, Outcome.UNCHECKED))
                assert node.key == int(IDS.keys_of(torch.tensor(node.codes)))
            assert sum(n.outcome is Outcome.PRUNED for n in here) <= 2
            count = draft_counts(trace, row)[level - 1]
            assert count.rejected == sum(n.outcome is Outcome.REJECTED for n in here)
            assert count.proposed <= step.proposed.shape[1]
            assert mode != "off" or count.rejected == 0
            assert mode != "prefix" or count.unchecked == 0


@pytest.mark.parametrize("mode", MODES)
def test_edges_of_the_tree_do_not_cross(model: NezhaModel, mode: str) -> None:
    rows = tree_nodes(beam_nodes(decode(model, mode, 12), 0))
    for one, two in combinations(rows, 2):
        if one.node.level == two.node.level:
            assert (one.parent_y - two.parent_y) * (one.y - two.y) >= 0


@pytest.mark.parametrize("mode", MODES)
def test_the_tree_shows_every_node_once_and_names_the_leaves(model: NezhaModel, mode: str) -> None:
    trace = decode(model, mode, 8)
    nodes = beam_nodes(trace, 0)
    figure = beam_tree_figure(trace, 0, IDS, TITLED)
    marks = [trace for trace in figure.data if trace.mode == "markers"][1:]  # without the root
    assert sum(len(trace.x) for trace in marks) == len(nodes)
    assert len({trace.marker.symbol for trace in marks}) == len(marks), "shape says it too"
    leaves = {
        node.position: node for node in nodes if node.level == IDS.levels and node.position >= 0
    }
    labels = texts(figure_svg(figure))
    for place, leaf in leaves.items():
        (label,) = [text for text in labels if text.startswith(f"{place + 1}. ")]
        items = IDS.items_of(leaf.key)
        assert (f"thing {items[0]} " in label) if items else ("does not exist" in label)


def test_a_wide_tree_drops_its_labels_and_stays_drawable(model: NezhaModel) -> None:
    svg = figure_svg(beam_tree_figure(decode(model, "off", 125), 0, IDS, TITLED))
    assert float(parsed(svg).get("height", "")) < 1500
    assert not [text for text in texts(svg) if text.startswith("1. ")]


def test_bars_of_drafts_add_up(model: NezhaModel) -> None:
    counts = draft_counts(decode(model, "prefix", 10), 0)
    existing, rejected, unchecked, totals = drafts_figure(counts).data
    for index, count in enumerate(counts):
        assert existing.y[index] + rejected.y[index] + unchecked.y[index] == totals.y[index]
        assert totals.y[index] == count.proposed
    patterns = [bar.marker.pattern.shape for bar in (existing, rejected, unchecked)]
    assert len(set(patterns)) == 3
