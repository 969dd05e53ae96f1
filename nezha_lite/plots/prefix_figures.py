"""Figures of one item's residuals, and of the items below a prefix."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nezha_lite.plots import draw
from nezha_lite.plots.draw import Point, Segment
from nezha_lite.plots.static_svg import EDGE
from nezha_lite.plots.style import (
    BLACK,
    BLUE,
    SKY,
    VERMILLION,
    Figure,
    SeriesStyle,
    code_text,
    counted,
)
from nezha_lite.semantic_ids import SemanticIds

ROW_HEIGHT, BAR_HEIGHT = 92, 30  # pixels
COLOURS, OPENED = (BLUE, SKY, VERMILLION), 2  # bars by turns, and those of the prefix's codes
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
    if len(lengths) != len(groups) or not lengths:
        raise ValueError(
            f"There are {len(lengths)} lengths and {len(groups)} groups, but each level needs one "
            "of both, and so does the beginning."
        )
    heights = [float(length) for length in lengths]
    texts = [
        f"{height:.2f} ({counted(items, 'item')})"
        for height, items in zip(heights, groups, strict=True)
    ]
    names = ["the vector", *(f"after code {level}" for level in range(1, len(heights)))]
    return draw.figure(
        [draw.bars(enumerate(heights), "", BLUE), draw.texts(enumerate(heights), texts)],
        title,
        "The length of the residual, and how many items share all codes up to there.",
        200,
        showlegend=False,
        xaxis=draw.named_axis(names),
        yaxis=draw.axis("length", ends=(0, 1.15 * max(heights) or 1.0)),
    )


def prefix_zoom_figure(semantic_ids: SemanticIds, prefix: Sequence[int] = ()) -> Figure:
    """The items below a prefix: each row divides the items of the code opened above it.

    Args:
        semantic_ids: the catalogue.
        prefix: 0 to L codes, level 1 first.

    Raises:
        ValueError: if the prefix is longer than an ID, or no item has it.
    """
    if len(prefix) > semantic_ids.levels:
        raise ValueError(f"prefix {tuple(prefix)} is longer than {semantic_ids.levels} codes.")
    inside = torch.ones(semantic_ids.n_items, dtype=torch.bool)  # (N,) the items of the row
    bars: tuple[list[Segment], list[Segment], list[Segment]] = ([], [], [])  # even, odd, opened
    funnels: list[Point] = []
    marks: list[tuple[float, float]] = []
    heads: list[tuple[float, str]] = []
    hovers: list[tuple[float, float, str]] = []
    for level in range(min(len(prefix) + 1, semantic_ids.levels)):
        column = semantic_ids.codes[inside, level]
        counts = torch.bincount(column, minlength=semantic_ids.radices[level])  # (C,)
        order = counts.argsort(descending=True, stable=True)[: int((counts > 0).sum())].tolist()
        total, y, left = int(inside.sum()), -float(level), 0.0
        head = f"Level {level + 1}: {counted(total, 'item')}, "
        head += f"{len(order)} of {len(counts)} codes in use"
        opened_code = prefix[level] if level < len(prefix) else None
        if opened_code is not None and opened_code not in order:
            raise ValueError(f"No item's codes begin with {tuple(prefix[: level + 1])}.")
        for index, code in enumerate(order):
            right = left + int(counts[code]) / total
            middle, items = (left + right) / 2, counted(int(counts[code]), "item")
            gap = min(GAP, 0.4 * (right - left)) / 2
            kind = OPENED if code == opened_code else index % 2
            bars[kind].append(((left + gap, y), (right - gap, y)))
            hovers.append((middle, y, f"code {code}: {items}"))
            if code == opened_code:
                head += f". Chosen: code {code}, {items}"
                marks.append((middle, y - HALF - 0.1))
                if level + 1 < semantic_ids.levels:
                    for edge, goal in ((left, 0.0), (right, 1.0)):
                        funnels += [(edge, y - HALF), (goal, y - 1 + HEAD), (goal, y - 1 + FOOT)]
                        funnels.append((None, None))
            left = right
        heads.append((y, head))
        if opened_code is not None:
            inside &= semantic_ids.codes[:, level] == opened_code
    traces = [
        draw.line(funnels, "#BBBBBB"),
        *(draw.segments(*pair, BAR_HEIGHT) for pair in zip(bars, COLOURS, strict=True)),
        draw.markers(marks, SeriesStyle("", BLACK, symbol="triangle-up"), 11),
        draw.texts(
            [(0.008, y + 0.33) for y, _ in heads], [text for _, text in heads], "middle right"
        ),
        # Lines show hover texts at their ends only; these labels show them in the middle of a bar.
        draw.texts(
            [(x, y) for x, y, _ in hovers],
            [""] * len(hovers),
            hover=[text for _, _, text in hovers],
        ),
    ]
    return draw.figure(
        traces,
        f"Prefix {code_text(prefix)}" if prefix else "The whole catalogue",
        "A bar is a code, as wide as its share of the row. ▲ chosen: the next row opens it.",
        ROW_HEIGHT * len(heads),
        bottom=12,
        margin={"l": EDGE, "r": EDGE},
        showlegend=False,
        xaxis={"visible": False, "range": [-0.02, 1.02], "fixedrange": True},
        yaxis={"visible": False, "range": [0.5 - len(heads), 0.55], "fixedrange": True},
    )
