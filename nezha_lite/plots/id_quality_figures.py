"""Figures of the quality report: what prefixes keep, and tokenizers compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from nezha_lite.plots import draw
from nezha_lite.plots.colours import GREY
from nezha_lite.plots.numbers import counted, percent
from nezha_lite.plots.style import GRID, Figure, SeriesStyle, nth_style
from nezha_lite.semantic_ids.quality import IdQuality

MAX_LEVELS = 4  # shown in one figure: what fits into the legend, and readers can tell apart
_ROW, _NAME_WIDTH = 34, 200  # pixels: of a tokenizer's row; of its name


def neighbours_figure(tokenizers: Mapping[str, IdQuality]) -> Figure:
    """The share of an item's nearest neighbours that have the same first codes, beside chance.

    Args:
        tokenizers: name → report; those made without vectors are refused.
    """
    missing = [name for name, q in tokenizers.items() if q.prefixes[0].neighbours is None]
    if missing or not tokenizers:
        which = f"The report of {missing[0]!r} has" if missing else "There are"
        raise ValueError(f"{which} no neighbours: call id_quality with the items' vectors.")
    reports = list(tokenizers.values())
    depth = max(map(_own_levels, reports))
    levels = _few(depth)
    shares = {
        counted(level + 1, "code"): [
            quality.prefixes[level].neighbours if level < _own_levels(quality) else None
            for quality in reports
        ]
        for level in levels
    }
    best = max(tokenizers, key=lambda name: tokenizers[name].prefixes[0].neighbours or 0.0)
    first = tokenizers[best].prefixes[0]
    caption = (
        f"{best} keeps the most: {percent(first.neighbours or 0.0)} of an item's nearest "
        f"neighbours have its first code; chance gives {percent(first.neighbours_chance or 0.0)} "
        "(grey ring). Longer prefixes have fewer items, so they keep less."
    ) + _left_out(depth)
    x_title, title = "nearest neighbours with the same prefix (%)", "Do close items share prefixes?"
    figure = _dots(shares, x_title, title, caption, tokenizers)
    chances = [100 * (quality.prefixes[0].neighbours_chance or 0.0) for quality in reports]
    chance = zip(chances, range(len(reports)), strict=True)
    ring = SeriesStyle("chance", GREY, symbol="circle-open")
    return figure.add_trace(draw.markers(chance, ring, 11, hoverinfo="name+x"))


def tokenizers_figure(tokenizers: Mapping[str, IdQuality]) -> Figure:
    """Effective codes of each level as a share of the attainable, and the collision rates.

    Args:
        tokenizers: name → report of IDs whose collisions were left as they are.
    """
    if not tokenizers:
        raise ValueError("There are no tokenizers to compare: give at least one report.")
    depth = max(map(_own_levels, tokenizers.values()))
    levels = _few(depth)
    shares = {
        f"level {level + 1}": [
            quality.levels[level].attained if level < _own_levels(quality) else None
            for quality in tokenizers.values()
        ]
        for level in levels
    }
    fewest = min(tokenizers, key=lambda name: tokenizers[name].collision_rate)
    weakest = min(
        ((name, level) for name, q in tokenizers.items() for level in q.levels if not level.extra),
        key=lambda pair: pair[1].attained,
    )
    caption = (
        f"Fewest collisions: {fewest}, {percent(tokenizers[fewest].collision_rate)} of the items. "
        f"Codes are used least evenly at level {weakest[1].level} of {weakest[0]}: "
        f"{percent(weakest[1].attained)} of the effective codes that its items allow."
    ) + _left_out(depth)
    x_title = "effective codes (% of attainable)"
    figure = _dots(shares, x_title, "Tokenizers compared", caption, tokenizers)
    points = [(103.0, row) for row in range(len(tokenizers))]
    rates = [f"{percent(q.collision_rate)} collide" for q in tokenizers.values()]
    figure.add_trace(draw.texts(points, rates, position="middle right"))
    # A grid would cross the rates.
    guides = [((-3.0, y), (101.5, y)) for _, y in points]
    figure.add_trace(draw.segments(guides, GRID)).update_yaxes(showgrid=False)
    return figure.update_xaxes(range=[-3, 130])


def _dots(
    shares: Mapping[str, Sequence[float | None]],
    x_title: str,
    title: str,
    caption: str,
    tokenizers: Collection[str],
) -> Figure:
    """A row for each tokenizer, with a mark for each of its shares: series → share in each row."""
    # Later marks are smaller, so that equal shares are all visible.
    traces = []
    for index, (name, column) in enumerate(shares.items()):
        points = [(100 * share, row) for row, share in enumerate(column) if share is not None]
        style, size = nth_style(index, name), 14 - 2 * index
        traces.append(draw.markers(points, style, size, hoverinfo="name+x"))
    x_axis = draw.axis(x_title, range(0, 101, 20), ends=(-3, 103))
    y_axis = draw.rows_axis(list(tokenizers), _NAME_WIDTH)
    height = _ROW * len(tokenizers) + 20
    return draw.figure(traces, title, caption, height, xaxis=x_axis, yaxis=y_axis)


def _own_levels(quality: IdQuality) -> int:
    """The number of levels without the extra level, which is the last."""
    return len(quality.levels) - quality.levels[-1].extra


def _few(levels: int) -> Sequence[int]:
    """All levels, from 0; if there are many, the first ones and the last."""
    return range(levels) if levels <= MAX_LEVELS else [*range(MAX_LEVELS - 1), levels - 1]


def _left_out(levels: int) -> str:
    if levels <= MAX_LEVELS:
        return ""
    return f" Of {levels} levels, the first {MAX_LEVELS - 1} and the last are shown."
