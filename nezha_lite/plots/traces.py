"""The traces that figures are made of, with the settings that all figures share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from nezha_lite.plots.style import plot_text

Points = Iterable[tuple[float | None, float | None]]


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
