"""Quality against latency: one mark for each decoder and beam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from nezha_lite.common.results import ResultRow
from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLACK
from nezha_lite.plots.numbers import number
from nezha_lite.plots.speed_figures import rows_by_decoder
from nezha_lite.plots.style import Figure, SeriesStyle, decoder_style

HOLE = SeriesStyle("", "white")  # five pixels of it make a mark of ten pixels hollow


@dataclass(frozen=True)
class TradeoffPoint:
    """One decoder at one beam, measured for both time and quality.

    Attributes:
        decoder: its name in the results.
        verifier: when it checks; None where it never does.
        beam: K.
        milliseconds: median for one list.
        value: the quality.
        dominated: whether another point is as fast and as good, and better in one of the two.
    """

    decoder: str
    verifier: str | None
    beam: int
    milliseconds: float
    value: float
    dominated: bool = False

    @property
    def style(self) -> SeriesStyle:
        """Its style in figures."""
        return decoder_style(self.decoder, self.verifier)

    def beats(self, other: TradeoffPoint) -> bool:
        """Whether this point dominates the other."""
        slower = self.milliseconds - other.milliseconds
        worse = other.value - self.value
        return max(slower, worse) <= 0 and min(slower, worse) < 0


def tradeoff_points(
    latency: Sequence[ResultRow], quality: Sequence[ResultRow], metric: str
) -> list[TradeoffPoint]:
    """The points measured for latency and quality, by decoder and rising beam.

    Args:
        latency: rows with median_ms, at one batch size and history.
        quality: rows with `metric`.
        metric: such as "recall@10".

    Raises:
        ValueError: if nothing was measured for both.
    """
    scores = {(r.decoder, r.verifier, r.beam): r.metrics.get(metric) for r in quality}
    points = [
        TradeoffPoint(decoder, verifier, row.beam or 0, row.metrics["median_ms"], value)
        for (decoder, verifier), group in rows_by_decoder(latency).items()
        for row in group
        if (value := scores.get((decoder, verifier, row.beam))) is not None
    ]
    if not points:
        raise ValueError(f"No decoder was measured for both median_ms and {metric}.")
    return with_dominated(points)


def with_dominated(points: Sequence[TradeoffPoint]) -> list[TradeoffPoint]:
    """The same points, each compared with these alone."""
    return [
        replace(point, dominated=any(other.beats(point) for other in points)) for point in points
    ]


def tradeoff_figure(
    latency: Sequence[ResultRow],
    quality: Sequence[ResultRow],
    metric: str,
    y_title: str,
    title: str,
    caption: str = "",
) -> Figure:
    """Quality against time: a mark per decoder, verifier and beam that were measured for both.

    Args:
        latency: rows with median_ms, at one batch size and history.
        quality: rows with `metric`.
        metric: such as "recall@10".
        y_title: the quantity, with its unit.
        title: plain text.
        caption: what to see; which beams the marks are is added.

    Raises:
        ValueError: if nothing was measured for both.
    """
    points = tradeoff_points(latency, quality, metric)
    traces = [_series(style, _of(style, points), style.symbol) for style in _styles(points)]
    return _figure(traces, points, points, y_title, title, caption)


def selected_points_figure(
    selected: Sequence[TradeoffPoint],
    everything: Sequence[TradeoffPoint],
    y_title: str,
    title: str,
    caption: str = "",
    budget: float = math.inf,
) -> Figure:
    """The same figure for some of the points, those hollow that are dominated, with a budget.

    Its axes and its traces depend on `everything` alone: for every decoder its marks and, behind
    them, their holes; the budget comes last.

    Args:
        selected: the points shown, those of one decoder by rising beam.
        everything: at least one point; those among which the choice is made.
        y_title: the quantity, with its unit.
        title: plain text.
        caption: what to see; which beams the marks are is added.
        budget: milliseconds, drawn as an upright line where it is finite.
    """
    traces = []
    for style in _styles(everything):
        # Hollow has a meaning here, so no decoder's marks may be hollow by themselves.
        symbol, points = style.symbol.removesuffix("-open"), _of(style, selected)
        holes = [(point.milliseconds, point.value) for point in points if point.dominated]
        traces.append(_series(style, points, symbol))
        traces.append(draw.markers(holes, replace(HOLE, symbol=symbol), 5))
    values, times = [one.value for one in everything], [_log_time(one) for one in everything]
    margin = 0.06 * (max(values) - min(values)) or 0.1 * abs(max(values)) or 0.5
    ends = [min(values) - margin, max(values) + margin]
    line = [(budget, end) for end in ends if math.isfinite(budget)]
    traces.append(draw.line(line, BLACK, width=1.5, dash="dash", name="latency budget"))
    figure = _figure(traces, selected, everything, y_title, title, caption)
    figure.update_xaxes(range=[min(times) - 0.05, max(times) + 0.05])
    return figure.update_yaxes(range=ends)


def _log_time(point: TradeoffPoint) -> float:
    return math.log10(point.milliseconds)


def _styles(points: Sequence[TradeoffPoint]) -> list[SeriesStyle]:
    return list(dict.fromkeys(point.style for point in points))


def _of(style: SeriesStyle, points: Sequence[TradeoffPoint]) -> list[TradeoffPoint]:
    return [point for point in points if point.style == style]


def _series(style: SeriesStyle, points: Sequence[TradeoffPoint], symbol: str) -> go.Scatter:
    hover = [
        f"{style.name}, beam {point.beam}: {number(point.milliseconds)} ms, {number(point.value)}"
        for point in points
    ]
    marks = [(point.milliseconds, point.value) for point in points]
    return draw.series(marks, replace(style, symbol=symbol), hover, size=10)


def _figure(
    traces: Sequence[go.Scatter],
    shown: Sequence[TradeoffPoint],
    everything: Sequence[TradeoffPoint],
    y_title: str,
    title: str,
    caption: str,
) -> Figure:
    times = list(map(_log_time, everything))
    beams = ", ".join(map(str, sorted({point.beam for point in shown}))) or "none"
    low, high = min(times) - 0.05, max(times) + 0.02
    caption = f"{caption} Marks along a line: beam {beams}.".strip()
    bottom = 104 if len(_styles(everything)) < 9 else 122  # a third row of the legend
    x_axis = draw.decimal_axis("milliseconds per list (median)", low, high)
    y_axis = draw.axis(y_title)
    return draw.figure(traces, title, caption, 260, bottom, xaxis=x_axis, yaxis=y_axis)
