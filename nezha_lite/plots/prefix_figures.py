"""Figures of one item's residuals, and of the items below a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import plotly.graph_objects as go
import torch

from nezha_lite.plots.static_svg import EDGE
from nezha_lite.plots.style import BLACK, BLUE, SKY, VERMILLION, Figure, headed, plot_text
from nezha_lite.plots.traces import line_trace, marker_trace, named_axis, text_trace
from nezha_lite.semantic_ids import SemanticIds

ROW_HEIGHT, BAR_HEIGHT = 92, 30  # pixels
GAP = 0.0025  # between two bars, as a share of the figure's width
HALF = BAR_HEIGHT / ROW_HEIGHT / 2
FOOT, HEAD = 0.17, 0.52  # where a funnel ends above its row, and where the row's text has room


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
    positions = list(range(len(lengths)))
    names = ["the vector", *(f"after code {level}" for level in positions[1:])]
    bars = go.Bar(
        x=positions,
        y=[float(length) for length in lengths],
        width=0.6,
        marker={"color": BLUE},
        hoverinfo="y",
    )
    labels = text_trace(
        zip(positions, [float(length) for length in lengths], strict=True),
        [f"{length:.2f} ({_items(group)})" for length, group in zip(lengths, groups, strict=True)],
    )
    layout = headed(
        title,
        "The length of the residual, and how many items share all codes up to there.",
        200,
        showlegend=False,
        xaxis=named_axis(names),
        yaxis={"title": {"text": "length"}, "range": [0, 1.15 * max(lengths) or 1.0]},
    )
    return Figure([bars, labels], layout)


@dataclass
class _Bars:
    """The bars of one colour: each a thick line from left to right, then a break."""

    x: list[float | None] = field(default_factory=list)
    y: list[float | None] = field(default_factory=list)

    def add(self, left: float, right: float, y: float) -> None:
        gap = min(GAP, 0.4 * (right - left)) / 2
        self.x += [left + gap, right - gap, None]
        self.y += [y, y, None]


def prefix_zoom_figure(semantic_ids: SemanticIds, prefix: Sequence[int] = ()) -> Figure:
    """The items below a prefix: each row divides the items of the code chosen above it.

    Args:
        semantic_ids: the catalogue.
        prefix: 0 to L codes, level 1 first.

    Raises:
        ValueError: if the prefix is longer than an ID, or no item has it.
    """
    if len(prefix) > semantic_ids.levels:
        raise ValueError(f"prefix {tuple(prefix)} is longer than {semantic_ids.levels} codes.")
    inside = torch.ones(semantic_ids.n_items, dtype=torch.bool)  # (N,) the items of the row
    funnels, odd, even, chosen_bars = _Bars(), _Bars(), _Bars(), _Bars()
    marks: list[tuple[float, float]] = []
    heads: list[tuple[float, str]] = []
    hovers: list[tuple[float, float, str]] = []
    for level in range(min(len(prefix) + 1, semantic_ids.levels)):
        column = semantic_ids.codes[inside, level]
        counts = torch.bincount(column, minlength=semantic_ids.radices[level])  # (C,)
        order = counts.argsort(descending=True, stable=True)[: int((counts > 0).sum())].tolist()
        total, y, left = int(inside.sum()), -float(level), 0.0
        head = f"Level {level + 1}: {_items(total)}, {len(order)} of {len(counts)} codes in use"
        chosen_code = prefix[level] if level < len(prefix) else None
        if chosen_code is not None and chosen_code not in order:
            raise ValueError(f"No item's codes begin with {tuple(prefix[: level + 1])}.")
        for index, code in enumerate(order):
            right = left + int(counts[code]) / total
            bars = chosen_bars if code == chosen_code else (odd if index % 2 else even)
            bars.add(left, right, y)
            hovers.append(((left + right) / 2, y, f"code {code}: {_items(int(counts[code]))}"))
            if code == chosen_code:
                head += f". Chosen: code {code}, {_items(int(counts[code]))}"
                marks.append(((left + right) / 2, y - HALF - 0.1))
                if level + 1 < semantic_ids.levels:
                    for edge, goal in ((left, 0.0), (right, 1.0)):
                        funnels.x += [edge, goal, goal, None]
                        funnels.y += [y - HALF, y - 1 + HEAD, y - 1 + FOOT, None]
            left = right
        heads.append((y, head))
        if chosen_code is not None:
            inside &= semantic_ids.codes[:, level] == chosen_code
    traces = [
        _lines(funnels, "#BBBBBB", 1),
        _lines(even, BLUE, BAR_HEIGHT),
        _lines(odd, SKY, BAR_HEIGHT),
        _lines(chosen_bars, VERMILLION, BAR_HEIGHT),
        marker_trace(marks, {"symbol": "triangle-up", "color": BLACK, "size": 11}),
        text_trace(
            [(0.008, y + 0.33) for y, _ in heads],
            [plot_text(text) for _, text in heads],
            position="middle right",
        ),
        # Lines answer the mouse at their ends only: invisible texts answer in the middle of a bar.
        go.Scatter(
            x=[x for x, _, _ in hovers],
            y=[y for _, y, _ in hovers],
            mode="text",
            text=[""] * len(hovers),
            hovertext=[text for _, _, text in hovers],
            hoverinfo="text",
        ),
    ]
    layout = headed(
        f"Prefix {'-'.join(map(str, prefix))}" if prefix else "The whole catalogue",
        "A bar is a code, as wide as its share of the row. ▲ chosen: the next row opens it.",
        ROW_HEIGHT * len(heads),
        bottom=12,
        showlegend=False,
        xaxis={"visible": False, "range": [-0.02, 1.02], "fixedrange": True},
        yaxis={"visible": False, "range": [0.5 - len(heads), 0.55], "fixedrange": True},
    )
    layout["margin"] |= {"l": EDGE, "r": EDGE}
    return Figure(traces, layout)


def _lines(bars: _Bars, colour: str, width: float) -> go.Scatter:
    return line_trace(zip(bars.x, bars.y, strict=True), colour, width=width)


def _items(count: int) -> str:
    return f"{count:,} item{'' if count == 1 else 's'}"
