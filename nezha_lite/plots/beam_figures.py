"""Figures of one decode: how many drafts exist at each level, and the tree of the beams."""

from __future__ import annotations

import math
from dataclasses import dataclass

import plotly.graph_objects as go

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import DecodeTrace
from nezha_lite.plots.beam_nodes import DraftCounts, Fate, Node, beam_nodes
from nezha_lite.plots.static_svg import WIDTH, shortened, text_width
from nezha_lite.plots.style import BLUE, GREY, ORANGE, VERMILLION, Figure, headed, plot_text
from nezha_lite.plots.traces import bar_trace, marker_trace, named_axis, segment_trace, text_trace
from nezha_lite.semantic_ids import SemanticIds

MAX_LABELLED = 80  # nodes of a level that still leave room for text
ROW_HEIGHT, MAX_HEIGHT = 15, 1200  # pixels
LEFT, RIGHT = 30, 20  # margins in pixels
TITLE_ROOM, LABEL_SIZE, LABEL_GAP = 310, 11, 9  # pixels: beside a leaf; of the font; after a mark
FATES: dict[Fate, dict[str, object]] = {
    Fate.KEPT: {"symbol": "circle", "color": BLUE, "size": 10},
    Fate.UNCHECKED: {"symbol": "diamond", "color": ORANGE, "size": 11},
    Fate.REJECTED: {"symbol": "x", "color": VERMILLION, "size": 9},
    Fate.PRUNED: {"symbol": "circle-open", "color": GREY, "size": 9, "line": {"width": 1.5}},
}
SHORT = {
    Fate.KEPT: "kept",
    Fate.UNCHECKED: "kept, does not exist",
    Fate.REJECTED: "rejected: does not exist",
    Fate.PRUNED: "pruned",
}


def drafts_figure(counts: list[DraftCounts], title: str = "Do the drafts exist?") -> Figure:
    """Stacked bars: of the drafts proposed at each level, how many exist.

    Args:
        counts: from `draft_counts`.
        title: plain text.
    """
    levels = [count.level for count in counts]
    series = (
        ("exists", [count.existing for count in counts], BLUE, ""),
        ("does not exist: rejected", [count.rejected for count in counts], VERMILLION, "/"),
        ("does not exist: kept unchecked", [count.unchecked for count in counts], ORANGE, "x"),
    )
    bars = [
        bar_trace(zip(levels, numbers, strict=True), name, colour, pattern, hoverinfo="name+y")
        for name, numbers, colour, pattern in series
    ]
    totals = text_trace(
        zip(levels, [count.proposed for count in counts], strict=True),
        [f"{count.existing} of {count.proposed} exist" for count in counts],
    )
    layout = headed(
        title,
        "Plain blue drafts exist. Striped ones are hallucinations: no item has such an ID.",
        200,
        barmode="stack",
        showlegend=True,
        xaxis=named_axis([f"level {level}" for level in levels], levels),
        yaxis={
            "title": {"text": "drafts proposed"},
            "range": [0, 1.15 * max([1, *(count.proposed for count in counts)])],
        },
    )
    return Figure([*bars, totals], layout)


@dataclass(frozen=True)
class PlacedNode:
    """A node and where it is drawn: x is its level, y runs downwards from 0 to 1."""

    node: Node
    y: float
    parent_y: float


def place_nodes(nodes: list[Node]) -> list[PlacedNode]:
    """Children in the order of their parents, so that no two edges cross."""
    placed: list[PlacedNode] = []
    parents = {0: 0.5}  # place in the beam → y
    for level in range(1, max((node.level for node in nodes), default=0) + 1):
        column = [node for node in nodes if node.level == level]
        column.sort(key=lambda node: (parents[node.parent], -node.log_prob, node.candidate))
        rows = [
            PlacedNode(node, (index + 0.5) / len(column), parents[node.parent])
            for index, node in enumerate(column)
        ]
        placed += rows
        parents = {row.node.position: row.y for row in rows if row.node.position >= 0}
    return placed


def beam_tree_figure(
    trace: DecodeTrace,
    row: int,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
    max_pruned: int = 3,
    title: str = "The beam tree",
) -> Figure:
    """The beams of one prompt, level by level, with rejected and pruned drafts.

    Args:
        trace: of a decode with `trace=True`.
        row: of the batch.
        semantic_ids: the catalogue, for the items of the leaves.
        dataset: for their titles.
        max_pruned: existing candidates shown at each level that the beam had no room for.
        title: plain text.
    """
    placed = place_nodes(beam_nodes(trace, row, max_pruned))
    return Figure(
        *tree_parts(placed, len(trace.levels), len(trace.levels), semantic_ids, dataset, title)
    )


