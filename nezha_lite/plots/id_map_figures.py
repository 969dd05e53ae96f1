"""A map of the ID space: which IDs exist, and which the drafts are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import plotly.graph_objects as go
import torch

from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLACK, BLUE, GREEN, VERMILLION
from nezha_lite.plots.numbers import code_text
from nezha_lite.plots.style import Figure, SeriesStyle
from nezha_lite.semantic_ids import SemanticIds

# (fewest items, name, grey): light enough for every mark to stand out in front of them.
SHADES = ((1, "1 item", "#E2E2E2"), (2, "2 or 3 items", "#CCCCCC"), (4, "4 or more", "#B4B4B4"))
LOWEST, HIGHEST, ROW = 56, 352, 26  # pixels: of the plot, and of a row where that is enough
SIDE_BY_SIDE = 0.015  # of the plot's width, between the marks of one square
BOTTOM = 116  # pixels below the plot: the axis, and two rows of the legend
Square = tuple[int, int]


class IdOutcome(StrEnum):
    """The outcome of an ID on the map."""

    ACCEPTED = "accepted: it exists"
    REJECTED = "rejected: no item has it"
    WITHDRAWN = "rejected: not on offer"
    INSTEAD = "on the list, not drafted"


# The mark of each outcome, and its size in pixels.
MARKS = {
    IdOutcome.ACCEPTED: (SeriesStyle(IdOutcome.ACCEPTED, BLUE), 9),
    IdOutcome.REJECTED: (SeriesStyle(IdOutcome.REJECTED, VERMILLION, symbol="x"), 9),
    IdOutcome.WITHDRAWN: (SeriesStyle(IdOutcome.WITHDRAWN, BLACK, symbol="triangle-down"), 10),
    IdOutcome.INSTEAD: (SeriesStyle(IdOutcome.INSTEAD, GREEN, symbol="diamond-open", stroke=2), 10),
}


@dataclass(frozen=True)
class MapMark:
    """One ID on the map: its L codes and its outcome."""

    codes: tuple[int, ...]
    outcome: IdOutcome


def id_map_figure(
    semantic_ids: SemanticIds, marks: Sequence[MapMark], removed: Collection[int] = ()
) -> Figure:
    """A map of existing IDs by their first two codes, with marks for drafts.

    Each square is a prefix of two codes, of one where IDs have one. Seven traces, whatever there is
    to see: a grey for each of `SHADES`, a mark for each `IdOutcome`.

    Args:
        semantic_ids: the catalogue.
        marks: IDs to mark.
        removed: items that are out of the catalogue.
    """
    columns, rows = (*semantic_ids.radices[:2], 1)[:2]
    listed = torch.ones(semantic_ids.n_items, dtype=torch.bool)
    listed[list(removed)] = False
    squares = Counter(map(_square, semantic_ids.codes[listed, :2].tolist()))
    height = max(LOWEST, min(HIGHEST, ROW * rows))
    traces: list[go.Scatter] = []
    limits = [fewest for fewest, _, _ in SHADES[1:]] + [semantic_ids.n_items + 1]
    for (fewest, name, grey), limit in zip(SHADES, limits, strict=True):
        filled_squares = [square for square, items in squares.items() if fewest <= items < limit]
        traces.append(_squares(filled_squares, name, grey, max(1.5, height / rows - 1)))
    counts = Counter((_square(mark.codes), mark.outcome) for mark in marks)
    for outcome, (style, size) in MARKS.items():
        inside = {square: count for (square, kind), count in counts.items() if kind is outcome}
        points = [(x + _aside((x, y), outcome, counts, columns), y) for x, y in inside]
        hover = [
            f"{code_text(square[: semantic_ids.levels])}: {count} {outcome.value}"
            for square, count in inside.items()
        ]
        traces.append(draw.markers(points, style, size, hover, cliponaxis=False))
    caption = _caption(len(squares), columns * rows, semantic_ids.levels <= 2)
    y_axis = _axis(2, rows) if semantic_ids.levels > 1 else {"visible": False, "range": [-0.5, 0.5]}
    return draw.figure(
        traces,
        "The ID space, and what exists",
        caption,
        height,
        BOTTOM,
        xaxis=_axis(1, columns),
        yaxis=y_axis,
    )


def _aside(
    square: Square, outcome: IdOutcome, counts: Counter[tuple[Square, IdOutcome]], columns: int
) -> float:
    """Horizontal shift of a mark, so that all marks of a square are visible."""
    kinds = [kind for kind in MARKS if (square, kind) in counts]
    return (kinds.index(outcome) - (len(kinds) - 1) / 2) * SIDE_BY_SIDE * columns


def _square(codes: Sequence[int]) -> Square:
    """The square of an ID: its first two codes, 0 where there is no second."""
    return codes[0], codes[1] if len(codes) > 1 else 0


def _squares(squares: Sequence[Square], name: str, grey: str, thickness: float) -> go.Scatter:
    """Thick strokes: as SVG they take a third of what a heat map's cells would."""
    strokes = [((x - 0.42, y), (x + 0.42, y)) for x, y in squares]
    # Simplified, plotly would merge a short stroke's ends, and turn or lose its square.
    return draw.segments(strokes, grey, thickness, name, line_simplify=False)


def _caption(filled: int, all_squares: int, whole: bool) -> str:
    square = "is one whole ID" if whole else "stands for all IDs that begin with its codes"
    marks = "" if whole else "; marks of one square stand side by side"
    return f"Grey squares hold items: {filled:,} of {all_squares:,}. A square {square}{marks}."


def _axis(level: int, codes: int) -> dict[str, Any]:
    ticks, ends = range(0, codes, max(1, codes // 8)), (-0.5, codes - 0.5)
    return draw.axis(f"code {level}", ticks, ends=ends, showgrid=False, fixedrange=True)
