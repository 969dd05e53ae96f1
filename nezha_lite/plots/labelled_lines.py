"""Lines on two logarithmic axes, named at their ends; for more lines than fit into a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go
from scipy.optimize import isotonic_regression

from nezha_lite.common.checks import check
from nezha_lite.plots import draw
from nezha_lite.plots.colours import GREY
from nezha_lite.plots.numbers import number
from nezha_lite.plots.static_svg import WIDTH, text_width
from nezha_lite.plots.style import Figure, SeriesStyle

_LETTERS = 12  # pixels, of the names
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


def labelled_lines_figure(
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    title: str,
    caption: str,
    x_ticks: Sequence[tuple[float, str]],
) -> Figure:
    """Lines with their names in a column on the right.

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
    check(bool(lines), "lines", lines, "one line or more")
    for line in lines:
        valid = len(line.xs) == len(line.ys) > 0 and min(*line.xs, *line.ys) > 0
        rule = "as many x as y, at least one, all of them positive"
        check(valid, f"line {line.style.name!r}", (line.xs, line.ys), rule)
    xs = [math.log10(x) for line in lines for x in line.xs]
    ys = [math.log10(y) for line in lines for y in line.ys]
    span = max(max(xs) - min(xs), 0.3)
    margin = 0.06 * (max(ys) - min(ys)) + 0.05
    low, high = min(ys) - margin, max(ys) + margin
    # The names' column is part of the plot: as wide as the longest name.
    column = _LEADER + 8 + max(text_width(line.style.name, _LETTERS) for line in lines)
    per_pixel = 1.06 * span / (WIDTH - _SIDES - column)
    left, right = min(xs) - 0.06 * span, max(xs) + column * per_pixel
    gap = _NAME_GAP * (high - low) / _HEIGHT
    targets = [math.log10(line.ys[-1]) for line in lines]
    heights = [10**y for y in spread(targets, gap, low + gap / 2, high - gap / 2)]
    leader_x, name_x = (10 ** (max(xs) + pixels * per_pixel) for pixels in (_LEADER, _LEADER + 4))
    leaders = [
        ((line.xs[-1], line.ys[-1]), (leader_x, y)) for line, y in zip(lines, heights, strict=True)
    ]
    names = [line.style.name for line in lines]
    traces = [
        *(trace for line in lines for trace in _traces(line)),
        draw.segments(leaders, GREY, name="names"),
        draw.texts([(name_x, y) for y in heights], names, "middle right", _LETTERS),
    ]
    ticks, texts = [value for value, _ in x_ticks], [text for _, text in x_ticks]
    x_axis = draw.axis(x_title, ticks, texts, (left, right), type="log")
    y_axis = draw.decimal_axis(y_title, low, high, (low, high))
    return draw.figure(
        traces, title, caption, _HEIGHT, _BOTTOM, showlegend=False, xaxis=x_axis, yaxis=y_axis
    )


def spread(targets: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions at least `gap` apart, as near as possible to the targets, in their order.

    They lie between `low` and `high` where all of them fit.
    """
    order = np.argsort(targets, kind="stable")
    # After subtraction of the gaps, the constraint is that no position is below the one before.
    gaps = gap * np.arange(len(targets))
    rising = isotonic_regression(np.array(targets)[order] - gaps).x
    positions = np.empty(len(targets))
    positions[order] = np.maximum(np.minimum(rising, high - gaps[-1]), low) + gaps
    return list(map(float, positions))


def _traces(line: Line) -> list[go.Scatter]:
    points = list(zip(line.xs, line.ys, strict=True))
    end = len(points) if line.measured is None else line.measured
    traces = [_line(points[:end], line.style)]
    if end < len(points):
        name = f"{line.style.name}, extrapolated"
        dotted = replace(line.style, name=name, dash="dot", symbol="")
        traces.append(_line(points[max(end - 1, 0) :], dotted))
    return traces


def _line(points: Sequence[tuple[float, float]], style: SeriesStyle) -> go.Scatter:
    return draw.series(points, style, [f"{style.name}: {number(y)}" for _, y in points])
