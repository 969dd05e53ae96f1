"""A catalogue through its codes: choose a prefix, and see its items and the prefixes near it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ipywidgets as widgets
import torch
import traitlets
from torch import Tensor

from nezha_lite.datasets import InteractionDataset
from nezha_lite.plots.numbers import code_text, counted, percent
from nezha_lite.plots.prefix_figures import items_below, prefix_zoom_figure
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets.panel import ChoiceBox, Drawings, Panel
from nezha_lite.widgets.subject import check_same_items
from nezha_lite.widgets.tables import Table, some_titles

SHOWN_ITEMS, SHOWN_NEIGHBOURS, EXAMPLES = 12, 5, 2
ANY = ("any", -1)  # first option of a menu: no code selected
Prefix = tuple[int, ...]


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
    refreshed_by = ("prefix",)

    def __init__(
        self,
        dataset: InteractionDataset,
        semantic_ids: SemanticIds,
        vectors: Tensor | None = None,
        prefix: Sequence[int] = (),
    ) -> None:
        self.dataset, self.semantic_ids = dataset, semantic_ids
        self.index = PrefixIndex(semantic_ids, dataset, vectors)
        super().__init__(prefix=tuple(map(int, prefix)))

    def controls(self) -> list[widgets.Widget]:
        """A menu for each level."""
        self.choices = [
            ChoiceBox(f"Code {level + 1}", on_choice=partial(self._choose, level), empty=ANY)
            for level in range(self.semantic_ids.levels)
        ]
        return self.choices

    def drawings(self) -> Drawings:
        """The items below the prefix."""
        return [lambda: prefix_zoom_figure(self.semantic_ids, self.prefix)]

    @traitlets.validate("prefix")
    def _exists(self, proposal: Any) -> Prefix:
        prefix = tuple(map(int, proposal.value))
        try:
            self.index.items(prefix)
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error
        return prefix

    # ---- reactions --------------------------------------------------------------------------

    def _choose(self, level: int, code: int) -> None:
        if code != self._code(level):
            self.prefix = self.prefix[:level] + (() if code == ANY[1] else (code,))

    def _code(self, level: int) -> int:
        return self.prefix[level] if level < len(self.prefix) else ANY[1]

    def tell(self) -> None:
        """Show everything but the figure."""
        for level, choice in enumerate(self.choices):
            choice.offer(self._options(level))
            choice.choose(self._code(level))
        super().tell()

    def _options(self, level: int) -> list[tuple[str, int]]:
        if level > len(self.prefix):
            return []
        children = self.index.children(self.prefix[:level])
        return [ANY, *((f"{code}: {counted(count, 'item')}", code) for code, count in children)]

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """The prefix on show, in plain text."""
        items, whole = len(self.index.items(self.prefix)), self.semantic_ids.n_items
        name = f"Prefix {code_text(self.prefix)}" if self.prefix else "The empty prefix"
        size = f"{name}: {items:,} of {whole:,} items ({percent(items / whole)})."
        level = len(self.prefix)
        if level < self.semantic_ids.levels:
            used, radix = len(self.index.children(self.prefix)), self.semantic_ids.radices[level]
            lead = "leads" if used == 1 else "lead"
            return [size, f"Of the {radix} codes that may come next, {used} {lead} to an item."]
        carriers = "one item carries it" if items == 1 else f"{items} items collide in it"
        return [size, f"The ID is complete, and {carriers}."]

    def tables(self) -> list[Table]:
        """What the items share, the items, and the prefixes near them."""
        return [self._common_rows(), self._item_rows(), self._neighbour_rows()]

    def _common_rows(self) -> Table:
        here, whole = len(self.index.items(self.prefix)), self.semantic_ids.n_items
        rows = [
            (trait.kind, trait.name, f"{trait.here / here:.0%}", f"{trait.everywhere / whole:.0%}")
            for trait in self.index.common(self.prefix)
        ]
        caption = "What these items have in common, and how usual it is in the catalogue:"
        return Table(caption, ("", "", "here", "everywhere"), rows, numbers=(2, 3))

    def _item_rows(self) -> Table:
        items = self.index.items(self.prefix)
        shown = items[:: max(1, len(items) // SHOWN_ITEMS)][:SHOWN_ITEMS]
        codes = self.semantic_ids.codes
        rows = [(code_text(codes[item].tolist()), self.dataset.title(item)) for item in shown]
        some = f", {len(shown)} of them:" if len(shown) < len(items) else ":"
        caption = f"{counted(len(items), 'item')} with this prefix{some}"
        return Table(caption, ("semantic ID", "title"), rows)

    def _neighbour_rows(self) -> Table:
        rows = []
        for near in self.index.neighbours(self.prefix, SHOWN_NEIGHBOURS):
            titles = some_titles(self.dataset, near.items, EXAMPLES)
            size = counted(len(near.items), "item")
            rows.append((code_text(near.prefix), titles, size, f"{near.distance:.2f}"))
        if self.index.vectors is None:
            caption = "Neighbours need the item vectors: CodebookExplorer(…, vectors=vectors)."
        elif not self.prefix:
            caption = "Choose a first code to see the prefixes nearest to it."
        else:
            caption = "The nearest prefixes of this length, by the mean of their items' vectors:"
        return Table(caption, ("prefix", "for example", "", "distance"), rows, numbers=(3,))


@dataclass(frozen=True)
class Trait:
    """A word of the titles, or a category, and how many items have it.

    Attributes:
        name: the word in lower case, or the category as written.
        kind: "word" or "category".
        here: number of the prefix's items.
        everywhere: number of all items of the catalogue.
    """

    name: str
    kind: str
    here: int
    everywhere: int


@dataclass(frozen=True)
class Neighbour:
    """A prefix of the same length, and how far its items' mean vector is."""

    prefix: Prefix
    items: tuple[int, ...]
    distance: float


