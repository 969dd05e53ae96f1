"""Figures of one decode: how many drafts exist at each level, and the tree of the beams.

Only the `DecodeTrace` is read; nothing here decodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import plotly.graph_objects as go
import torch

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import DecodeTrace
from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLUE, GREY, ORANGE, VERMILLION
from nezha_lite.plots.numbers import code_text, probability
from nezha_lite.plots.static_svg import WIDTH, shortened, text_width
from nezha_lite.plots.style import Figure, SeriesStyle
from nezha_lite.semantic_ids import SemanticIds

MAX_LABELLED = 80  # nodes of a level with enough space for text
ROW_HEIGHT, MAX_HEIGHT = 15, 1200  # pixels
LEFT, RIGHT = 30, 20  # margins in pixels
TITLE_WIDTH, LABEL_SIZE, LABEL_GAP = 310, 11, 9  # pixels: beside a leaf; of the font; after a mark


class Outcome(Enum):
    """What the beam search did with a candidate; the value is the text for a reader."""

    KEPT = "kept"
    UNCHECKED = "kept, though it does not exist"
    REJECTED = "rejected: does not exist"
    PRUNED = "pruned: below the beam's worst score"


# The mark of each outcome, named in the legend, and its size in pixels.
OUTCOMES = {
    Outcome.KEPT: (SeriesStyle("kept", BLUE), 10),
    Outcome.UNCHECKED: (SeriesStyle("kept, does not exist", ORANGE, symbol="diamond"), 11),
    Outcome.REJECTED: (SeriesStyle("rejected: does not exist", VERMILLION, symbol="x"), 9),
    Outcome.PRUNED: (SeriesStyle("pruned", GREY, symbol="circle-open"), 9),
}
ROOT = SeriesStyle("", "#222222", symbol="square")


@dataclass(frozen=True)
class Node:
    """A candidate of the beam tree: kept, rejected, or one of the best pruned.

    Attributes:
        level: 1 … L.
        candidate: its number in the `LevelTrace`.
        parent: position of the beam that it extends among those kept one level before.
        codes: its prefix, `level` codes.
        key: the prefix's key.
        log_prob: summed log-probability.
        outcome: what the search did with it.
        position: its own position in the beam (0 = best), -1 if it was not kept.
    """

    level: int
    candidate: int
    parent: int
    codes: tuple[int, ...]
    key: int
    log_prob: float
    outcome: Outcome
    position: int


def beam_nodes(trace: DecodeTrace, row: int, max_pruned: int = 3) -> list[Node]:
    """All kept and rejected candidates of a row, level by level, each level best first.

    Args:
        trace: of a decode with `trace=True`.
        row: of the batch.
        max_pruned: how many of the best pruned candidates to add at each level.
    """
    nodes = []
    parents: list[list[int]] = [[]]  # codes of the beams that are live before the level
    for step in trace.levels:
        kept = [candidate for candidate in step.kept[row].tolist() if candidate >= 0]
        rejected = step.rejected(row)
        positions = {candidate: position for position, candidate in enumerate(kept)}
        indices = torch.tensor(kept + rejected + step.pruned(row, max_pruned), dtype=torch.int64)
        columns = (table[row].flatten()[indices] for table in (step.scores, step.keys, step.exists))
        level_nodes = []
        rows = zip(indices.tolist(), *(column.tolist() for column in columns), strict=True)
        for candidate, score, key, exists in rows:
            parent, code = divmod(candidate, step.n_codes)
            if candidate in positions:
                outcome = Outcome.KEPT if exists else Outcome.UNCHECKED
            else:
                outcome = Outcome.REJECTED if candidate in rejected else Outcome.PRUNED
            codes, position = (*parents[parent], code), positions.get(candidate, -1)
            level_nodes.append(
                Node(step.level, candidate, parent, codes, key, score, outcome, position)
            )
        nodes += sorted(level_nodes, key=lambda node: (-node.log_prob, node.candidate))
        parents = trace.prefixes(step.level)[row].tolist()
    return nodes


@dataclass(frozen=True)
class DraftCounts:
    """The drafts of one level: existing, rejected, and non-existing but kept unchecked."""

    level: int
    existing: int
    rejected: int
    unchecked: int

    @property
    def proposed(self) -> int:
        """All drafts of the level."""
        return self.existing + self.rejected + self.unchecked


def draft_counts(trace: DecodeTrace, row: int) -> list[DraftCounts]:
    """Counts for every level of one row."""
    counts = []
    for step in trace.levels:
        rejected = len(step.rejected(row))
        existing = int(step.proposed_exists[row].sum())
        unchecked = int(step.proposed_live[row].sum()) - existing - rejected
        counts.append(DraftCounts(step.level, existing, rejected, unchecked))
    return counts


def drafts_figure(counts: list[DraftCounts]) -> Figure:
    """Stacked bars: of the drafts proposed at each level (see `draft_counts`), how many exist."""
    levels = [count.level for count in counts]
    totals = [count.proposed for count in counts]
    series = (
        ("exists", [count.existing for count in counts], BLUE, ""),
        ("does not exist: rejected", [count.rejected for count in counts], VERMILLION, "/"),
        ("does not exist: kept unchecked", [count.unchecked for count in counts], ORANGE, "x"),
    )
    bars = [
        draw.bars(zip(levels, numbers, strict=True), name, colour, pattern)
        for name, numbers, colour, pattern in series
    ]
    texts = [f"{count.existing} of {count.proposed} exist" for count in counts]
    traces = [*bars, draw.texts(zip(levels, totals, strict=True), texts)]
    title = "Do the drafts exist?"
    caption = "Plain blue drafts exist. Hatched ones are hallucinations: no item has such an ID."
    x_axis = draw.named_axis([f"level {level}" for level in levels], levels)
    y_axis = draw.axis("drafts proposed", ends=(0, 1.15 * max([1, *totals])))
    return draw.figure(traces, title, caption, 200, barmode="stack", xaxis=x_axis, yaxis=y_axis)


@dataclass(frozen=True)
class TreeNode:
    """A node and where it is drawn: x is its level, y runs downwards from 0 to 1."""

    node: Node
    y: float
    parent_y: float


def tree_nodes(nodes: list[Node]) -> list[TreeNode]:
    """Children in the order of their parents, so that no two edges cross."""
    drawn: list[TreeNode] = []
    parents = {0: 0.5}  # position in the beam → y
    for level in range(1, max((node.level for node in nodes), default=0) + 1):
        column = [node for node in nodes if node.level == level]
        column.sort(key=lambda node: (parents[node.parent], -node.log_prob, node.candidate))
        rows = [
            TreeNode(node, (index + 0.5) / len(column), parents[node.parent])
            for index, node in enumerate(column)
        ]
        drawn += rows
        parents = {row.node.position: row.y for row in rows if row.node.position >= 0}
    return drawn


def beam_tree_figure(
    trace: DecodeTrace, row: int, semantic_ids: SemanticIds, dataset: InteractionDataset
) -> Figure:
    """The beams of one prompt, level by level, with rejected and pruned drafts.

    Args:
        trace: of a decode with `trace=True`.
        row: of the batch.
        semantic_ids: the catalogue, for the items of the leaves.
        dataset: for their titles.
    """
    nodes, levels = tree_nodes(beam_nodes(trace, row)), len(trace.levels)
    return tree_figure(nodes, levels, levels, semantic_ids, dataset)


def tree_figure(
    nodes: list[TreeNode],
    levels: int,
    upto: int,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
) -> Figure:
    """A beam tree drawn up to a level (0: the root alone).

    The traces are always edges, labels, root, then one for each outcome in the order of `OUTCOMES`.
    """
    shown = [row for row in nodes if row.node.level <= upto]
    largest = max(Counter(row.node.level for row in nodes).values(), default=1)
    labelled = largest <= MAX_LABELLED
    # One level in pixels: the column of the prompt begins 0.15 levels from the left margin.
    pixels = (WIDTH - LEFT - RIGHT - LABEL_GAP - TITLE_WIDTH) / (levels + 0.15)
    # Edges begin right of the widest code, so that they cross no label.
    codes = [text_width(str(row.node.codes[-1]), LABEL_SIZE) for row in nodes]
    gutter = (LABEL_GAP + max(codes, default=0) + 2) / pixels if labelled else 0
    edges = []
    for row in shown:
        level = row.node.level
        edges.append(((level - 1 + gutter * (level > 1), row.parent_y), (level, row.y)))
    named = shown if labelled else []
    starts = [(row.node.level + LABEL_GAP / pixels, row.y) for row in named]
    texts = [_label(row.node, levels, semantic_ids, dataset) for row in named]
    labels = draw.texts(starts, texts, "middle right", LABEL_SIZE)
    root = draw.markers([(0, 0.5)], ROOT, 11, ["the prompt, read by the backbone once"])
    places = [(row.node.level, row.y) for row in shown]
    marks = outcome_marks([row.node for row in shown], places, semantic_ids, dataset)
    columns = ["prompt", *(f"level {level}" for level in range(1, levels + 1))]
    ends = (-0.15, levels + (LABEL_GAP + TITLE_WIDTH) / pixels)
    return draw.figure(
        [draw.segments(edges, "#BBBBBB"), labels, root, *marks],
        "The beam tree",
        "Each column adds a code. Filled marks live on; orange diamonds do so although no item has "
        "such a prefix. Crosses were rejected for that; rings exist but scored below the beam.",
        min(MAX_HEIGHT, max(240, ROW_HEIGHT * largest)),
        margin={"l": LEFT, "r": RIGHT},
        xaxis=draw.axis("", range(levels + 1), columns, ends, showgrid=False),
        yaxis={"visible": False, "range": [1.02, -0.02]},
    )


def outcome_marks(
    nodes: Sequence[Node],
    places: Sequence[tuple[float, float]],
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
) -> list[go.Scatter]:
    """One trace of marks for each outcome, in the order of `OUTCOMES`."""
    traces = []
    for outcome, (style, size) in OUTCOMES.items():
        group = [number for number, node in enumerate(nodes) if node.outcome is outcome]
        hover = [describe(nodes[number], semantic_ids, dataset) for number in group]
        traces.append(draw.markers([places[number] for number in group], style, size, hover))
    return traces


def item_label(items: list[int], dataset: InteractionDataset) -> str:
    """The first item's title, and how many more share its ID."""
    return dataset.title(items[0]) + _more(items) if items else "✕ does not exist"


def _more(items: list[int]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""


def describe(node: Node, semantic_ids: SemanticIds, dataset: InteractionDataset) -> str:
    """A node in one line of plain text."""
    line = f"{code_text(node.codes)}, log-probability {node.log_prob:.2f} "
    line += f"({probability(node.log_prob)}), {node.outcome.value}"
    if node.level == semantic_ids.levels:
        items = semantic_ids.items_of(node.key)
        line += f": {item_label(items, dataset)}" if items else ""
    return line


def _label(node: Node, levels: int, semantic_ids: SemanticIds, dataset: InteractionDataset) -> str:
    if node.level < levels:
        return str(node.codes[-1])
    items = semantic_ids.items_of(node.key)
    rank, more = f"{node.position + 1}. " if node.position >= 0 else "", _more(items)
    width = TITLE_WIDTH - text_width(rank + more, LABEL_SIZE)
    return rank + shortened(item_label(items[:1], dataset), width, LABEL_SIZE) + more
