"""Lines on two logarithmic axes, named at their ends; for more lines than fit into a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go

from nezha_lite.plots.basic_charts import number
from nezha_lite.plots.static_svg import WIDTH, text_width
from nezha_lite.plots.style import GREY, Figure, headed, plot_text
from nezha_lite.plots.traces import SeriesStyle, segment_trace, series_trace, text_trace

LETTERS = 12  # pixels, of the names
_HEIGHT, _BOTTOM = 300, 56  # pixels: of the plot, below it
_NAME_GAP, _LEADER, _SIDES = 17, 26, 100  # pixels: between names, up to them, beside the plot


@dataclass(frozen=True)
class Line:
    """One line and its style.

    Attributes:
        style: its name is written at the line's end.
        xs: positive, rising.
        ys: positive.
        measured: number of measured points; the rest is drawn as a dotted line without markers.
            None for all.
    """

    style: SeriesStyle
    xs: Sequence[float]
    ys: Sequence[float]
    measured: int | None = None

    @property
    def name(self) -> str:
        """The name of its style."""
        return self.style.name


def labelled_lines_figure(
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    title: str,
    caption: str,
    x_ticks: Sequence[tuple[float, str]],
) -> Figure:
    """Draw them, with their names in a column on the right.

    Args:
        lines: at least one.
        x_title: the quantity, with its unit.
        y_title: the quantity, with its unit.
        title: plain text.
        caption: what to see, in a sentence.
        x_ticks: where the x axis is marked, and how.

    Raises:
        ValueError: for no lines, or a number that a logarithmic axis cannot show.
    """
    if not lines:
        raise ValueError("There are no lines to draw: give at least one.")
    for line in lines:
        if not line.xs or len(line.xs) != len(line.ys) or min(*line.xs, *line.ys) <= 0:
            raise ValueError(
                f"Line {line.name!r} needs as many x as y, at least one, all of them positive."
            )
    xs = [math.log10(x) for line in lines for x in line.xs]
    ys = [math.log10(y) for line in lines for y in line.ys]
    span = max(max(xs) - min(xs), 0.3)
    margin = 0.06 * (max(ys) - min(ys)) + 0.05
    low, high = min(ys) - margin, max(ys) + margin
    # The names' column is part of the plot: it takes so much of the x axis as it needs.
    column = _LEADER + 8 + max(text_width(line.name, LETTERS) for line in lines)
    per_pixel = 1.06 * span / (WIDTH - _SIDES - column)
    left, right = min(xs) - 0.06 * span, max(xs) + column * per_pixel
    label_x = 10 ** (max(xs) + _LEADER * per_pixel)
    gap = _NAME_GAP * (high - low) / _HEIGHT
    ends = [math.log10(line.ys[-1]) for line in lines]
    positions = spread(ends, gap, low + gap / 2, high - gap / 2)
    traces = [trace for line in lines for trace in _traces(line)]
    traces.append(_leaders(lines, label_x, positions))
    traces.append(
        text_trace(
            zip(
                [10 ** (max(xs) + (_LEADER + 4) * per_pixel)] * len(lines),
                [10**position for position in positions],
                strict=True,
            ),
            [plot_text(line.name) for line in lines],
            position="middle right",
            size=LETTERS,
        )
    )
    layout = headed(
        title,
        caption,
        _HEIGHT,
        _BOTTOM,
        showlegend=False,
        hovermode="closest",
        xaxis={
            "type": "log",
            "title": {"text": plot_text(x_title)},
            "tickvals": [value for value, _ in x_ticks],
            "ticktext": [plot_text(text) for _, text in x_ticks],
            "range": [left, right],
        },
        yaxis={
            "type": "log",
            "title": {"text": plot_text(y_title)},
            "range": [low, high],
            **decimal_ticks(low, high),
        },
    )
    return Figure(traces, layout)


def spread(targets: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions at least `gap` apart, as near as possible to the targets, in their order.

    They lie between `low` and `high` where all of them fit.
    """
    order = sorted(range(len(targets)), key=lambda index: targets[index])
    # Each group has a first place and members `gap` apart; groups that meet become one.
    groups: list[list[int]] = []
    firsts: list[float] = []
    for index in order:
        groups.append([index])
        firsts.append(targets[index])
        while len(groups) > 1 and firsts[-1] < firsts[-2] + gap * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
            ideal = [targets[member] - gap * position for position, member in enumerate(groups[-1])]
            firsts[-2:] = [sum(ideal) / len(ideal)]
    positions = [0.0] * len(targets)
    for first, group in zip(firsts, groups, strict=True):
        for position, member in enumerate(group):
            positions[member] = first + gap * position
    ceiling = high
    for index in reversed(order):
        positions[index] = min(positions[index], ceiling)
        ceiling = positions[index] - gap
    floor = low
    for index in order:
        positions[index] = max(positions[index], floor)
        floor = positions[index] + gap
    return positions


def _traces(line: Line) -> list[go.Scatter]:
    points = list(zip(line.xs, line.ys, strict=True))
    end = len(points) if line.measured is None else line.measured
    traces = [_line(points[:end], line.style)]
    if end < len(points):
        name = f"{line.name}, extrapolated"
        dotted = replace(line.style, name=name, dash="dot", symbol="")
        traces.append(_line(points[max(end - 1, 0) :], dotted))
    return traces


def _line(points: Sequence[tuple[float, float]], style: SeriesStyle) -> go.Scatter:
    hover = [f"{plot_text(style.name)}: {number(y)}" for _, y in points]
    return series_trace(points, style, hover)


def _leaders(lines: Sequence[Line], label_x: float, positions: Sequence[float]) -> go.Scatter:
    """Hairlines from the lines' ends to their names."""
    segments = [
        ((line.xs[-1], line.ys[-1]), (label_x, 10**position))
        for line, position in zip(lines, positions, strict=True)
    ]
    return segment_trace(segments, GREY, name="names")


def decimal_ticks(low: float, high: float) -> dict[str, list[Any]]:
    """Plotly's fields for the ticks of a logarithmic axis between two logarithms."""
    span = high - low
    factors = (1,) if span > 2.5 else (1, 2, 5)
    powers = range(math.floor(low), math.ceil(high) + 1)
    if span > 8:
        powers = range(powers[0], powers[-1] + 1, 2)
    values = [factor * 10.0**power for power in powers for factor in factors]
    values = [value for value in values if low <= math.log10(value) <= high]
    return {"tickvals": values, "ticktext": [f"{value:,.10g}" for value in values]}
