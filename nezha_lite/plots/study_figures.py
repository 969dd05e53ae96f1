"""Figures of the quality study: systems with their intervals, differences, hallucination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import plotly.graph_objects as go

from nezha_lite.common.results import ResultRow
from nezha_lite.evaluation.study.systems import Published
from nezha_lite.plots.basic_charts import number
from nezha_lite.plots.static_svg import shortened
from nezha_lite.plots.study_style import (
    DATASETS,
    KINDS,
    LINES,
    QUANTITIES,
    clear,
    corrected_p,
    measure,
    pair_name,
    system_name,
)
from nezha_lite.plots.style import BLACK, GREY, PALETTE, SYMBOLS, Figure, headed, plot_text
from nezha_lite.plots.traces import (
    SeriesStyle,
    line_trace,
    marker_trace,
    segment_trace,
    series_trace,
    text_trace,
)

_ROW, _NAME_ROOM, _BOTTOM = 26, 300, 100  # pixels: of a row; of its name; below the plot
Label = Callable[[ResultRow], str]


class _Entry(NamedTuple):
    name: str
    kind: str  # of KINDS
    value: float
    low: float
    high: float


def systems_figure(
    rows: Sequence[ResultRow], published: Sequence[Published], metric: str, title: str
) -> Figure:
    """Every system's figure with its interval, best first, and published figures among them.

    Args:
        rows: "systems" of one data set.
        published: of the same data set.
        metric: such as "recall@10"; the rows need its bounds too.
        title: plain text.

    Raises:
        ValueError: if there are no rows, or rows of several data sets.
    """
    if len({row.dataset for row in rows}) != 1:
        raise ValueError(f"A figure of systems needs rows of one data set, not {len(rows)} rows.")
    entries = [
        _Entry(system_name(row.settings["system"]), _kind(row), *_bounds(row, metric))
        for row in rows
    ]
    ours = max(entries, key=lambda entry: entry.value)
    theirs = [
        _Entry(one.label, "published", *[one.metrics[metric]] * 3)
        for one in published
        if metric in one.metrics
    ]
    entries = sorted([*entries, *theirs], key=lambda entry: -entry.value)
    traces: list[go.Scatter] = []
    for kind, style in KINDS.items():
        positions = [position for position, entry in enumerate(entries) if entry.kind == kind]
        own = [entries[position] for position in positions]
        if own and kind != "published":
            traces.append(_spans([(one.low, one.high) for one in own], positions, style.colour))
        if own:
            hover = [f"{plot_text(one.name)}: {number(one.value)}" for one in own]
            values = [one.value for one in own]
            traces.append(_marks(style.name, values, positions, style.colour, style.symbol, hover))
    low, high = min(0.0, *(one.low for one in entries)), max(one.high for one in entries)
    reach = high - low or 1.0
    traces.append(
        text_trace(
            zip(
                [entry.high + 0.02 * reach for entry in entries],
                list(range(len(entries))),
                strict=True,
            ),
            [f"{entry.value:.4f}" for entry in entries],
            position="middle right",
            size=11,
        )
    )
    summary = f"Best of ours: {ours.name}, {ours.value:.4f} ({ours.low:.4f} to {ours.high:.4f})."
    if theirs:
        best = max(theirs, key=lambda entry: entry.value)
        summary += f" Best published: {best.name}, {best.value:.4f}."
    return _rows_figure(
        [entry.name for entry in entries],
        traces,
        title,
        f"{summary} Bars: 95 % intervals over users and runs.",
        measure(metric),
        (low, high + 0.14 * reach),
    )


def differences_figure(
    rows: Sequence[ResultRow],
    metric: str,
    title: str,
    caption: str = "",
    label: Label = pair_name,
) -> Figure:
    """Differences with their intervals around a line at 0: a row per label, a mark per data set.

    Args:
        rows: "comparisons" or "strata".
        metric: such as "ndcg@10".
        title: plain text.
        caption: what to see; how many are within chance, by p after Holm's correction over all
            rows of the figure, is added.
        label: what a row of the figure is called; rows of one label and data set must not repeat.

    Raises:
        ValueError: if there are no rows, or two with the same label and data set.
    """
    names = list(dict.fromkeys(label(row) for row in rows))
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    if not rows or len({(label(row), row.dataset) for row in rows}) < len(rows):
        raise ValueError("A figure of differences needs one row, or more, for each label.")
    traces: list[go.Scatter] = []
    ends = [0.0]
    for index, dataset in enumerate(datasets):
        style = DATASETS.get(
            dataset, SeriesStyle(dataset, PALETTE[index % 7], symbol=SYMBOLS[index % 7])
        )
        own = [row for row in rows if row.dataset == dataset]
        shift = 0.0 if len(datasets) == 1 else 0.36 * (index / (len(datasets) - 1) - 0.5)
        positions = [names.index(label(row)) + shift for row in own]
        spans = [(row.metrics[f"{metric}_low"], row.metrics[f"{metric}_high"]) for row in own]
        ends += [end for span in spans for end in span]
        traces.append(_spans(spans, positions, style.colour))
        for is_clear, suffix in ((True, ""), (False, "-open")):
            subset = [
                (position, row)
                for position, row in zip(positions, own, strict=True)
                if bool(clear(row, metric, rows)) is is_clear
            ]
            if subset:
                gains = [row.metrics[f"{metric}_gain"] for _, row in subset]
                hover = [
                    f"{plot_text(label(row))}: {row.metrics[f'{metric}_gain']:+.4f}, "
                    f"p {corrected_p(row, metric, rows):.4f} (Holm)"
                    for _, row in subset
                ]
                ys, symbol = [position for position, _ in subset], style.symbol + suffix
                marks = _marks(style.name, gains, ys, style.colour, symbol, hover)
                # The legend names a data set once, by its filled mark where it has one.
                marks.showlegend = is_clear or len(subset) == len(own)
                traces.append(marks)
    margin = 0.06 * (max(ends) - min(ends)) or 0.001
    zero = line_trace([(0.0, -0.6), (0.0, len(names) - 0.4)], BLACK)
    unclear = sum(not clear(row, metric, rows) for row in rows)
    return _rows_figure(
        names,
        [zero, *traces],
        title,
        f"{caption} Within chance (open marks): {unclear} of {len(rows)}.".strip(),
        f"difference in {measure(metric)}",
        (min(ends) - margin, max(ends) + margin),
    )


def hallucination_figure(rows: Sequence[ResultRow], x: str, title: str, caption: str) -> Figure:
    """The share of unchecked drafts that exist: a line per system and data set.

    Args:
        rows: "hallucination" rows of the verifier "off", or "learning" rows.
        x: "beam", "epoch" or "removed" (the share of the catalogue taken out).
        title: plain text.
        caption: what to see, in a sentence.

    Raises:
        ValueError: if no row has x.
    """
    quantity, scale = QUANTITIES[x]
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        value = row.beam if x == "beam" else row.settings.get(x)
        share = row.metrics.get("valid_unchecked", row.metrics.get("valid"))
        if value is None or share is None:
            continue
        dataset = DATASETS.get(row.dataset, SeriesStyle(row.dataset, GREY)).name
        name = f"{dataset}, {system_name(row.settings['system'].partition(',')[0])}"
        lines.setdefault(name, []).append((scale * value, 100 * share))
    if not lines:
        raise ValueError(f"No row says which share of its drafts exists at which {x}.")
    traces = []
    for index, (name, points) in enumerate(sorted(lines.items())):
        points.sort()
        style = LINES[index % len(LINES)]
        traces.append(
            series_trace(
                points,
                replace(style, name=name),
                [f"{plot_text(name)}: {number(share)} %" for _, share in points],
            )
        )
    ticks = sorted({value for points in lines.values() for value, _ in points})
    layout = headed(
        title,
        caption,
        250,
        max(96, 60 + 18 * -(-len(lines) // 2)),  # the legend has two names a row, or three
        showlegend=True,
        xaxis={
            "title": {"text": quantity},
            "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks],
            **({"type": "log"} if x == "beam" else {}),
        },
        yaxis={"title": {"text": "unchecked drafts that exist (%)"}},
    )
    return Figure(traces, layout)


def _kind(row: ResultRow) -> str:
    if row.verifier is None:
        return "no codes"
    return "backbone" if row.decoder == "autoregressive" else "head"


def _bounds(row: ResultRow, metric: str) -> tuple[float, float, float]:
    return row.metrics[metric], row.metrics[f"{metric}_low"], row.metrics[f"{metric}_high"]


def _spans(
    spans: Sequence[tuple[float, float]], positions: Sequence[float], colour: str
) -> go.Scatter:
    """Intervals as strokes: a static figure has no horizontal error bars."""
    segments = [((low, y), (high, y)) for (low, high), y in zip(spans, positions, strict=True)]
    return segment_trace(segments, colour, 2)


def _marks(
    name: str,
    values: Sequence[float],
    positions: Sequence[float],
    colour: str,
    symbol: str,
    hover: Sequence[str],
) -> go.Scatter:
    marker: dict[str, Any] = {"color": colour, "symbol": symbol, "size": 10}
    if symbol.endswith("-open"):
        marker["line"] = {"width": 1.5}
    return marker_trace(
        zip(values, positions, strict=True), marker, name=plot_text(name), hover=hover
    )


def _rows_figure(
    names: Sequence[str],
    traces: Sequence[go.Scatter],
    title: str,
    caption: str,
    x_title: str,
    span: tuple[float, float],
) -> Figure:
    layout = headed(
        title,
        caption,
        _ROW * len(names) + 12,
        _BOTTOM,
        showlegend=True,
        hovermode="closest",
        xaxis={"title": {"text": x_title}, "range": list(span)},
        yaxis={
            "tickvals": list(range(len(names))),
            "ticktext": [plot_text(shortened(name, _NAME_ROOM, 12)) for name in names],
            "range": [len(names) - 0.4, -0.6],
        },
    )
    return Figure(list(traces), layout)
