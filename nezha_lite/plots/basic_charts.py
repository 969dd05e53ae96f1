"""Basic figures: bars, lines, an attention mask, the ID space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10, prod
from typing import Any

import plotly.graph_objects as go
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLUE
from nezha_lite.plots.numbers import number
from nezha_lite.plots.static_svg import text_width
from nezha_lite.plots.style import Figure, nth_style, plot_text
from nezha_lite.semantic_ids import SemanticIds

MAX_LABELS, MAX_TICKS = 40, 6
BARS_BOTTOM = 42  # pixels: the names of the bars, and no legend


def bars_figure(
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[float] | None = None,
    title: str = "",
    caption: str = "",
    y_title: str = "",
) -> Figure:
    """One labelled bar for each name.

    Args:
        names: plain text.
        values: what the bars show; written above them with three digits.
        errors: half-widths of the intervals around the values.
        title: plain text.
        caption: what to see, in a sentence.
        y_title: the quantity, with its unit.
    """
    lengths = [len(names), len(values), len(values if errors is None else errors)]
    check(len(set(lengths)) == 1, "lengths of names, values and errors", lengths, "equal")
    spans = [0.0] * len(names) if errors is None else [float(error) for error in errors]
    heights = [float(value) for value in values]
    tops = [height + span for height, span in zip(heights, spans, strict=True)]
    bar = draw.bars(
        enumerate(heights),
        "",
        BLUE,
        width=0.6 * min(1, len(names) / 4),
        hover=[
            f"{name}: {number(height)}{f' ± {number(span)}' if span else ''}"
            for name, height, span in zip(names, heights, spans, strict=True)
        ],
        error_y=None if errors is None else {"type": "data", "array": spans},
    )
    low, high = min([0.0, *heights]), max([0.0, *tops])
    high = high if high > low else 1.0  # an axis needs a length, even for zeros
    # A scatter carries the numbers, so that they stand above the error bars, not across them.
    labels = draw.texts(enumerate(top + 0.015 * (high - low) for top in tops), map(number, heights))
    x_axis = draw.named_axis(names)
    y_axis = draw.axis(y_title, ends=(low, high + 0.14 * (high - low)), tickformat=",")
    layout: dict[str, Any] = {"showlegend": False, "xaxis": x_axis, "yaxis": y_axis}
    return draw.figure([bar, labels], title, caption, 240, BARS_BOTTOM, **layout)


def lines_figure(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_title: str,
    y_title: str,
    title: str = "",
    caption: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Lines that differ in colour, dash and symbol.

    Args:
        series: name → (x, y).
        x_title: the quantity, with its unit.
        y_title: the quantity, with its unit.
        title: plain text.
        caption: what to see, in a sentence.
        log_x: logarithmic x axis; all x must then be positive.
        log_y: the same for y.
    """
    traces = []
    for index, (name, (xs, ys)) in enumerate(series.items()):
        check(len(xs) == len(ys), f"number of y of {name!r}", len(ys), f"{len(xs)}, as many as x")
        for letter, is_log, numbers in (("x", log_x, xs), ("y", log_y, ys)):
            positive = not is_log or min(numbers, default=1) > 0
            check(positive, f"{letter} of {name!r}", list(numbers), "above 0 on a logarithmic axis")
        points = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
        traces.append(draw.series(points, nth_style(index, name)))
    x_axis = _axis(x_title, log_x, [x for xs, _ in series.values() for x in xs], MAX_TICKS)
    y_axis = _axis(y_title, log_y, [y for _, ys in series.values() for y in ys])
    return draw.figure(traces, title, caption, 270, xaxis=x_axis, yaxis=y_axis)


def _axis(title: str, log: bool, values: list[float], few: int = 0) -> dict[str, Any]:
    """An axis; a logarithmic one marks the values themselves where there are at most `few`."""
    if not log or not values:
        return draw.axis(title, type="log" if log else None, tickformat=None if log else ",")
    low, high = log10(min(values)), log10(max(values))
    space = 0.06 * (high - low) or 0.5
    ends, ticks = (low - space, high + space), sorted(set(values))
    if len(ticks) <= few:
        return draw.axis(title, ticks, [f"{tick:,.10g}" for tick in ticks], ends, type="log")
    return draw.decimal_axis(title, *ends, ends)


def attention_mask_figure(
    mask: Tensor,
    labels: Sequence[str],
    title: str = "",
    caption: str = "A filled cell: the token of that row may look at the token of that column.",
) -> Figure:
    """An attention mask: rows are queries, columns are keys.

    Args:
        mask: (T, T) bool, such as `packed_attention_mask(...)[0, 0]`.
        labels: T token names; with more than 40 tokens only some are written.
        title: plain text.
        caption: what to see, in a sentence.
    """
    tokens = len(labels)
    shape = tuple(mask.shape)
    check(shape == (tokens, tokens), "shape of mask", shape, f"{(tokens, tokens)}, as the labels")
    step = -(-tokens // MAX_LABELS)
    names = [plot_text(label) for label in labels]
    cells = go.Heatmap(
        z=mask.int().tolist(),
        zmin=0,
        zmax=1,
        colorscale=[[0, "#F2F2F2"], [1, BLUE]],
        showscale=False,
        xgap=1,
        ygap=1,
        hoverinfo="text",
        hovertext=[
            [
                f"{query} {'sees' if visible else 'does not see'} {key}"
                for key, visible in zip(names, row, strict=True)
            ]
            for query, row in zip(names, mask.tolist(), strict=True)
        ],
    )
    ticks, texts, ends = range(0, tokens, step), labels[::step], (-0.5, tokens - 0.5)
    # The labels of the columns stand upright, with the axis's title below the longest of them.
    depth = max((text_width(label, 11) for label in texts), default=0)
    upright = {"tickangle": -90, "tickfont": {"size": 11}}
    x_axis = draw.axis("key: the token looked at", ticks, texts, ends, showgrid=False) | upright
    y_axis = draw.axis("query: the token that looks", ticks, texts, ends[::-1], showgrid=False)
    height, bottom = max(220, min(640, 22 * tokens)), max(draw.BOTTOM, round(depth) + 48)
    return draw.figure([cells], title, caption, height, bottom, xaxis=x_axis, yaxis=y_axis)


def id_space_figure(semantic_ids: SemanticIds) -> Figure:
    """The number of possible and of existing prefixes after each level."""
    levels = list(range(1, semantic_ids.levels + 1))
    possible = [prod(semantic_ids.radices[:level]) for level in levels]
    existing = [semantic_ids.prefix_keys(level).numel() for level in levels]
    figure = lines_figure(
        {"could be written": (levels, possible), "exist": (levels, existing)},
        x_title="codes written so far (level)",
        y_title="different prefixes",
        title="The ID space is almost empty",
        caption=(
            f"{existing[-1]:,} of {possible[-1]:,} semantic IDs exist "
            f"({100 * semantic_ids.occupancy:.2g} %): a decoder that checks nothing can easily "
            "write an ID that no item has."
        ),
        log_y=True,
    )
    return figure.update_xaxes(draw.axis(ticks=levels))
