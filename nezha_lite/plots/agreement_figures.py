"""Figures of the agreement between draft head and backbone: ranks and shared prefixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from nezha_lite.plots.beam_figures import percent
from nezha_lite.plots.prefix_agreement import ComparedPrefix, LevelAgreement, Opinion
from nezha_lite.plots.style import BLUE, GREEN, ORANGE, VERMILLION, Figure, headed, plot_text
from nezha_lite.plots.traces import bar_trace, marker_trace, named_axis, segment_trace, text_trace

HALF = 0.29  # levels, from the middle of a pair of columns to either of them
ROW, LEAST, MOST = 20, 180, 640  # pixels: of a rank; of the plot
ABOVE = 20  # pixels, from the first rank up to the counts
LOOKS = ((BLUE, ""), (ORANGE, "/"), (GREEN, "x"))
MARKS = {True: ("circle", BLUE, "kept by both"), False: ("x", VERMILLION, "kept by one alone")}


@dataclass(frozen=True)
class RankMark:
    """One prefix in one column."""

    level: int
    prefix: ComparedPrefix
    x: float
    rank: int


def rank_marks(levels: Sequence[LevelAgreement], shared: bool) -> list[RankMark]:
    """The marks of the prefixes that both searches kept, or that only one of them kept."""
    return [
        RankMark(level.level, prefix, level.level + side, rank)
        for level in levels
        for prefix in level.prefixes
        if prefix.shared is shared
        for side, rank in ((-HALF, prefix.head.rank), (HALF, prefix.model.rank))
        if rank is not None
    ]


def chosen_ends(chosen: ComparedPrefix | None) -> tuple[list[float], list[int]]:
    """x and y of the chosen prefix in the columns that contain it."""
    if chosen is None:
        return [], []
    level = len(chosen.codes)
    both = ((level - HALF, chosen.head.rank), (level + HALF, chosen.model.rank))
    points = [(x, rank) for x, rank in both if rank is not None]
    return [x for x, _ in points], [rank for _, rank in points]


def ranks_figure(
    levels: Sequence[LevelAgreement],
    chosen: ComparedPrefix | None = None,
    title: str = "The same prefixes, ranked by the head and by the model",
) -> Figure:
    """A pair of columns for each level; a line joins a prefix's rank in both.

    The traces are always: lines, the chosen prefix, marks of both, marks of one alone, counts.

    Args:
        levels: from `compare_prefixes`.
        chosen: drawn thick.
        title: plain text.
    """
    deepest = max((mark.rank for s in (True, False) for mark in rank_marks(levels, s)), default=1)
    pairs = rank_marks(levels, shared=True)
    joins = [(left, right) for left, right in zip(pairs[::2], pairs[1::2], strict=True)]
    lines = segment_trace(
        [((left.x, left.rank), (right.x, right.rank)) for left, right in joins], "#999999", 1.5
    )
    marks = [
        marker_trace(
            [(mark.x, mark.rank) for mark in rank_marks(levels, shared)],
            {"symbol": symbol, "color": colour, "size": 9},
            name=name,
            hover=[
                plot_text(describe(mark.prefix)).replace("; ", "<br>")
                for mark in rank_marks(levels, shared)
            ],
        )
        for shared, (symbol, colour, name) in MARKS.items()
    ]
    xs, ys = chosen_ends(chosen)
    ring = go.Scatter(
        x=xs,
        y=ys,
        mode="lines+markers",
        line={"color": "#000000", "width": 3},
        marker={
            "symbol": "circle-open",
            "size": 17,
            "color": "#000000",
            "line": {"width": 2.5},
        },
        hoverinfo="skip",
        showlegend=False,
    )
    height = min(MOST, max(LEAST, ROW * deepest))
    pixel = (deepest + 1.6) / height  # in ranks, and rather too large
    above = 1 - max(1, ABOVE * pixel)
    counts = text_trace(
        zip([level.level for level in levels], [above] * len(levels), strict=True),
        [f"level {one.level}: {one.shared} of {one.model_kept}" for one in levels],
        position="middle center",
    )
    numbers = range(1, len(levels) + 1)
    ranks = [1, *range(5, deepest + 1, 5)] if deepest > 10 else list(range(1, deepest + 1))
    layout = headed(
        title,
        "Above each pair: how many of the model's prefixes the head kept too. A flat line is the "
        "same rank in both. A cross is kept by one alone: on the model's side, the head lost it.",
        height,
        showlegend=True,
        hovermode="closest",
        xaxis={
            "tickvals": [number + side for number in numbers for side in (-HALF, HALF)],
            "ticktext": ["head", "model"] * len(levels),
            "range": [0.5, len(levels) + 0.5],
            "showgrid": False,
        },
        yaxis={
            "title": {"text": "rank in the beam"},
            "tickvals": ranks,
            "ticktext": [str(rank) for rank in ranks],
            "range": [deepest + 0.8, above - ABOVE / 2 * pixel],
            "showgrid": False,
        },
    )
    return Figure([lines, ring, *marks, counts], layout)


def shares_figure(
    series: Mapping[str, Sequence[float]],
    title: str = "How much of the model's beam the head foresees",
    caption: str = "",
    groups: Sequence[str] | None = None,
) -> Figure:
    """Bars side by side for each group: shares, such as those of the model's beam.

    Args:
        series: at most three, name → share of group 1, 2, …; one may end before the others.
        title: plain text.
        caption: what to see, in a sentence.
        groups: plain text below each group; by default "level 1", "level 2", …

    Raises:
        ValueError: for more than three series.
    """
    if len(series) > len(LOOKS):
        raise ValueError(f"There are {len(series)} series, but at most {len(LOOKS)} fit.")
    levels = max((len(shares) for shares in series.values()), default=1)
    named = [f"level {number}" for number in range(1, levels + 1)] if groups is None else groups
    width = 0.84 / max(1, len(series))
    traces: list[go.Bar | go.Scatter] = []
    texts: list[tuple[float, float]] = []
    for index, ((name, shares), (colour, pattern)) in enumerate(
        zip(series.items(), LOOKS, strict=False)
    ):
        xs = [
            level + (index - (len(series) - 1) / 2) * width for level in range(1, len(shares) + 1)
        ]
        heights = [100 * share for share in shares]
        texts += zip(xs, heights, strict=True)
        traces.append(
            bar_trace(
                zip(xs, heights, strict=True),
                name,
                colour,
                pattern,
                0.9 * width,
                hoverinfo="name+y",
            )
        )
    traces.append(text_trace(texts, [f"{height:.0f} %" for _, height in texts], size=11))
    layout = headed(
        title,
        caption,
        180,
        showlegend=True,
        barmode="overlay",
        xaxis=named_axis(named, range(1, levels + 1), 0.5),
        yaxis={
            "title": {"text": "share (%)"},
            "tickvals": [0, 25, 50, 75, 100],
            "ticktext": ["0", "25", "50", "75", "100"],
            "range": [0, 116],
        },
    )
    return Figure(traces, layout)


def describe(prefix: ComparedPrefix) -> str:
    """The rank and probability of a prefix in both searches, in one line of plain text."""
    codes = "-".join(map(str, prefix.codes))
    return f"Prefix {codes}: {_said(prefix.head, 'head')}; {_said(prefix.model, 'model')}."


def _said(opinion: Opinion, whose: str) -> str:
    rank = "not kept" if opinion.rank is None else f"rank {opinion.rank}"
    if opinion.log_prob is None:
        return f"{rank} by the {whose}, which had lost what it continues"
    return f"{rank} by the {whose} (probability {percent(opinion.log_prob)})"
