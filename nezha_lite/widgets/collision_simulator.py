"""Levels, codes and catalogue size turned by hand: what collides, and what each way out costs."""

from __future__ import annotations

from collections.abc import Iterator
from threading import RLock
from typing import Any

import ipywidgets as widgets
import torch
import traitlets
from torch import Tensor

from nezha_lite.plots.collision_figures import (
    MAX_LEVELS,
    CollisionPoint,
    collision_figure,
    occupancy_figure,
    percent,
)
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quantizers import make_quantizer
from nezha_lite.widgets.background_task import Progress, SlowWork
from nezha_lite.widgets.html_table import html_table
from nezha_lite.widgets.panel import (
    DESCRIPTION,
    WIDE,
    Panel,
    figure_widget,
    link,
    paragraph,
    redraw,
    slider,
)

CODES = (8, 16, 32, 64, 128, 256)
Setting = tuple[int, int]  # codes per level, items
SIZES = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


class CollisionSimulator(Panel):
    """Choose a shape of semantic IDs, and see how many items collide in it.

    Every point is a real RQ-KMeans, fitted once per codebook size and catalogue size and kept: its
    first codes are what a quantizer with fewer levels gives.

    Args:
        vectors: (N, D) item vectors; smaller catalogues are drawn from them, each within the next.
        levels: at first, 1 to 4.
        codes: per level at first, one of 8, 16, 32, 64, 128, 256.
        items: of the catalogue at first: one of `sizes`, by default all.
        seed: of the draws and fits.

    The traits `levels`, `codes` and `items` may be set and observed; `point` is the
    `CollisionPoint` on show, or None where fitting failed; the widget then says why. A setting that
    was not measured yet is fitted by `work` first, which can be cancelled and waited for.
    """

    levels = traitlets.Int(min=1, max=MAX_LEVELS)
    codes = traitlets.Enum(CODES)
    items = traitlets.Int()

    def __init__(
        self,
        vectors: Tensor,
        levels: int = 3,
        codes: int = 64,
        items: int | None = None,
        seed: int = 0,
    ) -> None:
        if vectors.ndim != 2 or not len(vectors):
            raise ValueError(
                f"vectors has shape {tuple(vectors.shape)}, but must be (N, D), with items."
            )
        self.vectors, self.seed = vectors, seed
        self.sizes = (*(size for size in SIZES if size < len(vectors)), len(vectors))
        self.order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))
        self.point: CollisionPoint | None = None
        self.problem = ""
        self._fits: dict[Setting, list[CollisionPoint]] = {}
        self._problems: dict[Setting, str] = {}
        self._every_size = False
        self._drawing = RLock()  # a fit may end while a slider is moved
        self.summary, self.table = widgets.HTML(), widgets.HTML()
        level_choice = widgets.IntSlider(
            min=1, max=MAX_LEVELS, description="Levels", style=DESCRIPTION, layout=WIDE
        )
        code_choice = slider("Codes per level", [(str(count), count) for count in CODES])
        item_choice = slider("Items", [(f"{size:,}", size) for size in self.sizes])
        super().__init__(levels=levels, codes=codes, items=len(vectors) if items is None else items)
        self._fit(self.codes, self.items)
        self._choose()
        # Drawn at once as they are to be: a page that is still loading may miss a redrawing.
        nothing = CollisionPoint(levels, codes, self.items, 0, self.items, self.items)
        shown = self._points(), self.point or nothing
        self.collisions = figure_widget(collision_figure(*shown))
        self.occupancy = figure_widget(occupancy_figure(*shown))
        self._tell()
        self.work = SlowWork(
            "Measure every codebook size",
            self._pieces,
            self._finished,
            "Fit RQ-KMeans with 8 to 256 codes on this catalogue",
            self._ask_for_every_size,
        )
        self.work.observe(self._ended, "running")
        controls = [level_choice, code_choice, item_choice, self.work]
        self.children = [*controls, self.summary, self.collisions, self.occupancy, self.table]
        link(self, "levels", level_choice)
        link(self, "codes", code_choice)
        link(self, "items", item_choice)
        self.observe(self._refresh, ["levels", "codes", "items"])

    @traitlets.validate("items")
    def _is_a_size(self, proposal: Any) -> int:
        if proposal.value not in self.sizes:
            raise traitlets.TraitError(
                f"items is {proposal.value}, but must be one of {self.sizes}."
            )
        return int(proposal.value)

    # ---- measuring --------------------------------------------------------------------------

    def measure_all(self) -> None:
        """Fit every codebook size on the catalogue on show, so that the figures hold them all."""
        self._every_size = True
        for _ in self._pieces():
            pass
        self._finished()

    def _pieces(self) -> Iterator[Progress]:
        """Fit what is chosen, also if that changes meanwhile, and every size if asked for."""
        done = 0
        while pending := self._pending():
            codes, items = pending[0]
            total = done + len(pending)
            yield done, total, f"Fitting RQ-KMeans: {codes} codes, {items:,} items"
            self._fit(codes, items)
            done += 1

    def _pending(self) -> list[Setting]:
        sizes = (self.codes, *CODES) if self._every_size else (self.codes,)
        wanted = dict.fromkeys((codes, self.items) for codes in sizes)
        return [setting for setting in wanted if setting not in self._fits]

    def _fit(self, codes: int, items: int) -> None:
        """Measure one point for each number of levels, or keep the reason why there is none."""
        rows = self.order[:items].sort().values
        try:
            quantizer = make_quantizer("rq-kmeans", MAX_LEVELS, codes, self.seed)
            found = quantizer.fit(self.vectors[rows]).encode(self.vectors[rows])  # (n, 4)
        except ValueError as error:  # NaN among the vectors, say
            self._fits[codes, items], self._problems[codes, items] = [], str(error)
            return
        levels = range(1, MAX_LEVELS + 1)
        self._fits[codes, items] = [_measure(found[:, :level], codes) for level in levels]

    def _choose(self) -> None:
        """Take what was measured for the chosen setting."""
        self._shown = self.codes, self.items
        points = self._fits[self._shown]
        self.point = points[self.levels - 1] if points else None
        self.problem = self._problems.get(self._shown, "")

    def _refresh(self, change: Any = None) -> None:
        if (self.codes, self.items) not in self._fits:
            self.work.start()  # where it is at work already, it comes to this setting too
            return
        with self._drawing:
            self._choose()
            if self.point is not None:
                redraw(self.collisions, collision_figure(self._points(), self.point))
                redraw(self.occupancy, occupancy_figure(self._points(), self.point))
            self._tell()

    def _ask_for_every_size(self) -> None:
        self._every_size = True

    def _finished(self) -> None:
        self._every_size = False
        self._refresh()

    def _ended(self, change: Any) -> None:
        if change.new:
            return
        if not self.work.completed:
            self._every_size = False
            with self.hold_trait_notifications():  # one alone might ask for another fit
                self.codes, self.items = self._shown
        elif (self.codes, self.items) not in self._fits:
            self.work.start()  # chosen in the very moment in which the work ended

    def _tell(self) -> None:
        """Everything but the figures."""
        self.summary.value = "".join(map(paragraph, self.sentences()))
        self.table.value = self._table_html()

    def _points(self) -> list[CollisionPoint]:
        fits = [fit for (_, items), fit in sorted(self._fits.items()) if items == self.items]
        return [point for fit in fits for point in fit]

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """What is to be seen, or what went wrong, in plain text."""
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
        if point.crowd > last:
            optimal = (
                f"impossible: {point.crowd:,} items share all codes but the last, which has "
                f"only {last} values"
            )
        else:
            optimal = "unique IDs of the same length; only last codes change, at the least cost"
        if point.n_items > point.space:
            nearest = f"impossible: {point.n_items:,} items, but only {point.space:,} IDs"
        else:
            nearest = f"unique IDs of the same length; {_items(surplus)} move to a free ID nearby"
        return [
            (
                "extra level",
                f"unique IDs of {point.levels + 1} codes, the last one of {point.largest:,}: "
                f"{point.largest * point.space:,} IDs could be written",
            ),
            ("optimal", optimal),
            ("next best", nearest),
            (
                "shared",
                f"IDs stay as they are; one ID means up to {_items(point.largest)}, "
                "the popular first",
            ),
        ]

    def _table_html(self) -> str:
        ways = self.resolutions()
        if not ways:
            return paragraph(self._table_caption())
        return html_table(self._table_caption(), (), ways, row_heads=True)

    def _table_caption(self) -> str:
        if self.point is None:
            return ""
        return "Ways out of the collisions:" if self.point.rate else "No item collides."

    def blocks(self) -> list[Any]:
        """The setting on show: sentences, both figures, and the ways out as lines."""
        if self.point is None:
            return [self.sentences()]
        points = self._points()
        figures = [collision_figure(points, self.point), occupancy_figure(points, self.point)]
        lines = [f"{way}: {effect}" for way, effect in self.resolutions()]
        return [self.sentences(), *figures, [self._table_caption(), *lines]]


def _measure(codes: Tensor, radix: int) -> CollisionPoint:
    """Counts of (n, L) codes before any collision is resolved."""
    levels = codes.shape[1]
    ids = SemanticIds.from_codes(codes, [radix] * levels)
    largest = int(torch.unique(ids.keys, return_counts=True)[1].max())
    parents = ids.keys_of(codes[:, :-1])  # of no code at all, one group
    crowd = int(torch.unique(parents, return_counts=True)[1].max())
    return CollisionPoint(levels, radix, ids.n_items, ids.n_distinct, largest, crowd)


def _items(count: int) -> str:
    return f"{count:,} item{'' if count == 1 else 's'}"
