"""A catalogue through its codes: choose a prefix, and see what is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import traitlets
from torch import Tensor

from nezha_lite.datasets import InteractionDataset
from nezha_lite.plots.collision_figures import percent
from nezha_lite.plots.prefix_figures import prefix_zoom_figure
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets.html_table import html_table
from nezha_lite.widgets.panel import Panel, discard, figure_widget, paragraph, redraw, slider
from nezha_lite.widgets.prefix_index import Prefix, PrefixIndex

SHOWN_ITEMS, SHOWN_NEIGHBOURS, EXAMPLES = 12, 5, 2
ANY = -1  # a slider's first option: no code chosen


class CodebookExplorer(Panel):
    """Open a prefix code by code: its items, what they share, and the prefixes near it.

    Args:
        dataset: for titles and categories.
        semantic_ids: the catalogue's semantic IDs.
        vectors: (N, D) item vectors that the IDs were made from; without them no neighbours are
            shown.
        prefix: what to show at first; () is the whole catalogue.

    The trait `prefix` (0 to L codes, level 1 first) may be set and observed; setting one that no
    item has raises `traitlets.TraitError`.
    """

    prefix: Any = traitlets.Tuple()

    def __init__(
        self,
        dataset: InteractionDataset,
        semantic_ids: SemanticIds,
        vectors: Tensor | None = None,
        prefix: Sequence[int] = (),
    ) -> None:
        self.dataset, self.semantic_ids = dataset, semantic_ids
        self.index = PrefixIndex(semantic_ids, dataset, vectors)
        self._moving = False
        self.summary, self.common = widgets.HTML(), widgets.HTML()
        self.table, self.neighbours = widgets.HTML(), widgets.HTML()
        self.choices = [self._choice(level, [("any", ANY)]) for level in range(semantic_ids.levels)]
        self.controls = widgets.VBox(self.choices)
        super().__init__(prefix=tuple(map(int, prefix)))
        # Drawn at once as it is to be: a page that is still loading may miss a redrawing.
        self.figure = figure_widget(prefix_zoom_figure(semantic_ids, self.prefix))
        outputs = [self.summary, self.figure, self.common, self.table, self.neighbours]
        self.children = [self.controls, *outputs]
        self._tell()
        self.observe(self._draw, "prefix")

    @traitlets.validate("prefix")
    def _exists(self, proposal: Any) -> Prefix:
        prefix = tuple(map(int, proposal.value))
        try:
            self.index.items(prefix)
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error
        return prefix

    # ---- reactions --------------------------------------------------------------------------

    def _choice(self, level: int, options: list[tuple[str, int]]) -> widgets.SelectionSlider:
        choice = slider(f"Code {level + 1}", options)
        choice.observe(lambda change: self._chosen(level), "value")
        return choice

    def _chosen(self, level: int) -> None:
        if self._moving:
            return
        code = self.choices[level].value
        self.prefix = self.prefix[:level] + (() if code == ANY else (code,))

    def _draw(self, change: Any) -> None:
        self._tell()
        redraw(self.figure, prefix_zoom_figure(self.semantic_ids, self.prefix))

    def _tell(self) -> None:
        """Everything but the figure."""
        self._moving = True
        try:
            self._fill_choices()
        finally:
            self._moving = False
        self.summary.value = "".join(map(paragraph, self.sentences()))
        self.common.value = _table(*self._common_rows())
        self.table.value = _table(*self._item_rows())
        self.neighbours.value = _table(*self._neighbour_rows())

    def _fill_choices(self) -> None:
        for level, choice in enumerate(self.choices):
            options, value = [("any", ANY)], ANY
            if level <= len(self.prefix):
                children = self.index.children(self.prefix[:level])
                options += [(f"{code}: {_items(count)}", code) for code, count in children]
            if level < len(self.prefix):
                value = self.prefix[level]
            if tuple(choice.options) != tuple(options):
                # A new slider: one whose options are replaced keeps its old end for the key End.
                discard(choice)
                choice = self.choices[level] = self._choice(level, options)
            choice.value = value
            choice.disabled = level > len(self.prefix)
        self.controls.children = self.choices

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """What is to be seen, in plain text."""
        items, whole = len(self.index.items(self.prefix)), self.semantic_ids.n_items
        name = f"Prefix {_name(self.prefix)}" if self.prefix else "The empty prefix"
        lines = [f"{name}: {items:,} of {whole:,} items ({percent(items / whole)})."]
        level = len(self.prefix)
        if level < self.semantic_ids.levels:
            used, radix = len(self.index.children(self.prefix)), self.semantic_ids.radices[level]
            lead = "leads" if used == 1 else "lead"
            lines.append(f"Of the {radix} codes that may come next, {used} {lead} to an item.")
        elif items == 1:
            lines.append("The ID is complete, and one item carries it.")
        else:
            lines.append(f"The ID is complete, and {items} items collide in it.")
        return lines

    def _common_rows(self) -> tuple[Any, ...]:
        here, whole = len(self.index.items(self.prefix)), self.semantic_ids.n_items
        rows = [
            (trait.kind, trait.name, f"{trait.here / here:.0%}", f"{trait.everywhere / whole:.0%}")
            for trait in self.index.common(self.prefix)
        ]
        caption = "What these items have in common, and how usual it is in the catalogue:"
        return caption, ("", "", "here", "everywhere"), rows

    def _item_rows(self) -> tuple[Any, ...]:
        items = self.index.items(self.prefix)
        shown = items[:: max(1, len(items) // SHOWN_ITEMS)][:SHOWN_ITEMS]
        codes = self.semantic_ids.codes
        rows = [(_name(codes[item].tolist()), self.dataset.title(item)) for item in shown]
        some = f", {len(shown)} of them:" if len(shown) < len(items) else ":"
        return f"{_items(len(items))} with this prefix{some}", ("semantic ID", "title"), rows

    def _neighbour_rows(self) -> tuple[Any, ...]:
        rows = []
        for near in self.index.neighbours(self.prefix, SHOWN_NEIGHBOURS):
            titles = "; ".join(map(self.dataset.title, near.items[:EXAMPLES]))
            more = "; …" if len(near.items) > EXAMPLES else ""
            size = _items(len(near.items))
            rows.append((_name(near.prefix), f"{titles}{more}", size, f"{near.distance:.2f}"))
        if self.index.vectors is None:
            caption = "Neighbours need the item vectors: CodebookExplorer(…, vectors=vectors)."
        elif not self.prefix:
            caption = "Choose a first code to see the prefixes nearest to it."
        else:
            caption = "The nearest prefixes of this length, by the mean of their items' vectors:"
        return caption, ("prefix", "for example", "", "distance") if rows else (), rows

    def blocks(self) -> list[Any]:
        """The prefix on show: sentences, figure, and the tables as lines."""
        tables = (self._common_rows(), self._item_rows(), self._neighbour_rows())
        common, items, near = tables
        lines = [
            [
                common[0],
                *(f"{kind} “{name}”: {a} here, {b} everywhere" for kind, name, a, b in common[2]),
            ],
            [items[0], *(f"{codes}   {title}" for codes, title in items[2])],
            [near[0], *(f"{p}: {titles} ({n}, {d} away)" for p, titles, n, d in near[2])],
        ]
        return [self.sentences(), prefix_zoom_figure(self.semantic_ids, self.prefix), *lines]


def _name(codes: Sequence[int]) -> str:
    return "-".join(map(str, codes))


def _items(count: int) -> str:
    return f"{count:,} item{'' if count == 1 else 's'}"


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return paragraph(caption)
    figures = [n for n, head in enumerate(heads) if head in ("here", "everywhere", "distance")]
    return html_table(caption, heads, rows, figures)
