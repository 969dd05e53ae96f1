"""Levels, codes and catalogue size set by hand: how many items collide, and how to resolve that."""

from __future__ import annotations

from collections.abc import Iterator
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
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quantizers import make_quantizer
from nezha_lite.widgets.background_task import BackgroundTask, Progress
from nezha_lite.widgets.panel import Drawings, Panel, one_of
from nezha_lite.widgets.tables import Table

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
    `CollisionPoint` on show. `work` fits every codebook size; it can be cancelled and waited for.

    Raises:
        ValueError: for vectors of another shape, or that hold NaN or infinity.
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
        self._drawing = RLock()  # the last fit may end while a slider is moved
        super().__init__(**{"items": len(vectors), **traits})

    def build(self) -> list[widgets.Widget]:
        """Controls; beside both figures, the setting in words and the ways out."""
        self.work = BackgroundTask(
            "Measure every codebook size",
            self._pieces,
            self.refresh,
            "Fit RQ-KMeans with 8 to 256 codes on this catalogue",
        )
        return [*super().build(), self.work]

    def controls(self) -> list[widgets.Widget]:
        """A slider for each number."""
        sizes = [(f"{size:,}", size) for size in self.sizes]
        return [
            self.slider("levels", "Levels"),
            self.slider("codes", "Codes per level"),
            self.slider("items", "Items", sizes),
        ]

    def drawings(self) -> Drawings:
        """The collision rate, and the share of the IDs that exist."""
        return [
            lambda: collision_figure(self._points(), self.point),
            lambda: occupancy_figure(self._points(), self.point),
        ]

    @traitlets.validate("items")
    def _is_a_size(self, proposal: Any) -> Any:
        return one_of(proposal, self.sizes)

    # ---- measuring --------------------------------------------------------------------------

    def measure_all(self) -> None:
        """Fit every codebook size on the catalogue on show, so that the figures hold them all."""
        for _ in self._pieces():
            pass
        self.refresh()

    def _pieces(self) -> Iterator[Progress]:
        """Fit every codebook size."""
        items = self.items
        for done, codes in enumerate(CODES):
            yield done, len(CODES), f"Fitting RQ-KMeans: {codes} codes, {items:,} items"
            self._fit(codes, items)

    def _fit(self, codes: int, items: int) -> list[CollisionPoint]:
        """Measure one point for each number of levels, unless that was done before."""
        if (codes, items) not in self._fits:
            vectors = self.vectors[self.order[:items].sort().values]
            quantizer = make_quantizer("rq-kmeans", MAX_LEVELS, codes, self.seed)
            item_codes = quantizer.fit(vectors).encode(vectors)  # (n, 4)
            levels = range(1, MAX_LEVELS + 1)
            self._fits[codes, items] = [_measure(item_codes[:, :level], codes) for level in levels]
        return self._fits[codes, items]

    def compute(self, change: Any = None) -> None:
        """Take the measurement of the current setting, which is fitted if it is a new one."""
        self.point = self._fit(self.codes, self.items)[self.levels - 1]

    def refresh(self, change: Any = None) -> None:
        """Show the current setting."""
        with self._drawing:
            super().refresh(change)

    # ---- what is shown ----------------------------------------------------------------------

    def tables(self) -> list[Table]:
        """The ways out."""
        ways = self.resolutions()
        caption = "Ways out of the collisions:" if ways else "No item collides."
        return [Table(caption, (), ways, row_heads=True)]

    def sentences(self) -> list[str]:
        """The setting on show, in plain text."""
        point = self.point
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
        if point.rate == 0:
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

    def _points(self) -> list[CollisionPoint]:
        fits = [fit for (_, items), fit in sorted(self._fits.items()) if items == self.items]
        return [point for fit in fits for point in fit]


def _measure(codes: Tensor, radix: int) -> CollisionPoint:
    """Counts of (n, L) codes before any collision is resolved."""
    levels = codes.shape[1]
    ids = SemanticIds.from_codes(codes, [radix] * levels)
    largest = int(torch.unique(ids.keys, return_counts=True)[1].max())
    parents = ids.keys_of(codes[:, :-1])  # for one level: no code, hence a single group
    crowd = int(torch.unique(parents, return_counts=True)[1].max())
    return CollisionPoint(levels, radix, ids.n_items, ids.n_distinct, largest, crowd)