class PrefixIndex:
    """Answers about the prefixes of a catalogue.

    Args:
        semantic_ids: the catalogue.
        dataset: for the texts; its items are those of `semantic_ids`, row by row.
        vectors: (N, D) item vectors, for the neighbours; without them there are none.

    Raises:
        ValueError: if the numbers of items disagree.
    """

    def __init__(
        self, semantic_ids: SemanticIds, dataset: InteractionDataset, vectors: Tensor | None = None
    ) -> None:
        check_same_items("data set", dataset.n_items, semantic_ids)
        if vectors is not None:
            check_same_items("vectors", len(vectors), semantic_ids)
        self.semantic_ids = semantic_ids
        self.vectors = None if vectors is None else vectors.detach().cpu().double()
        self._traits = [_traits_of(dataset, item) for item in range(dataset.n_items)]
        self._everywhere = Counter(trait for traits in self._traits for trait in traits)
        self._centroids: dict[int, tuple[Tensor, Tensor]] = {}

    def items(self, prefix: Prefix) -> list[int]:
        """Items whose codes begin with the prefix, in catalogue order; () is every item."""
        return [int(item) for item in self._rows(prefix)]

    def children(self, prefix: Prefix) -> list[tuple[int, int]]:
        """(next code, how many items have it), the most frequent first; [] after the last level."""
        if len(prefix) == self.semantic_ids.levels:
            return []
        column = self.semantic_ids.codes[self._rows(prefix), len(prefix)]
        counts = Counter(column.tolist())
        return sorted(counts.items(), key=lambda child: (-child[1], child[0]))

    def common(self, prefix: Prefix, words: int = 5, categories: int = 3) -> list[Trait]:
        """Words and categories that set the prefix's items apart from the whole catalogue.

        Ordered by the difference of their shares here and in the catalogue; for the empty prefix
        by their share.
        """
        rows = self.items(prefix)
        here = Counter(trait for item in rows for trait in self._traits[item])
        whole = self.semantic_ids.n_items

        def rank(trait: tuple[str, str]) -> tuple[float, float, str]:
            share, usual = here[trait] / len(rows), self._everywhere[trait] / whole
            return (round(usual - share, 9), -share, trait[1])

        return [
            Trait(trait[1], kind, here[trait], self._everywhere[trait])
            for kind, limit in (("word", words), ("category", categories))
            for trait in sorted((one for one in here if one[0] == kind), key=rank)[:limit]
        ]

    def neighbours(self, prefix: Prefix, n: int = 5) -> list[Neighbour]:
        """The n prefixes of the same length with the nearest mean vectors, the nearest first."""
        if self.vectors is None or not prefix:
            return []
        level = len(prefix)
        if level not in self._centroids:
            keys = self.semantic_ids.keys_of(self.semantic_ids.codes[:, :level])
            prefixes, group = torch.unique(keys, return_inverse=True)  # (P,), (N,)
            sums = torch.zeros(len(prefixes), self.vectors.shape[1], dtype=torch.float64)
            sums.index_add_(0, group, self.vectors)
            counts = torch.bincount(group, minlength=len(prefixes))
            self._centroids[level] = (group, sums / counts[:, None])  # (N,), (P, D)
        group, centroids = self._centroids[level]
        own = int(group[self._rows(prefix)[0]])
        distances = (centroids - centroids[own]).norm(dim=1)  # (P,)
        distances[own] = torch.inf
        # Rounded, so that prefixes equally far come in the same order on every machine.
        order = torch.round(distances, decimals=6).argsort(stable=True)
        nearest = order[: min(n, len(distances) - 1)].tolist()
        groups = [(number, (group == number).nonzero()[:, 0].tolist()) for number in nearest]
        codes = self.semantic_ids.codes[:, :level]
        return [
            Neighbour(tuple(codes[items[0]].tolist()), tuple(items), float(distances[number]))
            for number, items in groups
        ]

    def _rows(self, prefix: Prefix) -> Tensor:
        """Item indices (n,) of the prefix; ValueError if no item has it."""
        if len(prefix) <= self.semantic_ids.levels:
            rows = items_below(self.semantic_ids, prefix).nonzero()[:, 0]
            if len(rows):
                return rows
        raise ValueError(f"No item's codes begin with {tuple(prefix)}.")


def _traits_of(dataset: InteractionDataset, item: int) -> set[tuple[str, str]]:
    if dataset.texts is None:
        return set()
    words = re.findall(r"\w+", dataset.title(item).casefold())
    categories = (category.strip() for category in dataset.texts[item].categories)
    return {("word", word) for word in words} | {("category", name) for name in categories if name}
