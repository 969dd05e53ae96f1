"""Collision rate and occupancy of the ID space, compared with chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from nezha_lite.plots.basic_charts import number
from nezha_lite.plots.style import BLACK, PALETTE, SYMBOLS, Figure, headed
from nezha_lite.plots.traces import SeriesStyle, line_trace, marker_trace, series_trace
from nezha_lite.semantic_ids.collisions import expected_collision_rate, expected_distinct

MAX_LEVELS = 4
SPACES = (8.0, 256.0**MAX_LEVELS)  # both ends of the x axis
STEPS = 96  # points of a curve
HEIGHT, BOTTOM, LEFT = 200, 88, 110  # pixels: of the plot, below it, and beside it
POWERS = {3: "1,000", 6: "1 million", 9: "1 billion"}
RARE = {0: "all", 2: "1 in 100", 4: "1 in 10k", 6: "1 in 1M", 8: "1 in 100M", 10: "1 in 10B"}


@dataclass(frozen=True)
class CollisionPoint:
    """Counts of a catalogue's IDs under one setting, before collisions are resolved.

    Attributes:
        levels: L.
        codes: T, the same at every level.
        n_items: N.
        distinct: different IDs among them.
        largest: items of the largest group that shares an ID.
        crowd: items of the largest group that shares the first L - 1 codes.
    """

    levels: int
    codes: int
    n_items: int
    distinct: int
    largest: int
    crowd: int

    @property
    def space(self) -> int:
        """T^L: the number of possible IDs."""
        return self.codes**self.levels

    @property
    def rate(self) -> float:
        """The share of items whose ID another item has already."""
        return 1 - self.distinct / self.n_items

    @property
    def occupancy(self) -> float:
        """The share of IDs that exist."""
        return self.distinct / self.space

    @property
    def chance(self) -> float:
        """The rate to expect if every item drew its ID at random."""
        return expected_collision_rate(self.n_items, [self.codes] * self.levels)


def collision_figure(points: Sequence[CollisionPoint], point: CollisionPoint) -> Figure:
    """Collision rate against the size of the ID space, measured and by chance; logarithmic.

    Args:
        points: measurements of a catalogue of the same size.
        point: the one to mark with a ring.
    """
    n = point.n_items
    floor = 0.4 / n  # where a rate of zero is drawn: below that of a single item
    curve = [(space, expected_collision_rate(n, [space])) for space in _spaces()]
    shares = [10.0**-power for power in range(6) if 10.0**-power > 1.5 * floor]
    axis = {
        "title": {"text": "items that collide"},
        "tickvals": [*shares, floor],
        "ticktext": [*(f"{100 * share:g} %" for share in shares), "none"],
        "range": [math.log10(floor) - 0.12, 0.12],
    }
    rates = [(point, max(point.rate, floor)) for point in points]
    traces = [
        _chance([pair for pair in curve if pair[1] >= floor]),
        _ring(point.space, max(point.rate, floor)),
        *_marks(rates, lambda point: f"{percent(point.rate)} collide"),
    ]
    return Figure(traces, _layout("Collisions, measured and by chance", _verdict(point), axis))


def occupancy_figure(points: Sequence[CollisionPoint], point: CollisionPoint) -> Figure:
    """Share of the ID space that exists against its size; both axes logarithmic."""
    n = point.n_items
    curve = [(space, expected_distinct(n, [space]) / space) for space in _spaces()]
    lowest = math.floor(math.log10(n / SPACES[1]))
    powers = range(0, -lowest + 1, 2)
    axis = {
        "title": {"text": "IDs that exist"},
        "tickvals": [10.0**-power for power in powers],
        "ticktext": [RARE[power] for power in powers],
        "range": [lowest, 0.4],
    }
    traces = [
        _chance(curve),
        _ring(point.space, point.occupancy),
        *_marks([(point, point.occupancy) for point in points], _occupancy_text),
    ]
    caption = (
        f"{point.levels} × {point.codes}: {point.distinct:,} of {point.space:,} IDs exist. "
        "Room against collisions is room for hallucinations."
    )
    return Figure(traces, _layout("How much of the ID space exists", caption, axis))


def percent(share: float) -> str:
    """A share with three significant digits."""
    return f"{number(100 * share)} %"


def _verdict(point: CollisionPoint) -> str:
    """The conclusion for one point, in a sentence."""
    name = f"{point.levels} × {point.codes}"
    measured, chance = percent(point.rate), percent(point.chance)
    if point.rate == 0:
        return f"{name}: no item collides; by chance {chance} would."
    if point.rate <= 1.05 * point.chance:
        return f"{name}: {measured} collide, as by chance ({chance}): so few IDs do not go round."
    factor = point.rate / point.chance
    times = f"{factor:,.0f}" if factor >= 10 else f"{factor:.2g}"
    return f"{name}: {measured} collide, {times} × chance ({chance}): alike items want alike codes."


def _occupancy_text(point: CollisionPoint) -> str:
    return f"{point.distinct:,} of {point.space:,} IDs exist"


def _spaces() -> list[int]:
    low, high = (math.log(end) for end in SPACES)
    return [round(math.exp(low + step / STEPS * (high - low))) for step in range(STEPS + 1)]


def _chance(curve: Sequence[tuple[float, float]]) -> go.Scatter:
    return line_trace(curve, BLACK, width=2, dash="dash", name="by chance")


def _marks(pairs: Sequence[tuple[CollisionPoint, float]], text: Any) -> list[go.Scatter]:
    """One trace for each number of levels, empty ones too, so that figures can be updated."""
    traces = []
    for levels in range(1, MAX_LEVELS + 1):
        rows = [(point, y) for point, y in pairs if point.levels == levels]
        rows.sort(key=lambda row: row[0].codes)
        traces.append(
            series_trace(
                [(point.space, y) for point, y in rows],
                SeriesStyle(
                    f"{levels} level{'' if levels == 1 else 's'}",
                    PALETTE[levels - 1],
                    "dot",
                    SYMBOLS[levels - 1],
                ),
                [f"{levels} × {point.codes}: {text(point)}" for point, _ in rows],
                width=1.5,
                size=10,
            )
        )
    return traces


def _ring(x: float, y: float) -> go.Scatter:
    # Before the marks, because the static form fills its rings.
    return marker_trace(
        zip([x], [y], strict=True),
        {"symbol": "circle-open", "color": BLACK, "size": 20, "line": {"width": 2.5}},
        name="chosen",
    )


def _layout(title: str, caption: str, y_axis: dict[str, Any]) -> dict[str, Any]:
    powers = range(1, 10)
    layout = headed(
        title,
        caption,
        HEIGHT,
        BOTTOM,
        showlegend=True,
        xaxis={
            "type": "log",
            "title": {"text": "ID space: how many IDs could be written"},
            "tickvals": [10.0**power for power in powers],
            "ticktext": [
                POWERS.get(power, f"{10**power:,}" if power < 6 else "") for power in powers
            ],
            "range": [math.log10(SPACES[0]) - 0.2, math.log10(SPACES[1]) + 0.2],
        },
        yaxis={"type": "log", **y_axis},
    )
    layout["margin"]["l"] = LEFT  # the same for both figures: their x axes stand in line
    return layout
