"""Traces, axes and whole figures, with the settings that all figures share.

All texts and names given to these functions are plain text: they are escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType

from nezha_lite.plots.static_svg import EDGE, WIDTH, shortened, wrapped
from nezha_lite.plots.style import TEMPLATE, Figure, SeriesStyle, plot_text

# Pixels: below a plot; of its title; of a line of its caption.
BOTTOM, _TITLE_SPACE, _LINE_SPACE = 76, 52, 18

Point = tuple[float | None, float | None]
Points = Iterable[Point]
Segment = tuple[tuple[float, float], tuple[float, float]]


def series(
    points: Points,
    style: SeriesStyle,
    hover: Iterable[str] | None = None,
    width: float = 2,
    size: float = 8,
    **settings: Any,
) -> go.Scatter:
    """A line with markers (without where the style's symbol is ""), in the style of its series."""
    fields: dict[str, Any] = {
        "mode": "lines+markers" if style.symbol else "lines",
        "line": {"color": style.colour, "dash": style.dash, "width": width},
        **({} if hover else {"hoverinfo": None}),
    }
    return markers(points, style, size, hover, **(fields | settings))


def bars(
    points: Points,
    name: str,
    colour: str,
    pattern: str = "",
    width: float = 0.6,
    hover: Iterable[str] | None = None,
    **settings: Any,
) -> go.Bar:
    """Bars, with white strokes of a pattern over their colour."""
    xs, ys = _columns(points)
    # Plotly's default would draw the strokes, not the ground, in the bar's colour.
    strokes = {"shape": pattern, "fillmode": "overlay", "fgcolor": "#FFFFFF"}
    fields = {
        "name": plot_text(name),
        "width": width,
        "marker": {"color": colour, "pattern": strokes},
        **_hover(hover, "name+y"),
    }
    return go.Bar(x=xs, y=ys, **(fields | settings))


def texts(
    points: Points,
    texts: Iterable[str],
    position: str = "top center",
    size: float | None = None,
    hover: Iterable[str] | None = None,
) -> go.Scatter:
    """Labels at points, without hover texts by default."""
    fields = {
        "mode": "text",
        "text": list(map(plot_text, texts)),
        "textposition": position,
        "showlegend": False,
        "textfont": None if size is None else {"size": size},
        **_hover(hover, "skip"),
    }
    return _trace(points, fields)


def line(
    points: Points,
    colour: str,
    width: float = 1.0,
    dash: str = "solid",
    name: str = "",
    **settings: Any,
) -> go.Scatter:
    """Lines through points; (None, None) ends a line. They have no hover text."""
    fields = {
        "mode": "lines",
        "line": {"color": colour, "width": width, "dash": dash},
        "name": plot_text(name) or None,
        "showlegend": bool(name),
        **_hover(None, "skip"),
    }
    return _trace(points, fields | settings)


def segments(
    segments: Iterable[Segment], colour: str, width: float = 1.0, name: str = "", **settings: Any
) -> go.Scatter:
    """Separate straight lines, each from one point to another."""
    points = [point for start, end in segments for point in (start, end, (None, None))]
    return line(points, colour, width, name=name, **settings)


def markers(
    points: Points,
    style: SeriesStyle,
    size: float,
    hover: Iterable[str] | None = None,
    **settings: Any,
) -> go.Scatter:
    """Marks at points, without hover texts by default."""
    fields = {
        "mode": "markers",
        "marker": style.marker(size),
        "name": plot_text(style.name) or None,
        "showlegend": bool(style.name),
        **_hover(hover, "skip"),
    }
    return _trace(points, fields | settings)


def _hover(texts: Iterable[str] | None, otherwise: str | None) -> dict[str, Any]:
    """Plotly's fields for a hover text at each point, in which a line feed begins a new line."""
    if texts is None:
        return {"hoverinfo": otherwise}
    lines = [plot_text(text).replace("\n", "<br>") for text in texts]
    return {"hoverinfo": "text", "hovertext": lines}


def _trace(points: Points, fields: Mapping[str, Any]) -> go.Scatter:
    xs, ys = _columns(points)
    return go.Scatter(x=xs, y=ys, **fields)


def _columns(points: Points) -> tuple[list[float | None], list[float | None]]:
    pairs = list(points)
    return [x for x, _ in pairs], [y for _, y in pairs]


def axis(
    title: str = "",
    ticks: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    ends: Sequence[float] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Plotly's fields of an axis.

    Args:
        title: the quantity, with its unit; plain text.
        ticks: marked values; by default plotly chooses them.
        names: plain text, one for each tick; by default the values themselves.
        ends: the range, in logarithms on a logarithmic axis.
        settings: further fields.
    """
    fields = dict(settings)
    if title:
        fields["title"] = {"text": plot_text(title)}
    if ticks is not None:
        texts = [f"{tick:.10g}" for tick in ticks] if names is None else map(plot_text, names)
        fields |= {"tickvals": list(ticks), "ticktext": list(texts)}
    if ends is not None:
        fields["range"] = list(ends)
    return fields


def named_axis(
    names: Sequence[str], positions: Sequence[float] | None = None, first: float = 0.6
) -> dict[str, Any]:
    """An axis with a name at each position (by default 0, 1, …), and `first` units around them."""
    ticks = range(len(names)) if positions is None else positions
    ends = (min(ticks, default=0) - first, max(ticks, default=0) + first)
    return axis("", ticks, names, ends, showgrid=False)


def rows_axis(names: Sequence[str], width: float) -> dict[str, Any]:
    """A y axis with a name for each row, from the top down, cut to `width` pixels."""
    texts = [shortened(name, width, 12) for name in names]
    return axis("", range(len(names)), texts, (len(names) - 0.4, -0.6))


def decimal_axis(
    title: str, low: float, high: float, ends: Sequence[float] | None = None
) -> dict[str, Any]:
    """A logarithmic axis with round decimal ticks between two logarithms, `low` and `high`."""
    factors = (1,) if high - low > 2.5 else (1, 2, 5)
    powers = range(math.floor(low), math.ceil(high) + 1)[:: 2 if high - low > 8 else 1]
    values = [factor * 10.0**power for power in powers for factor in factors]
    ticks = [value for value in values if low <= math.log10(value) <= high]
    return axis(title, ticks, [f"{tick:,.10g}" for tick in ticks], ends, type="log")


def figure(
    traces: Sequence[BaseTraceType],
    title: str,
    caption: str,
    height: int,
    bottom: int = BOTTOM,
    margin: Mapping[str, float] = {},
    **layout: Any,
) -> Figure:
    """A figure with a title and, below it, the caption that says what to see.

    Args:
        traces: drawn in this order.
        title: plain text.
        caption: plain text, broken into lines as wide as the figure.
        height: of the plot itself in pixels; the heading's own space is added.
        bottom: pixels below the plot, for the x axis and the legend.
        margin: pixels on the left, "l", and on the right, "r", where they are not the usual ones.
        layout: further fields of plotly's layout, checked by plotly.
    """
    lines = [plot_text(line) for line in wrapped(caption, WIDTH - 2 * EDGE)]
    top = _TITLE_SPACE + _LINE_SPACE * len(lines)
    total = height + top + bottom
    # Not plotly's own subtitle, which slides into the title when a FigureWidget is redrawn.
    # Plotly's distance between lines follows the font of the whole: small, with a larger title.
    small = f'<br><span style="font-size:13px;color:#555555">{"<br>".join(lines)}</span>'
    large = f'<span style="font-size:17px">{plot_text(title)}</span>'
    text = large + (small if lines else "")
    fields = {
        "template": TEMPLATE,
        "height": total,
        "margin": {"l": 60, "r": 20, "t": top, "b": bottom, **margin},
        "title": {"text": text, "y": 1 - 20 / total, "yanchor": "top", "font": {"size": 14}},
        "showlegend": True,
    }
    return Figure(list(traces), fields | layout)
