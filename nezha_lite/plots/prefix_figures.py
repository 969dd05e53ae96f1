"""Figures of one item's residuals, and of the items below a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go
import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.plots import draw
from nezha_lite.plots.basic_charts import bars_figure
from nezha_lite.plots.colours import BLACK, BLUE, SKY, VERMILLION
from nezha_lite.plots.numbers import code_text, counted
from nezha_lite.plots.static_svg import EDGE
from nezha_lite.plots.style import Figure, SeriesStyle
from nezha_lite.semantic_ids import SemanticIds

ROW_HEIGHT, BAR_HEIGHT = 92, 30  # pixels
TRIANGLE = SeriesStyle("", BLACK, symbol="triangle-up")
GAP = 0.0025  # between two bars, as a share of the figure's width
HALF = BAR_HEIGHT / ROW_HEIGHT / 2
FOOT, HEAD = 0.17, 0.52  # where a funnel ends above its row, and where the row's text begins


def residual_figure(
    lengths: Sequence[float], groups: Sequence[int], title: str = "What each code leaves over"
) -> Figure:
    """The length of one item's residual before level 1 and after each level.

    Args:
        lengths: L + 1 numbers; the first is the length of the item's own vector.
        groups: L + 1 numbers of items with the item's first 0 … L codes.
        title: plain text.
    """
    each = f"one number for each of {len(lengths)} lengths"
    check(len(groups) == len(lengths) > 0, "groups", list(groups), each)
    names = ["the vector", *(f"after code {level}" for level in range(1, len(lengths)))]
    named = [f"{name}: {counted(items, 'item')}" for name, items in zip(names, groups, strict=True)]
    caption = "The length of the residual, and how many items share all codes up to there."
    return bars_figure(named, lengths, title=title, caption=caption, y_title="length")


class _Bar(NamedTuple):
    """A code in a row of the zoom, from left to right as shares of the figure's width."""

    y: float
    left: float
    right: float
    code: int
    items: int
    opened: bool

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


def prefix_zoom_figure(semantic_ids: SemanticIds, prefix: Sequence[int] = ()) -> Figure:
    """The items below a prefix: each row divides the items of the code opened above it.

    Args:
        semantic_ids: the catalogue.
        prefix: 0 to L codes, level 1 first.

    Raises:
        ValueError: if the prefix is longer than an ID, or no item has it.
    """
    levels = semantic_ids.levels
    check(len(prefix) <= levels, "prefix", tuple(prefix), f"at most {levels} codes")
    rows = [_row(semantic_ids, prefix, level) for level in range(min(len(prefix) + 1, levels))]
    bars = [bar for row in rows for bar in row]
    opened = [bar for bar in bars if bar.opened]
    others = [[bar for row in rows for bar in row[half::2] if not bar.opened] for half in (0, 1)]
    hover = [f"code {bar.code}: {counted(bar.items, 'item')}" for bar in bars]
    heads = [_head(row, level, semantic_ids.radices[level]) for level, row in enumerate(rows)]
    traces = [
        draw.line([point for bar in opened[: levels - 1] for point in _funnel(bar)], "#BBBBBB"),
        *(_strokes(*pair) for pair in zip((*others, opened), (BLUE, SKY, VERMILLION), strict=True)),
        draw.markers([(bar.middle, bar.y - HALF - 0.1) for bar in opened], TRIANGLE, 11),
        draw.texts([(0.008, row[0].y + 0.33) for row in rows], heads, "middle right"),
        # Lines show hover texts at their ends only; these labels show them in the middle of a bar.
        draw.texts([(bar.middle, bar.y) for bar in bars], [""] * len(bars), hover=hover),
    ]
    return draw.figure(
        traces,
        f"Prefix {code_text(prefix)}" if prefix else "The whole catalogue",
        "A bar is a code, as wide as its share of the row. ▲ chosen: the next row opens it.",
        ROW_HEIGHT * len(rows),
        bottom=12,
        margin={"l": EDGE, "r": EDGE},
        showlegend=False,
        xaxis={"visible": False, "range": [-0.02, 1.02], "fixedrange": True},
        yaxis={"visible": False, "range": [0.5 - len(rows), 0.55], "fixedrange": True},
    )


def items_below(semantic_ids: SemanticIds, prefix: Sequence[int]) -> Tensor:
    """Which items' codes begin with 0 to L codes, level 1 first: (N,) bool."""
    codes = torch.tensor(tuple(prefix), dtype=torch.int64)
    return (semantic_ids.codes[:, : len(codes)] == codes).all(dim=1)


def _row(semantic_ids: SemanticIds, prefix: Sequence[int], level: int) -> list[_Bar]:
    """The codes after the prefix's first `level` codes, those with most items first."""
    column = semantic_ids.codes[items_below(semantic_ids, prefix[:level]), level]  # (items,)
    counts = torch.bincount(column)  # (C,)
    order = counts.argsort(descending=True, stable=True)[: int((counts > 0).sum())].tolist()
    opened = prefix[level] if level < len(prefix) else None
    if opened is not None and opened not in order:
        raise ValueError(f"No item's codes begin with {tuple(prefix[: level + 1])}.")
    bars, left = [], 0.0
    for code, items in zip(order, counts[order].tolist(), strict=True):
        right = left + items / len(column)
        bars.append(_Bar(-float(level), left, right, code, items, code == opened))
        left = right
    return bars


def _head(row: Sequence[_Bar], level: int, radix: int) -> str:
    total = counted(sum(bar.items for bar in row), "item")
    text = f"Level {level + 1}: {total}, {len(row)} of {radix} codes in use"
    for bar in row:
        text += f". Chosen: code {bar.code}, {counted(bar.items, 'item')}" if bar.opened else ""
    return text


def _strokes(bars: Sequence[_Bar], colour: str) -> go.Scatter:
    gaps = [min(GAP, 0.4 * (bar.right - bar.left)) / 2 for bar in bars]
    pairs = zip(bars, gaps, strict=True)
    strokes = [((bar.left + gap, bar.y), (bar.right - gap, bar.y)) for bar, gap in pairs]
    return draw.segments(strokes, colour, BAR_HEIGHT)


def _funnel(bar: _Bar) -> list[draw.Point]:
    """Lines from both ends of a bar to the ends of the row below it."""
    ys = (bar.y - HALF, bar.y - 1 + HEAD, bar.y - 1 + FOOT, None)
    sides = ((bar.left, 0.0, 0.0, None), (bar.right, 1.0, 1.0, None))
    return [point for xs in sides for point in zip(xs, ys, strict=True)]
