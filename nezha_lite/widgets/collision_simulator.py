"""Levels, codes and catalogue size set by hand: how many items collide, and how to resolve that."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from threading import RLock
from typing import Any

import ipywidgets as widgets
import torch
import traitlets
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.plots.collision_figures import (
    MAX_LEVELS,
    CollisionPoint,
    collision_figure,
    occupancy_figure,
)
from nezha_lite.plots.numbers import counted, percent
from nezha_lite.plots.style import Figure
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quantizers import make_quantizer
from nezha_lite.widgets.background_task import BackgroundTask, Progress
from nezha_lite.widgets.panel import Panel, one_of, paragraph
from nezha_lite.widgets.tables import html_table

CODES = (8, 16, 32, 64, 128, 256)
SIZES = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
Setting = tuple[int, int]
"""Codes per level, items."""


class CollisionSimulator(Panel):
    """Choose a shape of semantic IDs, and see how many items collide in it.

    Every point is a real RQ-KMeans, fitted once per codebook size and catalogue size and cached:
    its first codes are what a quantizer with fewer levels gives.

    Args:
        vectors: (N, D) item vectors; smaller catalogues are drawn from them, each within the next.
        seed: of the draws and fits.
        traits: first values of the traits.

    These traits may be given, set and observed: `levels`, 1 to 4; `codes` per level, one of 8, 16,
    32, 64, 128, 256; and `items` of the catalogue, one of `sizes`, by default all. `point` is the
    `CollisionPoint` on show, or None where fitting failed; the widget then says why. A setting that
    was not measured yet is fitted by `work` first, which can be cancelled and waited for.
    """

    levels = traitlets.Int(3, min=1, max=MAX_LEVELS)
    codes = traitlets.Enum(CODES, 64)
    items = traitlets.Int()
    refreshed_by = ("levels", "codes", "items")

    def __init__(self, vectors: Tensor, seed: int = 0, **traits: Any) -> None:
        filled = vectors.ndim == 2 and len(vectors) > 0
        check(filled, "shape of vectors", tuple(vectors.shape), "(N, D), with N of 1 or more")
        self.vectors, self.seed = vectors, seed
        self.sizes = (*(size for size in SIZES if size < len(vectors)), len(vectors))
        self.order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))
        self._fits: dict[Setting, list[CollisionPoint]] = {}
        self._problems: dict[Setting, str] = {}
        self._every_size = False
        self._drawing = RLock()  # a fit may end while a slider is moved
        super().__init__(**{"items": len(vectors), **traits})

    def build(self) -> list[widgets.Widget]:
        """Controls, both figures and the ways out."""
        self.collisions, self.occupancy = self.live(self._collisions), self.live(self._occupancy)
        self.work = BackgroundTask(
            "Measure every codebook size",
            self._pieces,
            self._finished,
            "Fit RQ-KMeans with 8 to 256 codes on this catalogue",
            partial(setattr, self, "_every_size", True),
        )
        self.work.observe(self._ended, "running")
        return [
            self.control("levels", "Levels"),
            self.control("codes", "Codes per level"),
            self.control("items", "Items", [(f"{size:,}", size) for size in self.sizes]),
            *(self.work, self.summary, self.collisions, self.occupancy, self.table),
        ]

    @traitlets.validate("items")
    def _is_a_size(self, proposal: Any) -> Any:
        return one_of(proposal, self.sizes)

    # ---- measuring --------------------------------------------------------------------------

    def measure_all(self) -> None:
        """Fit every codebook size on the catalogue on show, so that the figures hold them all."""
        self._every_size = True
        for _ in self._pieces():
            pass
        self._finished()

    def _pieces(self) -> Iterator[Progress]:
        """Fit the current setting, even if it changes meanwhile, and every size if requested."""
        done = 0
        while pending := self._pending():
            codes, items = pending[0]
            total = done + len(pending)
            yield done, total, f"Fitting RQ-KMeans: {codes} codes, {items:,} items"
            self._fit(codes, items)
            done += 1

    def _pending(self) -> list[Setting]:
        sizes = (self.codes, *CODES) if self._every_size else (self.codes,)
        settings = dict.fromkeys((codes, self.items) for codes in sizes)
        return [setting for setting in settings if setting not in self._fits]

    def _fit(self, codes: int, items: int) -> None:
        """Measure one point for each number of levels, or store the reason why there is none."""
        vectors = self.vectors[self.order[:items].sort().values]
        try:
            quantizer = make_quantizer("rq-kmeans", MAX_LEVELS, codes, self.seed)
            item_codes = quantizer.fit(vectors).encode(vectors)  # (n, 4)
        except ValueError as error:  # for example NaN among the vectors
            self._fits[codes, items], self._problems[codes, items] = [], str(error)
            return
        levels = range(1, MAX_LEVELS + 1)
        self._fits[codes, items] = [_measure(item_codes[:, :level], codes) for level in levels]

    def compute(self, change: Any = None) -> None:
        """Take the measurement of the current setting; the first one is fitted at once."""
        self._shown = self.codes, self.items
        if change is None and self._shown not in self._fits:
            self._fit(*self._shown)
        points = self._fits[self._shown]
        self.point: CollisionPoint | None = points[self.levels - 1] if points else None
        self.problem = self._problems.get(self._shown, "")

    def refresh(self, change: Any = None) -> None:
        """Show the current setting, now or when it has been fitted."""
        if (self.codes, self.items) not in self._fits:
            self.work.start()  # a running task comes to this setting too
            return
        with self._drawing:
            super().refresh(change)

    def redraw(self) -> None:
        """Draw the figures again; where fitting failed they stay."""
        if self.point is not None:
            super().redraw()

    def _finished(self) -> None:
        self._every_size = False
        self.refresh()

    def _ended(self, change: Any) -> None:
        if change.new:
            return
        if not self.work.completed:
            self._every_size = False
            with self.hold_trait_notifications():  # one alone might start another fit
                self.codes, self.items = self._shown
        elif (self.codes, self.items) not in self._fits:
            self.work.start()  # set in the very moment in which the task ended

    # ---- what is shown ----------------------------------------------------------------------

    def table_html(self) -> str:
        """The ways out."""
        caption, ways = self._table_caption(), self.resolutions()
        return html_table(caption, (), ways, row_heads=True) if ways else paragraph(caption)

    def sentences(self) -> list[str]:
        """The setting on show, or what went wrong, in plain text."""
        point = self.point
        if point is None:
            return [self.problem]
        surplus = point.n_items - point.distinct
        return [
            f"{point.levels} × {point.codes} codes for {point.n_items:,} items: "
            f"{point.space:,} IDs could be written.",
            f"{point.distinct:,} are in use, so {surplus:,} items came to an ID already taken "
            f"({percent(point.rate)}); by chance {percent(point.chance)} would.",
        ]

    def resolutions(self) -> list[tuple[str, str]]:
        """Each way out of the collisions, and what it would do, in plain text."""
        point = self.point
        if point is None or point.rate == 0:
            return []
        surplus, last = point.n_items - point.distinct, point.codes
        same_length = "unique IDs of the same length"
        longer = (
            f"unique IDs of {point.levels + 1} codes, the last one of {point.largest:,}: "
            f"{point.largest * point.space:,} IDs could be written"
        )
        optimal = f"{same_length}; only last codes change, at the least cost"
        if point.crowd > last:
            optimal = (
                f"impossible: {point.crowd:,} items share all codes but the last, which has "
                f"only {last} values"
            )
        nearest = f"{same_length}; {counted(surplus, 'item')} move to a free ID nearby"
        if point.n_items > point.space:
            nearest = f"impossible: {point.n_items:,} items, but only {point.space:,} IDs"
        largest = counted(point.largest, "item")
        shared = f"IDs stay as they are; one ID means up to {largest}, the popular first"
        ways = ("extra level", "optimal", "next best", "shared")
        return list(zip(ways, (longer, optimal, nearest, shared), strict=True))

    def _table_caption(self) -> str:
        if self.point is None:
            return ""
        return "Ways out of the collisions:" if self.point.rate else "No item collides."

    def _points(self) -> list[CollisionPoint]:
        fits = [fit for (_, items), fit in sorted(self._fits.items()) if items == self.items]
        return [point for fit in fits for point in fit]

    def _point(self) -> CollisionPoint:
        nothing = self.levels, self.codes, self.items, 0, self.items, self.items
        return self.point or CollisionPoint(*nothing)

    def _collisions(self) -> Figure:
        return collision_figure(self._points(), self._point())

    def _occupancy(self) -> Figure:
        return occupancy_figure(self._points(), self._point())

    def blocks(self) -> list[Any]:
        """The setting on show: sentences, both figures, and the ways out as lines."""
        if self.point is None:
            return [self.sentences()]
        lines = [f"{way}: {effect}" for way, effect in self.resolutions()]
        figures = [self._collisions(), self._occupancy()]
        return [self.sentences(), *figures, [self._table_caption(), *lines]]


def _measure(codes: Tensor, radix: int) -> CollisionPoint:
    """Counts of (n, L) codes before any collision is resolved."""
    levels = codes.shape[1]
    ids = SemanticIds.from_codes(codes, [radix] * levels)
    largest = int(torch.unique(ids.keys, return_counts=True)[1].max())
    parents = ids.keys_of(codes[:, :-1])  # for one level: no code, hence a single group
    crowd = int(torch.unique(parents, return_counts=True)[1].max())
    return CollisionPoint(levels, radix, ids.n_items, ids.n_distinct, largest, crowd)
