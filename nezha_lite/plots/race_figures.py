"""Decoders compared: time for one list, and lists with items that do not exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from nezha_lite.plots.basic_charts import number
from nezha_lite.plots.static_svg import WIDTH, text_width
from nezha_lite.plots.style import BLUE, ORANGE, Figure, headed, plot_text
from nezha_lite.plots.traces import bar_trace, text_trace

_ROW, _LETTERS, _RIGHT, _GAP = 34, 12, 20, 6  # pixels: a bar and its gap; of texts; margins


@dataclass(frozen=True)
class RaceBar:
    """The result of one decoder in a race.

    Attributes:
        name: plain text.
        ms: milliseconds for the list.
        calls: forward passes of the backbone.
        listed: IDs in the list.
        missing: how many of those no item has.
    """

    name: str
    ms: float
    calls: int
    listed: int
    missing: int

    @property
    def text(self) -> str:
        """The label at the bar's end, in plain text."""
        line = f"{number(self.ms)} ms, {self.calls} backbone call{'' if self.calls == 1 else 's'}"
        return line + (f"; ✕ {self.missing} of {self.listed} do not exist" if self.missing else "")


def race_figure(bars: Sequence[RaceBar], title: str, caption: str = "") -> Figure:
    """A bar per decoder for its time; striped where the list contains non-existing IDs.

    Args:
        bars: from the top down.
        title: plain text.
        caption: what to see, in a sentence; what the stripes mean is added.
    """
    names = [bar.name for bar in bars]
    left = 34 + max((text_width(name, _LETTERS) for name in names), default=0)
    plot_width = WIDTH - left - _RIGHT  # pixels of the x axis
    # Long enough that the text at every bar's end has its place within the plot.
    ends = [bar.ms / (1 - (text_width(bar.text, _LETTERS) + _GAP) / plot_width) for bar in bars]
    longest = max(ends, default=1.0) or 1.0
    looks = (
        ("lists only IDs that exist", BLUE, "", [bar for bar in bars if not bar.missing]),
        ("lists IDs that do not exist", ORANGE, "x", [bar for bar in bars if bar.missing]),
    )
    traces: list[go.Bar | go.Scatter] = [
        bar_trace(
            [(bar.ms, bars.index(bar)) for bar in group],
            name,
            colour,
            pattern,
            orientation="h",
            hoverinfo="text",
            hovertext=[plot_text(f"{bar.name}: {bar.text}") for bar in group],
        )
        for name, colour, pattern, group in looks
    ]
    traces.append(
        text_trace(
            zip(
                [bar.ms + _GAP * longest / plot_width for bar in bars],
                list(range(len(bars))),
                strict=True,
            ),
            [plot_text(bar.text) for bar in bars],
            position="middle right",
            size=_LETTERS,
        )
    )
    layout = headed(
        title,
        f"{caption} Striped: the list names IDs that no item has.".strip(),
        max(1, len(bars)) * _ROW,
        90,
        barmode="overlay",
        showlegend=True,
        xaxis={"title": {"text": "milliseconds for one list (median)"}, "range": [0, longest]},
        yaxis={
            "tickvals": list(range(len(bars))),
            "ticktext": [plot_text(name) for name in names],
            "range": [len(bars) - 0.5, -0.5],
            "showgrid": False,
        },
    )
    layout["margin"] |= {"l": round(left), "r": _RIGHT}
    return Figure(traces, layout)