def tree_parts(
    placed: list[PlacedNode],
    levels: int,
    upto: int,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
    title: str,
) -> tuple[list[go.Scatter], dict[str, object]]:
    """Traces and layout of a beam tree drawn up to a level (0: the root alone).

    The traces are always edges, labels, root, then one for each fate in the order of `FATES`.
    """
    shown = [row for row in placed if row.node.level <= upto]
    sizes = [sum(row.node.level == level for row in placed) for level in range(1, levels + 1)]
    largest = max(sizes, default=1)
    labelled = largest <= MAX_LABELLED
    # One level in pixels: the column of the prompt begins 0.15 levels from the left margin.
    pixels = (WIDTH - LEFT - RIGHT - LABEL_GAP - TITLE_ROOM) / (levels + 0.15)
    # Edges begin right of the widest code, so that they cross no label.
    codes = [text_width(str(row.node.codes[-1]), LABEL_SIZE) for row in placed]
    gutter = (LABEL_GAP + max(codes, default=0) + 2) / pixels if labelled else 0
    edges = segment_trace(
        [
            (
                (row.node.level - 1 + (gutter if row.node.level > 1 else 0), row.parent_y),
                (row.node.level, row.y),
            )
            for row in shown
        ],
        "#BBBBBB",
    )
    texts = shown if labelled else []
    labels = text_trace(
        [(row.node.level + LABEL_GAP / pixels, row.y) for row in texts],
        [plot_text(_label(row.node, levels, semantic_ids, dataset)) for row in texts],
        position="middle right",
        size=LABEL_SIZE,
    )
    root = marker_trace(
        [(0, 0.5)],
        {"symbol": "square", "color": "#222222", "size": 11},
        hover=["the prompt, read by the backbone once"],
    )
    fates = [
        marker_trace(
            [(row.node.level, row.y) for row in shown if row.node.fate is fate],
            style,
            name=SHORT[fate],
            hover=[
                plot_text(describe(row.node, semantic_ids, dataset))
                for row in shown
                if row.node.fate is fate
            ],
        )
        for fate, style in FATES.items()
    ]
    layout = headed(
        title,
        "Each column adds a code. Filled marks live on; orange diamonds do so although no item has "
        "such a prefix. Crosses were rejected for that; rings exist but scored below the beam.",
        min(MAX_HEIGHT, max(240, ROW_HEIGHT * largest)),
        showlegend=True,
        hovermode="closest",
        xaxis={
            "tickvals": list(range(levels + 1)),
            "ticktext": ["prompt", *(f"level {level}" for level in range(1, levels + 1))],
            "range": [-0.15, levels + (LABEL_GAP + TITLE_ROOM) / pixels],
            "showgrid": False,
        },
        yaxis={"visible": False, "range": [1.02, -0.02]},
    )
    layout["margin"] |= {"l": LEFT, "r": RIGHT}
    return [edges, labels, root, *fates], layout


def item_label(items: list[int], dataset: InteractionDataset) -> str:
    """The first item's title, and how many more share its ID."""
    if not items:
        return "✕ does not exist"
    title = dataset.title(items[0])
    return title if len(items) == 1 else f"{title} (and {len(items) - 1} more)"


def describe(node: Node, semantic_ids: SemanticIds, dataset: InteractionDataset) -> str:
    """A node in one line of plain text."""
    codes = "-".join(map(str, node.codes))
    line = f"{codes}, log-probability {node.log_prob:.2f} ({percent(node.log_prob)}), "
    line += node.fate.value
    if node.level == semantic_ids.levels:
        items = semantic_ids.items_of(node.key)
        line += f": {item_label(items, dataset)}" if items else ""
    return line


def percent(log_prob: float) -> str:
    """exp(log_prob) as a percentage of two digits."""
    share = 100 * math.exp(log_prob)
    return f"{share:.2g} %" if share < 99.5 else "100 %"  # not 1e+02


def _label(node: Node, levels: int, semantic_ids: SemanticIds, dataset: InteractionDataset) -> str:
    if node.level < levels:
        return str(node.codes[-1])
    items = semantic_ids.items_of(node.key)
    place = f"{node.position + 1}. " if node.position >= 0 else ""
    more = f" (and {len(items) - 1} more)" if len(items) > 1 else ""
    room = TITLE_ROOM - text_width(place + more, LABEL_SIZE)
    return place + shortened(item_label(items[:1], dataset), room, LABEL_SIZE) + more
