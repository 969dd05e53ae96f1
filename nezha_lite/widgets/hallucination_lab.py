"""Drafts on the map of what exists, and a catalogue that changes under them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import ipywidgets as widgets
import traitlets

from nezha_lite.datasets import shown_text
from nezha_lite.plots.id_map_figures import id_map_figure
from nezha_lite.plots.static_svg import shortened
from nezha_lite.widgets.dynamic_catalogue import DynamicCatalogue, Served
from nezha_lite.widgets.panel import NO_OPTION, ChoiceBox, Drawings, check_trait
from nezha_lite.widgets.subject import DecodePanel, verification_sentence
from nezha_lite.widgets.tables import Table

BEST, FURTHER = 10, 10  # rows shown of the list: the best, and those below with a remark
LABEL = 240  # pixels of a title in a menu
NOTHING = Served((), ())


class HallucinationLab(DecodePanel):
    """Drafts land on what exists and beside it; take items away, and watch both map and list.

    The model stays as it is. Only the verifier learns what is removed, and a request what is
    forbidden. Each lab has a verifier of its own.

    The arguments are `SubjectPanel`'s: a trained model, its catalogue, the data set, the users on
    offer, and first values of the traits.

    These traits may be given, set and observed: `user`; `beam`, 1 to 64; `verification` of the
    list, "off", "final" or "prefix" (the drafts on the map are never checked while they are made);
    `removed`, a tuple of items; and `forbidden`, a category, or "". `served` are the drafts and the
    list on show.
    """

    removed: Any = traitlets.Tuple()
    forbidden = traitlets.Unicode()
    refreshed_by = ("user", "beam", "verification", "removed", "forbidden")
    beam = traitlets.Int(50, min=1, max=64)
    served = NOTHING

    def drawings(self) -> Drawings:
        """The map of the drafts and of what exists."""
        marks = [*self.served.drafts, *self.served.instead]
        return [lambda: id_map_figure(self.subject.semantic_ids, marks, self.removed)]

    def controls(self) -> list[widgets.Widget]:
        """What is decoded, and what is taken out of the catalogue."""
        self.item_choice = ChoiceBox("Item of the list", {"Remove this item": self._remove})
        restore: dict[str, Callable[[], None]] = {
            "Restore this item": self._restore,
            "Restore all": partial(setattr, self, "removed", ()),
        }
        self.removed_choice = ChoiceBox("Removed", restore)
        categories = [
            (_short(f"{shown_text(name)} ({len(items):,})"), name)
            for name, items in self.catalogue.categories.items()
        ]
        forbid = self.menu("forbidden", "Forbid category", [NO_OPTION, *categories])
        return [*super().controls(), self.item_choice, self.removed_choice, forbid]

    @traitlets.validate("removed")
    def _known_items(self, proposal: Any) -> tuple[int, ...]:
        try:
            items = self.subject.semantic_ids.known_items(proposal.value, "removed")
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None
        return tuple(dict.fromkeys(items))

    @traitlets.validate("forbidden")
    def _known_category(self, proposal: Any) -> Any:
        valid = proposal.value in ("", *self.catalogue.categories)
        return check_trait(proposal, valid, f"a category of {self.subject.dataset.name!r}")

    # ---- reactions --------------------------------------------------------------------------

    def compute(self, change: Any = None) -> None:
        """Decode with the catalogue as it is, and compare with the list before."""
        if change is None:
            self.catalogue = DynamicCatalogue(self.subject)
        before = set(self.served.items)
        settings = self.user, self.beam, self.verification, self.forbidden
        try:
            self.catalogue.set_removed(self.removed)
            self.served, self.problem = self.catalogue.serve(*settings), ""
        except ValueError as error:
            self.served, self.problem = NOTHING, str(error)
        comparable = change is not None and change.name != "user"
        self._mark_new(before if comparable else set(self.served.items))

    def tell(self) -> None:
        """Show everything but the map."""
        self._offer_items()
        super().tell()

    def tables(self) -> list[Table]:
        """The list: its best places, and further ones with a remark."""
        if not self.rows:
            return []
        further = [one for one in self.rows[BEST:] if one.note or not one.items][:FURTHER]
        return [self.item_table(self.rows, [*self.rows[:BEST], *further], "name no item")]

    def _mark_new(self, before: set[int]) -> None:
        now = set(self.served.items)
        added, gone = len(now - before), len(before - now)
        self.news = ""
        if added or gone:
            self.news = f"New on the list since the last change: {added}. Gone from it: {gone}."
        self.rows = [
            replace(row, note="new") if set(row.items) - before else row for row in self.served.rows
        ]

    def _offer_items(self) -> None:
        title = self.subject.dataset.title
        ranked = [(row.rank, item) for row in self.rows for item in row.items]
        self.item_choice.offer([(_short(f"{rank}. {title(item)}"), item) for rank, item in ranked])
        self.removed_choice.offer([(_short(title(item)), item) for item in self.removed])

    def _remove(self) -> None:
        self.removed = (*self.removed, self.item_choice.menu.value)

    def _restore(self) -> None:
        restored = self.removed_choice.menu.value
        self.removed = tuple(item for item in self.removed if item != restored)

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """The state on show, or what went wrong, in plain text."""
        if self.problem:
            return [self.problem]
        category = f"category {shown_text(self.forbidden)}" if self.forbidden else "no category"
        count = len(self.removed)
        removed = {0: "No item is", 1: "1 item is"}.get(count, f"{count:,} items are")
        lines = [
            self.subject.introduction(self.user),
            f"{self.served.fate_of_drafts()} {removed} removed; {category} is forbidden.",
            verification_sentence(self.verification),
        ]
        if not self.rows:
            withheld = self.catalogue.withheld(self.forbidden)
            everything = len(withheld) == self.subject.semantic_ids.n_items
            why = "every item is removed or forbidden" if everything else "no draft was accepted"
            lines.append(f"The list is empty: {why}.")
        elif self.served.instead:
            count = len(self.served.instead)
            lines.append(f"{count} of the list's {len(self.rows)} IDs were not among the drafts.")
        return [*lines, self.news] if self.news else lines


def _short(text: str) -> str:
    return shortened(text, LABEL)
