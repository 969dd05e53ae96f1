"""The style of figures and of the numbers in them, and their display in a notebook."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType

from nezha_lite.plots.static_svg import EDGE, WIDTH, figure_svg, plain, wrapped

# Okabe and Ito's colours, told apart by readers with any common colour vision.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#767676"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
# Series differ in dash and symbol too, so that colour is never the only difference.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down")

_AXIS = {
    "automargin": True,
    "gridcolor": "#E5E5E5",
    "linecolor": "#444444",
    "ticks": "outside",
    "title": {"standoff": 8, "font": {"size": 13}},
    "zeroline": False,
}
# Given to each figure instead of plotly's default, which adds 6.6 kB to every one stored.
TEMPLATE = go.layout.Template(
    layout={
        "colorway": PALETTE,
        "font": {"family": "Helvetica, Arial, sans-serif", "size": 13, "color": "#222222"},
        "hoverlabel": {"align": "left", "bgcolor": "white"},
        "legend": {"orientation": "h", "traceorder": "normal", "x": 0, "xanchor": "left"}
        | {"y": 0, "yref": "container", "yanchor": "bottom"},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "title": {"x": 0, "xanchor": "left", "xref": "container", "pad": {"l": 14}},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)

# No tool bar: one of its buttons would send the figure to a server. Not responsive: in JupyterLab a
# resized window would squeeze figures to no height.
CONFIG = {"displayModeBar": False, "responsive": False}
_TITLE_SPACE, _LINE_SPACE, BOTTOM = 52, 18, 76  # pixels


class Figure(go.Figure):
    """A plotly figure that is stored with a static form too.

    JupyterLab shows the interactive figure; GitHub, nbconvert and a printed page show the SVG.
    """

    # IPython would call these too, and plotly's versions would store further formats.
    _ipython_display_ = None
    _repr_html_ = None

    def _repr_mimebundle_(
        self, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> dict[str, Any]:
        payload = json.loads(self.to_json(validate=False))
        payload["config"] = CONFIG
        return {
            "application/vnd.plotly.v1+json": payload,
            "image/svg+xml": figure_svg(self),
            "text/plain": "Figure: "
            + plain(self.layout.title.text or "untitled").replace("\n", " "),
        }


def plot_text(text: str) -> str:
    """Escape data for plotly, which interprets some HTML and, between dollar signs, LaTeX."""
    return html.escape(text, quote=False).replace("$", "&#36;")


def number(value: float) -> str:
    """Three significant digits, thousands grouped, an exponent only for very small numbers."""
    if value == 0 or 1e-4 <= abs(value) < 999.5:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1 else f"{value:.2e}"


def percent(share: float) -> str:
    """A share as a percentage of three significant digits."""
    return f"{number(100 * share)} %"


def probability(log_prob: float) -> str:
    """exp(log_prob) as a percentage of two digits."""
    share = 100 * math.exp(log_prob)
    return f"{share:.2g} %" if share < 99.5 else "100 %"  # not 1e+02


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 item", "2,000 items"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def code_text(codes: Iterable[int]) -> str:
    """Codes as they are written everywhere: "1-2-3"."""
    return "-".join(map(str, codes))


def titled_figure(
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
    small = f'<br><span style="font-size:13px;color:#555555">{"<br>".join(lines)}</span>'
    text = plot_text(title) + (small if lines else "")
    fields = {
        "template": TEMPLATE,
        "height": total,
        "margin": {"l": 60, "r": 20, "t": top, "b": bottom, **margin},
        "title": {"text": text, "y": 1 - 14 / total, "yanchor": "top"},
        "showlegend": True,
    }
    return Figure(list(traces), fields | layout)
