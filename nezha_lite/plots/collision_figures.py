"""Collision rate and occupancy of the ID space, compared with chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLACK
from nezha_lite.plots.numbers import counted, percent
from nezha_lite.plots.style import Figure, SeriesStyle, nth_style
from nezha_lite.semantic_ids.collisions import expected_collision_rate, expected_distinct

MAX_LEVELS = 4
SPACES = (8.0, 256.0**MAX_LEVELS)  # both ends of the x axis
STEPS = 96  # points of a curve
HEIGHT, BOTTOM, LEFT = 200, 88, 110  # pixels: of the plot, below it, and beside it
POWERS = {3: "1,000", 6: "1 million", 9: "1 billion"}
RING = SeriesStyle("chosen", BLACK, symbol="circle-open", stroke=2.5)
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
    lowest = 0.4 / n  # where a rate of zero is drawn: below that of a single item
    curve = [(space, expected_collision_rate(n, [space])) for space in _spaces()]
    shares = [10.0**-power for power in range(6) if 10.0**-power > 1.5 * lowest]
    names = [*(f"{100 * share:g} %" for share in shares), "none"]
    ends = (math.log10(lowest) - 0.12, 0.12)
    return _against_space(
        points,
        point,
        lambda one: max(one.rate, lowest),
        lambda one: f"{percent(one.rate)} collide",
        [(space, rate) for space, rate in curve if rate >= lowest],
        "Collisions, measured and by chance",
        _verdict(point),
        draw.axis("items that collide", [*shares, lowest], names, ends, type="log"),
    )


def occupancy_figure(points: Sequence[CollisionPoint], point: CollisionPoint) -> Figure:
    """Share of the ID space that exists against its size; both axes logarithmic."""
    n = point.n_items
    lowest = math.floor(math.log10(n / SPACES[1]))
    powers = range(0, -lowest + 1, 2)
    ticks, names = [10.0**-power for power in powers], [RARE[power] for power in powers]
    return _against_space(
        points,
        point,
        lambda one: one.occupancy,
        lambda one: f"{one.distinct:,} of {one.space:,} IDs exist",
        [(space, expected_distinct(n, [space]) / space) for space in _spaces()],
        "How much of the ID space exists",
        f"{point.levels} × {point.codes}: {point.distinct:,} of {point.space:,} IDs exist. "
        "Room against collisions is room for hallucinations.",
        draw.axis("IDs that exist", ticks, names, (lowest, 0.4), type="log"),
    )


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


def _spaces() -> list[int]:
    low, high = (math.log(end) for end in SPACES)
    return [round(math.exp(low + step / STEPS * (high - low))) for step in range(STEPS + 1)]


def _against_space(
    points: Sequence[CollisionPoint],
    point: CollisionPoint,
    height: Callable[[CollisionPoint], float],
    text: Callable[[CollisionPoint], str],
    curve: Sequence[tuple[float, float]],
    title: str,
    caption: str,
    y_axis: dict[str, Any],
) -> Figure:
    """A quantity against the size of the ID space: chance, a ring, a line per number of levels.

    A number of levels without points has an empty trace, so that figures can be updated.
    """
    lines = []
    for levels in range(1, MAX_LEVELS + 1):
        group = sorted((one for one in points if one.levels == levels), key=lambda one: one.codes)
        style = replace(nth_style(levels - 1, counted(levels, "level")), dash="dot")
        marks = [(one.space, height(one)) for one in group]
        hover = [f"{levels} × {one.codes}: {text(one)}" for one in group]
        lines.append(draw.series(marks, style, hover, width=1.5, size=10))
    chance = draw.line(curve, BLACK, width=2, dash="dash", name="by chance")
    # Drawn before the lines: the static form fills rings with white.
    ring = draw.markers([(point.space, height(point))], RING, 20)
    powers, x_title = range(1, 10), "ID space: how many IDs could be written"
    names = [POWERS.get(power, f"{10**power:,}" if power < 6 else "") for power in powers]
    ends = (math.log10(SPACES[0]) - 0.2, math.log10(SPACES[1]) + 0.2)
    x_axis = draw.axis(x_title, [10.0**power for power in powers], names, ends, type="log")
    margin = {"l": LEFT}  # the same for both figures, so that their x axes are aligned
    return draw.figure(
        [chance, ring, *lines], title, caption, HEIGHT, BOTTOM, margin, xaxis=x_axis, yaxis=y_axis
    )
