"""Figures of the quality study: systems with their intervals, differences, hallucination."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import plotly.graph_objects as go

from nezha_lite.common.results import ResultRow
from nezha_lite.evaluation.statistics import holm
from nezha_lite.evaluation.study.config import Published
from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLACK, GREY
from nezha_lite.plots.numbers import number
from nezha_lite.plots.style import DATASETS, GRID, KINDS, Figure, SeriesStyle, nth_style

_ROW, _NAME_WIDTH, _BOTTOM = 26, 300, 100  # pixels: of a row; of its name; below the plot
Label = Callable[[ResultRow], str]
NAMES: Mapping[str, str] = {
    "popularity": "popularity",
    "item-knn": "item-kNN",
    "sasrec": "SASRec, full CE",
    "nezha": "NEZHA",
    "nezha, autoregressive": "NEZHA's backbone",
    "nezha, off": "NEZHA, unchecked",
    "nezha, final": "NEZHA, checked at the end",
    "nezha, parallel-heads": "NEZHA, transition skipped",
    "backbone-only": "backbone alone",
    "head-only": "draft loss alone",
    "no-placeholders": "no placeholders",
    "no-transition": "no transition",
    "three-levels": "3-level NEZHA",
    "three-levels, autoregressive": "3-level NEZHA's backbone",
    "three-levels, off": "3-level NEZHA, unchecked",
    "three-levels, parallel-heads": "3-level NEZHA, transition skipped",
    "untied": "NEZHA, untied",
    "untied, autoregressive": "NEZHA's backbone, untied",
    "backbone-only-untied": "backbone alone, untied",
    "self-taught": "NEZHA, self-taught",
    "self-taught, autoregressive": "NEZHA's backbone, self-taught",
    "blend": "SASRec + item-kNN",
    "item-memory": "item memory",
    "candidates": "candidate embeddings",
    "lists": "a teacher's lists",
    "strong": "NEZHA, all three",
    "strong, autoregressive": "NEZHA's backbone, all three",
    "strong-three-levels": "3-level NEZHA, all three",
}
"""What the systems of a study are called in figures and tables."""
QUANTITIES = {
    "beam": ("beam width", 1),
    "epoch": ("epochs of training", 1),
    "removed": ("items taken out of the catalogue after training (%)", 100),
}


def system_name(label: str) -> str:
    """The display name of a system; its own label if it has none."""
    return NAMES.get(label, label)


def pair_name(row: ResultRow) -> str:
    """The display name of a comparison, such as "NEZHA − no placeholders"."""
    one, other = row.settings["system"], row.settings["against"]
    return f"{system_name(one)} − {system_name(other)}"


def clear(row: ResultRow, metric: str, family: Sequence[ResultRow] = ()) -> int:
    """1 or -1 if a comparison says that there is a gain or a loss, and 0 if it may be chance.

    Its interval over runs and users must leave out 0, and its p be below 0.05 (`corrected_p`).
    """
    low, high = _bounds(row, metric)
    return (int(low > 0) - int(high < 0)) * (corrected_p(row, metric, family) < 0.05)


def corrected_p(row: ResultRow, metric: str, family: Sequence[ResultRow] = ()) -> float:
    """A comparison's p after Holm's correction over the rows shown together, `family`."""
    rows = family or [row]
    return holm([other.metrics[f"{metric}_p"] for other in rows])[rows.index(row)]


def measure(metric: str) -> str:
    """The display name of a metric: "Recall@10" for "recall@10"."""
    name, _, cut = metric.partition("@")
    return f"{ {'recall': 'Recall', 'ndcg': 'NDCG'}.get(name, name) }@{cut}"


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
    names = [system_name(row.settings["system"]) for row in rows]
    entries = [
        _Entry(name, _kind(row), row.metrics[metric], *_bounds(row, metric))
        for name, row in zip(names, rows, strict=True)
    ]
    ours = max(entries, key=lambda entry: entry.value)
    theirs = [
        _Entry(one.label, "published", *[one.metrics[metric]] * 3)
        for one in published
        if metric in one.metrics
    ]
    entries = sorted([*entries, *theirs], key=lambda entry: -entry.value)
    low, high = min(0.0, *(one.low for one in entries)), max(one.high for one in entries)
    # Lines up to the marks instead of a grid, which would cross the numbers.
    guides = [((low, y), (entry.low, y)) for y, entry in enumerate(entries)]
    traces: list[go.Scatter] = [draw.segments(guides, GRID)]
    for kind, style in KINDS.items():
        group = [(y, entry) for y, entry in enumerate(entries) if entry.kind == kind]
        if group and kind != "published":
            spans = [((one.low, y), (one.high, y)) for y, one in group]
            traces.append(draw.segments(spans, style.colour, 2))
        if group:
            points = [(one.value, y) for y, one in group]
            hover = [f"{one.name}: {number(one.value)}" for _, one in group]
            traces.append(draw.markers(points, style, 10, hover))
    reach = high - low or 1.0
    tips = [(entry.high + 0.02 * reach, y) for y, entry in enumerate(entries)]
    values = [f"{entry.value:.4f}" for entry in entries]
    traces.append(draw.texts(tips, values, "middle right", 11))
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
    ).update_yaxes(showgrid=False)


def differences_figure(
    rows: Sequence[ResultRow], metric: str, title: str, caption: str = "", label: Label = pair_name
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
        style = DATASETS.get(dataset, nth_style(index, dataset))
        shift = 0.0 if len(datasets) == 1 else 0.36 * (index / (len(datasets) - 1) - 0.5)
        own = [(names.index(label(row)) + shift, row) for row in rows if row.dataset == dataset]
        bounds = [_bounds(row, metric) for _, row in own]
        ends += [end for span in bounds for end in span]
        spans = [((low, y), (high, y)) for (y, _), (low, high) in zip(own, bounds, strict=True)]
        traces.append(draw.segments(spans, style.colour, 2))
        for is_clear, suffix in ((True, ""), (False, "-open")):
            subset = [(y, row) for y, row in own if bool(clear(row, metric, rows)) is is_clear]
            if not subset:
                continue
            hover = [
                f"{label(row)}: {row.metrics[f'{metric}_gain']:+.4f}, "
                f"p {corrected_p(row, metric, rows):.4f} (Holm)"
                for _, row in subset
            ]
            points = [(row.metrics[f"{metric}_gain"], y) for y, row in subset]
            marked = replace(style, symbol=style.symbol + suffix)
            # The legend names a data set once, by its filled mark where it has one.
            in_legend = is_clear or len(subset) == len(own)
            traces.append(draw.markers(points, marked, 10, hover, showlegend=in_legend))
    margin = 0.06 * (max(ends) - min(ends)) or 0.001
    zero = draw.line([(0.0, -0.6), (0.0, len(names) - 0.4)], BLACK)
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
        style = nth_style(index, name)
        hover = [f"{name}: {number(share)} %" for _, share in points]
        traces.append(draw.series(points, style, hover))
    ticks = sorted({value for points in lines.values() for value, _ in points})
    bottom = max(96, 60 + 18 * -(-len(lines) // 2))  # the legend has two names a row, or three
    x_axis = draw.axis(quantity, ticks, type="log" if x == "beam" else None)
    y_axis = draw.axis("unchecked drafts that exist (%)")
    return draw.figure(traces, title, caption, 250, bottom, xaxis=x_axis, yaxis=y_axis)


def _kind(row: ResultRow) -> str:
    if row.verifier is None:
        return "no codes"
    return "backbone" if row.decoder == "autoregressive" else "head"


def _bounds(row: ResultRow, metric: str) -> tuple[float, float]:
    return row.metrics[f"{metric}_low"], row.metrics[f"{metric}_high"]


def _rows_figure(
    names: Sequence[str],
    traces: Sequence[go.Scatter],
    title: str,
    caption: str,
    x_title: str,
    span: tuple[float, float],
) -> Figure:
    height, x_axis = _ROW * len(names) + 12, draw.axis(x_title, ends=span)
    y_axis = draw.rows_axis(names, _NAME_WIDTH)
    return draw.figure(traces, title, caption, height, _BOTTOM, xaxis=x_axis, yaxis=y_axis)
