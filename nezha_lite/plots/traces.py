"""The traces that figures are made of, with the settings that all figures share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from nezha_lite.plots.style import plot_text

Points = Iterable[tuple[float | None, float | None]]


@dataclass(frozen=True)
class SeriesStyle:
    """Name, colour, dash and symbol of a series, the same in every figure."""

    name: str
    colour: str
    dash: str = "solid"
    symbol: str = "circle"


def series_trace(
    points: Points,
    style: SeriesStyle,
    hover: Sequence[str] | None = None,
    width: float = 2,
    size: float = 8,
) -> go.Scatter:
    """A line with markers (without where the style's symbol is ""), in the style of its series."""
    symbol = style.symbol or "circle"
    marker: dict[str, Any] = {"color": style.colour, "symbol": symbol, "size": size}
    if symbol.endswith("-open"):
        marker["line"] = {"width": 1.5}
    return _trace(
        points,
        name=plot_text(style.name),
        mode="lines+markers" if style.symbol else "lines",
        line={"color": style.colour, "dash": style.dash, "width": width},
        marker=marker,
        hoverinfo=None if hover is None else "text",
        hovertext=hover,
    )


def bar_trace(
    points: Points, name: str, colour: str, pattern: str = "", width: float = 0.6, **settings: Any
) -> go.Bar:
    """Bars, with white strokes of a pattern over their colour."""
    pairs = list(points)
    # Plotly's default would draw the strokes, not the ground, in the bar's colour.
    strokes = {"shape": pattern, "fillmode": "overlay", "fgcolor": "#FFFFFF"}
    return go.Bar(
        x=[x for x, _ in pairs],
        y=[y for _, y in pairs],
        name=plot_text(name),
        width=width,
        marker={"color": colour, "pattern": strokes},
        **settings,
    )


def text_trace(
    points: Points, texts: Iterable[str], position: str = "top center", size: float | None = None
) -> go.Scatter:
    """Labels at points; they do not answer the pointer."""
    return _trace(
        points,
        mode="text",
        text=list(texts),
        textposition=position,
        hoverinfo="skip",
        showlegend=False,
        textfont=None if size is None else {"size": size},
    )


def line_trace(
    points: Points, colour: str, width: float = 1.0, dash: str = "solid", name: str | None = None
) -> go.Scatter:
    """Lines through points; (None, None) ends a line. They do not answer the pointer."""
    return _trace(
        points,
        mode="lines",
        line={"color": colour, "width": width, "dash": dash},
        hoverinfo="skip",
        name=name,
        showlegend=name is not None,
    )


def segment_trace(
    segments: Iterable[tuple[tuple[float, float], tuple[float, float]]],
    colour: str,
    width: float = 1.0,
    name: str | None = None,
) -> go.Scatter:
    """Separate straight lines, each from one point to another."""
    points = [point for start, end in segments for point in (start, end, (None, None))]
    return line_trace(points, colour, width, name=name)


def marker_trace(
    points: Points,
    marker: Mapping[str, Any],
    name: str | None = None,
    hover: Sequence[str] | None = None,
    cliponaxis: bool = True,
) -> go.Scatter:
    """Markers at points, each with a text for the pointer where `hover` is given."""
    return _trace(
        points,
        mode="markers",
        marker=dict(marker),
        name=name,
        showlegend=name is not None,
        hoverinfo="skip" if hover is None else "text",
        hovertext=hover,
        cliponaxis=cliponaxis,
    )


def _trace(points: Points, **settings: Any) -> go.Scatter:
    pairs = list(points)
    return go.Scatter(x=[x for x, _ in pairs], y=[y for _, y in pairs], **settings)


def named_axis(
    names: Sequence[str], positions: Sequence[float] | None = None, first: float = 0.6
) -> dict[str, Any]:
    """An axis with a name at each position (by default 0, 1, …), and `first` units around them."""
    places = list(range(len(names))) if positions is None else list(positions)
    return {
        "tickvals": places,
        "ticktext": [plot_text(name) for name in names],
        "range": [min(places, default=0) - first, max(places, default=0) + first],
        "showgrid": False,
    }
