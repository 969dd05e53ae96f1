"""Static figures and widgets as pages: no text is cut off, none is written across another."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
import torch

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.decoding import NezhaDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.plots import attention_mask_figure, bars_figure, beam_tree_figure, figure_svg
from nezha_lite.plots.static_svg import page_svg, shortened, text_width, wrapped
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import HashSetVerifier
from nezha_lite.widgets import DecodeExplorer, VerifierLab

SVG = "{http://www.w3.org/2000/svg}"
LONG = "Purrelby Extraordinarily Comfortable Scratching Post with a Hammock, Midnight Blue, " * 2
# Pixels at size 13 in DejaVu Sans, a broad fallback for Helvetica, as a browser measured them.
MEASURED = {
    "Level 1: 50 of 50 drafts exist. Level 2: 45 of 50 drafts exist; 5 rejected.": 458.7,
    "1. Purrelby Slicker Brush, Midnight Blue": 256.6,
    "query: the token that looks": 175.4,
    "SP1 for i12": 70.7,
    "MINIMUM WAGE WORK": 148.6,
}


@dataclass(frozen=True)
class Box:
    """Where a text stands on the page, in pixels; y grows downwards."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        across = min(self.right, other.right) - max(self.left, other.left)
        return across > 0 and min(self.bottom, other.bottom) - max(self.top, other.top) > 0


def boxes(svg: str) -> list[Box]:
    def walk(parent: ElementTree.Element, shift: float) -> Iterator[Box]:
        for child in parent:
            if child.tag == f"{SVG}g":
                moved = re.fullmatch(r"translate\(0,([\d.]+)\)", child.get("transform", ""))
                assert moved
                yield from walk(child, shift + float(moved[1]))
            elif child.tag == f"{SVG}text":
                yield text_box(child, shift)

    return list(walk(ElementTree.fromstring(svg), 0.0))


def text_box(element: ElementTree.Element, shift: float) -> Box:
    text, size = element.text or "", float(element.get("font-size", "nan"))
    x, y = float(element.get("x", "nan")), float(element.get("y", "nan")) + shift
    width = text_width(text, size)
    before = {"start": 0.0, "middle": width / 2, "end": width}[element.get("text-anchor", "")]
    # Letters reach 0.75 em above the baseline and 0.2 em below it.
    if "transform" in element.attrib:  # upwards: what was left is below
        return Box(text, x - 0.75 * size, y - width + before, x + 0.2 * size, y + before)
    return Box(text, x - before, y - 0.75 * size, x - before + width, y + 0.2 * size)


def assert_readable(svg: str) -> None:
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.get("viewBox", "").split())
    found = boxes(svg)
    assert found
    for box in found:
        inside = box.left >= 0 and box.top >= 0 and box.right <= width and box.bottom <= height
        assert inside, f"{box} is cut at the edge of {width} x {height}"
    for one, two in combinations(found, 2):
        assert not one.meets(two), f"{one} is written across {two}"


CODES = torch.randint(0, 64, (300, 3), generator=torch.Generator().manual_seed(5))
IDS = SemanticIds.from_codes(CODES, (64, 64, 64))


def dataset(title: str) -> InteractionDataset:
    generator = torch.Generator().manual_seed(2)
    sequences = torch.randint(0, IDS.n_items, (6, 15), generator=generator).tolist()
    return InteractionDataset(
        name="toy",
        items=IDS.items,
        users=tuple(f"user {user}" for user in range(6)),
        sequences=tuple(map(tuple, sequences)),
        texts=tuple(ItemText(f"{title} {item}") for item in range(IDS.n_items)),
    )


@pytest.fixture(scope="module")
def model() -> NezhaModel:
    return NezhaModel.from_preset("tiny", IDS).eval()


# ---- widths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "pixels"), MEASURED.items())
def test_widths_are_estimated_a_little_too_wide(text: str, pixels: float) -> None:
    assert pixels <= text_width(text) <= 1.15 * pixels
    assert text_width(text, 26) == pytest.approx(2 * text_width(text))


def test_ideographs_are_as_wide_as_high() -> None:
    assert text_width("漢字", 20) == 40


