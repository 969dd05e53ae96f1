"""The style of figures and of the numbers in them, and their display in a notebook."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from nezha_lite.plots.colours import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION
from nezha_lite.plots.static_svg import figure_svg, plain

PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
# Series differ in dash and symbol too, so that colour is never the only difference.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down")

GRID = "#E5E5E5"
_AXIS = {
    "automargin": True,
    "gridcolor": GRID,
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


@dataclass(frozen=True)
class SeriesStyle:
    """Name, colour, dash and symbol of a series, the same in every figure.

    Attributes:
        name: plain text; without one, a series is not in the legend.
        colour: of lines and marks.
        dash: of lines.
        symbol: of marks, of plotly's names; lines with "" have no marks.
        stroke: pixels, of symbols that end with "-open".
    """

    name: str
    colour: str
    dash: str = "solid"
    symbol: str = "circle"
    stroke: float = 1.5

    def marker(self, size: float) -> dict[str, Any]:
        """Its mark as plotly's fields."""
        line = {"line": {"width": self.stroke}} if self.symbol.endswith("-open") else {}
        return {"color": self.colour, "symbol": self.symbol or "circle", "size": size, **line}


def nth_style(index: int, name: str) -> SeriesStyle:
    """The style of a series that has none of its own, by its index; they repeat after seven."""
    look = index % len(PALETTE)
    return SeriesStyle(name, PALETTE[look], DASHES[look], SYMBOLS[look])


# Decoders, as the results name them.
DECODERS = {
    "nezha": SeriesStyle("NEZHA", BLUE),
    "nezha-eager": SeriesStyle("NEZHA, eager", BLUE, "dash", "circle-open"),
    "parallel-heads": SeriesStyle("parallel heads", GREEN, "longdash", "diamond"),
    "parallel-heads-eager": SeriesStyle("parallel heads, eager", GREEN, "dot", "diamond-open"),
    "autoregressive": SeriesStyle("autoregressive", VERMILLION, "solid", "square"),
    "autoregressive-eager": SeriesStyle("autoregressive, eager", VERMILLION, "dash", "square-open"),
    "speculative": SeriesStyle("speculative", PURPLE, "dashdot", "triangle-up"),
    "generate": SeriesStyle("generate", GREY, "dash", "x"),
    "generate-constrained": SeriesStyle("generate, constrained", BLACK, "solid", "x"),
}
UNCHECKED = SeriesStyle("NEZHA, unchecked", SKY, "dot", "triangle-down")
# Phases of a decode: the colour and the pattern of their bars.
PHASES = {
    "forward": (BLUE, ""),
    "head": (ORANGE, "/"),
    "verify": (GREEN, "x"),
    "select": (GREY, ""),
}
# Verifier structures.
STRUCTURES = {
    "isin": SeriesStyle("torch.isin", BLACK, "longdash", "x"),
    "hash-set": SeriesStyle("Python set", GREY, "dot", "triangle-down"),
    "sorted": SeriesStyle("sorted keys", VERMILLION, "dash", "square"),
    "hash-table": SeriesStyle("hash table", PURPLE, "dashdot", "triangle-up"),
    "bitset": SeriesStyle("bitset", GREEN, "longdash", "diamond"),
    "trie": SeriesStyle("trie", BLUE, "solid", "circle"),
}
# Services of a capacity plan: those with the paper's latencies, then all others by their index.
PAPER = {
    "paper: before NEZHA": SeriesStyle("paper: before NEZHA", ORANGE, "longdashdot", "cross"),
    "paper: NEZHA": SeriesStyle("paper: NEZHA", SKY, "dot", "diamond"),
}
SERVICE_STYLES = (
    SeriesStyle("", PURPLE, "dashdot", "triangle-up"),
    SeriesStyle("", GREEN, "longdash", "triangle-down"),
    SeriesStyle("", VERMILLION, "dot", "square-open"),
    SeriesStyle("", GREY, "dash", "diamond-open"),
)
# The quality study: data sets, and kinds of systems.
DATASETS = {
    "beauty": SeriesStyle("Beauty", BLUE),
    "toys": SeriesStyle("Toys", VERMILLION, symbol="diamond"),
}
KINDS = {
    "no codes": SeriesStyle("no codes", GREY, symbol="square"),
    "head": SeriesStyle("by the head", BLUE, symbol="circle"),
    "backbone": SeriesStyle("code by code", VERMILLION, symbol="diamond"),
    "published": SeriesStyle("published", BLACK, symbol="triangle-up-open"),
}


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


def decoder_style(name: str, verifier: str | None) -> SeriesStyle:
    """The style of a decoder, given its verification, the same in every figure."""
    style = DECODERS.get(name, SeriesStyle(name, GREY, "dot", "cross"))
    if name in ("generate", "generate-constrained") or verifier in ("prefix", None):
        return style
    if (name, verifier) == ("nezha", "off"):
        return UNCHECKED
    how = {"off": "unchecked", "final": "checked at the end"}.get(str(verifier), str(verifier))
    return SeriesStyle(
        f"{style.name}, {how}", style.colour, "dot", f"{style.symbol.removesuffix('-open')}-open"
    )


def plot_text(text: str) -> str:
    """A text escaped for plotly, which interprets some HTML and, between dollar signs, LaTeX."""
    return html.escape(text, quote=False).replace("$", "&#36;")
