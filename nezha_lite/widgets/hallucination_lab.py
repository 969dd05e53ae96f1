"""Drafts on the map of what exists, and a catalogue that changes under them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ipywidgets as widgets
import traitlets

from nezha_lite.datasets import InteractionDataset, shown_text
from nezha_lite.decoding import VERIFICATIONS, Verification
from nezha_lite.model import NezhaModel
from nezha_lite.plots.id_map_figures import Landed, id_map_figure
from nezha_lite.plots.static_svg import shortened
from nezha_lite.plots.style import Figure
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets.choice_box import ChoiceBox
from nezha_lite.widgets.dynamic_catalogue import LivingCatalogue, Served
from nezha_lite.widgets.item_list import ListRow, list_html, list_lines
from nezha_lite.widgets.panel import (
    DESCRIPTION,
    MODES,
    WIDE,
    Subject,
    SubjectPanel,
    figure_widget,
    link,
    paragraph,
    redraw,
    slider,
    user_control,
    verification_control,
)

MAX_BEAM = 64
BEST, FURTHER = 10, 10  # rows shown of the list: the best, and further down what is remarkable
LABEL = 145  # pixels, as wide as a slider writes its value
NOTHING = Served((), ())


class HallucinationLab(SubjectPanel):
    """Drafts land on what exists and beside it; take items away, and watch both map and list.

    The model stays as it is. Only the verifier learns what is removed, and a request what is
    forbidden. Each lab has a verifier of its own.

    Args:
        model: a trained model.
        semantic_ids: the catalogue it was trained for.
        dataset: for users, titles and categories.
        users: indices of the users on offer; by default eight of the test split.
        beam: beam width at first, 1 to 64.
        verification: "off", "final" or "prefix" at first, for the list; the drafts on the map are
            never checked while they are made.

    The traits `user`, `beam`, `verification`, `removed` (a tuple of items), `forbidden` (a
    category, or "") and `square` (the first two codes of the IDs looked into) may be set and
    observed; `served` are the drafts and the list on show.
    """

    beam = traitlets.Int(min=1, max=MAX_BEAM)
    verification = traitlets.Enum(VERIFICATIONS)
    removed: Any = traitlets.Tuple()
    forbidden = traitlets.Unicode()
    square: Any = traitlets.Tuple()

    def __init__(
        self,
        model: NezhaModel,
        semantic_ids: SemanticIds,
        dataset: InteractionDataset,
        users: Sequence[int] | None = None,
        beam: int = 50,
        verification: Verification = "prefix",
    ) -> None:
        self.subject = Subject(model, semantic_ids, dataset, users)
        self.catalogue = LivingCatalogue(self.subject)
        self.served, self.problem = NOTHING, ""
        self.rows: list[ListRow] = []
        self.news = ""  # what the last change did to the list
        self.deep = semantic_ids.levels > 2  # whether a square of the map holds more than one ID
        self.summary, self.table = widgets.HTML(), widgets.HTML()
        self.map = figure_widget(self._map())
        self.inside = figure_widget(self._inside())
        self.item_choice = ChoiceBox("Item of the list", {"Remove this item": self._remove})
        self.removed_choice = ChoiceBox(
            "Removed", {"Restore this item": self._restore, "Restore all": self._restore_all}
        )
        self.square_choice = ChoiceBox("Look inside", chosen=self._square_chosen)
        user_choice, verification_choice = user_control(self.subject), verification_control()
        beam_choice = widgets.IntSlider(
            min=1, max=MAX_BEAM, description="Beam width", style=DESCRIPTION, layout=WIDE
        )
        categories = self.catalogue.categories.items()
        names = [
            (_short(f"{shown_text(name)} ({len(items):,})"), name) for name, items in categories
        ]
        forbid_choice = slider("Forbid category", [("none", ""), *names])
        changes = [self.item_choice, self.removed_choice, forbid_choice]
        looks = [self.square_choice, self.inside] if self.deep else []
        settings = [user_choice, beam_choice, verification_choice]
        super().__init__(
            [*settings, self.summary, self.map, *changes, self.table, *looks],
            user=self.subject.users[0],
            beam=beam,
            verification=verification,
        )
        link(self, "user", user_choice)
        link(self, "beam", beam_choice)
        link(self, "verification", verification_choice)
        link(self, "forbidden", forbid_choice)
        self.observe(self._refresh, ["user", "beam", "verification", "removed", "forbidden"])
        self.observe(self._look_inside, "square")
        self._refresh()

    @traitlets.validate("removed")
    def _known_items(self, proposal: Any) -> tuple[int, ...]:
        try:
            known = self.subject.semantic_ids.known_items(proposal.value, "removed")
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None
        return tuple(dict.fromkeys(known))

    @traitlets.validate("forbidden")
    def _known_category(self, proposal: Any) -> str:
        name: str = proposal.value
        if name and name not in self.catalogue.categories:
            raise traitlets.TraitError(
                f"{name!r} is no category of {self.subject.dataset.name!r}, which has "
                f"{len(self.catalogue.categories)}."
            )
        return name

    @traitlets.validate("square")
    def _known_codes(self, proposal: Any) -> tuple[int, ...]:
        codes, radices = tuple(proposal.value), self.subject.semantic_ids.radices[:2]
        if codes and (
            len(codes) != 2 or not all(0 <= c < r for c, r in zip(codes, radices, strict=True))
        ):
            raise traitlets.TraitError(
                f"square is {codes}, but must be () or two codes, below {radices[0]} and "
                f"{radices[-1]}."
            )
        return codes

    # ---- reactions --------------------------------------------------------------------------

    def _refresh(self, change: Any = None) -> None:
        before = set(self.served.items)
        try:
            self.catalogue.keep_removed(self.removed)
            self.served = self.catalogue.serve(
                self.user, self.beam, self.verification, self.forbidden
            )
        except ValueError as error:
            self.served, self.problem = NOTHING, str(error)
        else:
            self.problem = ""
        comparable = change is not None and change.name != "user"
        self._mark_new(before if comparable else set(self.served.items))
        redraw(self.map, self._map())
        self._offer_items()
        if self.deep:
            self._offer_squares()
        self.summary.value = "".join(map(paragraph, self.sentences()))
        self.table.value = list_html(*self._list()) if self.rows else ""

    def _mark_new(self, before: set[int]) -> None:
        now = set(self.served.items)
        came, left = len(now - before), len(before - now)
        self.news = ""
        if came or left:
            self.news = f"New on the list since the last change: {came}. Gone from it: {left}."
        self.rows = [
            replace(row, note="new") if set(row.items) - before else row for row in self.served.rows
        ]

    def _offer_items(self) -> None:
        title = self.subject.dataset.title
        places = [(row.place, item) for row in self.rows for item in row.items]
        listed = [(_short(f"{place}. {title(item)}"), item) for place, item in places]
        self.item_choice.offer(listed)
        self.removed_choice.offer([(_short(title(item)), item) for item in self.removed])

    def _offer_squares(self) -> None:
        found = Counter(mark.codes[:2] for mark in self._landed()).most_common()
        self.square_choice.offer(
            [(f"{'-'.join(map(str, codes))}: {count}", codes) for codes, count in found]
        )
        squares = [codes for codes, _ in found]
        if self.square not in squares:
            self.square = squares[0] if squares else ()
        self._look_inside()

    def _square_chosen(self, codes: Any) -> None:
        self.square = codes or ()

    def _look_inside(self, change: Any = None) -> None:
        self.square_choice.choose(self.square)
        redraw(self.inside, self._inside())

    def _remove(self) -> None:
        self.removed = (*self.removed, self.item_choice.slider.value)

    def _restore(self) -> None:
        back = self.removed_choice.slider.value
        self.removed = tuple(item for item in self.removed if item != back)

    def _restore_all(self) -> None:
        self.removed = ()

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """What is to be seen, or what went wrong, in plain text."""
        if self.problem:
            return [self.problem]
        forbidden = (
            f"category {shown_text(self.forbidden)} is" if self.forbidden else "no category is"
        )
        out = {0: "No item is", 1: "1 item is"}.get(
            len(self.removed), f"{len(self.removed):,} items are"
        )
        lines = [
            self.subject.introduction(self.user),
            f"{self.served.fate_of_drafts()} {out} removed; {forbidden} forbidden.",
            f"Verification {self.verification}: {MODES[self.verification]}.",
        ]
        if not self.rows:
            gone = self.catalogue.gone(self.forbidden)
            everything = len(gone) == self.subject.semantic_ids.n_items
            why = "every item is removed or forbidden" if everything else "no draft was accepted"
            lines.append(f"The list is empty: {why}.")
        elif self.served.instead:
            count = len(self.served.instead)
            lines.append(f"{count} of the list's {len(self.rows)} IDs were not among the drafts.")
        return [*lines, self.news] if self.news else lines

    def _list(self) -> tuple[Any, ...]:
        missing = sum(not row.items for row in self.rows)
        caption = f"{len(self.rows)} of {self.beam} places are filled; {missing} name no item."
        further = [row for row in self.rows[BEST:] if row.note or not row.items][:FURTHER]
        shown = [*self.rows[:BEST], *further]
        return shown, self.subject.dataset, caption, self.subject.targets[self.user]

    # ---- what is drawn ----------------------------------------------------------------------

    def _landed(self) -> list[Landed]:
        return [*self.served.drafts, *self.served.instead]

    def _map(self) -> Figure:
        return id_map_figure(self.subject.semantic_ids, self._landed(), self.removed)

    def _inside(self) -> Figure:
        """The square looked into; the whole map where IDs end with two codes."""
        ids = self.subject.semantic_ids
        somewhere = tuple(ids.codes[0, :2].tolist())  # without drafts no square is chosen
        prefix = (self.square or somewhere) if self.deep else ()
        return id_map_figure(ids, self._landed(), self.removed, prefix)

    def blocks(self) -> list[Any]:
        """The state on show: sentences, map, list, and the square looked into."""
        text = [f"Beam width {self.beam}.", *self.sentences()]
        blocks: list[Any] = [text, self._map()]
        if self.rows:
            blocks.append(list_lines(*self._list()))
        return [*blocks, self._inside()] if self.deep else blocks


def _short(text: str) -> str:
    return shortened(text, LABEL)