@pytest.mark.parametrize("text", ["", "  ", "one", LONG, "x" * 300, f"a {'W' * 99} b {LONG}"])
def test_wrapping_keeps_every_letter_and_the_width(text: str) -> None:
    lines = wrapped(text, 200)
    assert all(0 < text_width(line) <= 200 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    for line, following in pairwise(lines):
        assert text_width(f"{line} {following.split()[0]}") > 200, "a word more had room"


def test_shortening_fills_the_room_and_no_more() -> None:
    assert shortened("short", 100) == "short"
    short = shortened(LONG, 150)
    assert short.endswith("…")
    assert LONG.startswith(short[:-1])
    assert 120 < text_width(short) <= 150


# ---- pages --------------------------------------------------------------------------------------


def test_the_check_finds_text_that_is_cut_or_crossed() -> None:
    with pytest.raises(AssertionError, match="is cut"):
        assert_readable(figure_svg(bars_figure(["a"], [1], title=LONG)))
    with pytest.raises(AssertionError, match="written across"):
        assert_readable(figure_svg(bars_figure([LONG[:40]] * 3, [1, 1, 1])))


@pytest.mark.parametrize("tokens", [2, 12, 40, 95])
@pytest.mark.parametrize("label", ["t", "item 7 code", "a token with a rather long name"])
def test_a_mask_has_room_for_its_axes(tokens: int, label: str) -> None:
    mask = torch.tril(torch.ones(tokens, tokens)).bool()
    figure = attention_mask_figure(mask, [f"{label} {n}" for n in range(tokens)], "A mask")
    svg = figure_svg(figure)
    assert_readable(svg)
    (title,) = [box for box in boxes(svg) if box.text.startswith("key: ")]
    labels = [box for box in boxes(svg) if box.text.startswith(label) and box.top > 300]
    assert all(box.bottom < title.top for box in labels)
    # Plotly needs the same room: labels, their ticks and the title below them.
    longest = text_width(f"{label} {tokens - 1}", figure.layout.xaxis.tickfont.size)
    assert figure.layout.margin.b >= longest + 36


def test_captions_and_paragraphs_stay_on_the_page() -> None:
    figure = bars_figure(["a", "b"], [1, 2], caption=LONG.upper())
    assert_readable(page_svg([[LONG, "x" * 200], figure, [LONG]]))


@pytest.mark.parametrize("title", [LONG, LONG.upper()])
@pytest.mark.parametrize(("beam", "mode"), [(10, "off"), (10, "prefix"), (50, "final")])
@pytest.mark.parametrize("kind", [VerifierLab, DecodeExplorer])
def test_a_widget_on_paper_is_readable(
    kind: type, beam: int, mode: str, title: str, model: NezhaModel
) -> None:
    widget = kind(model, IDS, dataset(title), beam=beam, verification=mode)
    assert_readable(widget.static_svg())


@pytest.mark.parametrize("mode", ["off", "prefix"])
def test_no_edge_of_the_tree_crosses_a_label(model: NezhaModel, mode: str) -> None:
    decoder = NezhaDecoder(model, HashSetVerifier(IDS), mode)  # type: ignore[arg-type]
    trace = decoder.decode(model.build_prompts([[5, 6]], IDS), 10, trace=True).trace
    assert trace is not None
    svg = figure_svg(beam_tree_figure(trace, 0, IDS, dataset("thing")))
    paths = [path.get("d", "") for path in ElementTree.fromstring(svg).iter(f"{SVG}path")]
    edges = [
        [tuple(map(float, point.split(","))) for point in part.split("L")]
        for path in paths
        for part in path.split("M")
        if "L" in part
    ]
    labels = [box for box in boxes(svg) if re.match(r"\d|✕|thing", box.text)]
    assert len(edges) == len(labels) >= 30
    for (x1, y1), (x2, y2) in edges:
        for box in labels:
            for share in torch.linspace(0, 1, 50).tolist():
                x, y = x1 + share * (x2 - x1), y1 + share * (y2 - y1)
                assert not (box.left < x < box.right and box.top < y < box.bottom), box


def test_an_everyday_title_is_not_shortened(model: NezhaModel) -> None:
    title = "Purrelby Slicker Brush, Midnight Blue"
    explorer = DecodeExplorer(model, IDS, dataset(title), beam=10, verification="prefix")
    labels = [box.text for box in boxes(explorer.static_svg())]
    whole = [text for text in labels if f". {title}" in text or f"· {title} " in text]
    assert len(whole) == 20, "in the tree and in the list"
    assert not [text for text in labels if "…" in text]
