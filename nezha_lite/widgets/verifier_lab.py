"""What verification changes: drafts level by level, and the list that comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import traitlets

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import VERIFICATIONS, DecodeResult, Verification
from nezha_lite.model import NezhaModel
from nezha_lite.plots import draft_counts, drafts_figure
from nezha_lite.plots.beam_nodes import DraftCounts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets.item_list import list_html, list_lines, list_rows, selected_rows
from nezha_lite.widgets.panel import (
    MODES,
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

BEAMS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
BEST, HALLUCINATIONS = 10, 10  # rows shown of the list


class VerifierLab(SubjectPanel):
    """Turn verification on and off, and watch the drafts and the list.

    Args:
        model: a trained model.
        semantic_ids: the catalogue it was trained for.
        dataset: for users and titles.
        users: indices of the users on offer; by default eight of the test split.
        beam: beam width at first, one of 1, 2, 5, 10, 20, 50, 100, 200, 500.
        verification: "off", "final" or "prefix" at first.

    The traits `user`, `beam` and `verification` may be set and observed; `result` is the
    `DecodeResult` on show, or None where decoding failed; the widget then says why.
    """

    beam = traitlets.Enum(BEAMS)
    verification = traitlets.Enum(VERIFICATIONS)

    def __init__(
        self,
        model: NezhaModel,
        semantic_ids: SemanticIds,
        dataset: InteractionDataset,
        users: Sequence[int] | None = None,
        beam: int = 50,
        verification: Verification = "off",
    ) -> None:
        self.subject = Subject(model, semantic_ids, dataset, users)
        self.result: DecodeResult | None = None
        self.problem = ""
        self.counts = self._no_counts()
        self.summary, self.table = widgets.HTML(), widgets.HTML()
        self.figure = figure_widget(drafts_figure(self.counts))
        user_choice, verification_choice = user_control(self.subject), verification_control()
        beam_choice = slider("Beam width", [(str(width), width) for width in BEAMS])
        super().__init__(
            [user_choice, beam_choice, verification_choice, self.summary, self.figure, self.table],
            user=self.subject.users[0],
            beam=beam,
            verification=verification,
        )
        link(self, "user", user_choice)
        link(self, "beam", beam_choice)
        link(self, "verification", verification_choice)
        self.observe(self._refresh, ["user", "beam", "verification"])
        self._refresh()

    def sentences(self) -> list[str]:
        """What is to be seen, or what went wrong, in plain text."""
        if self.problem:
            return [self.problem]
        levels = [
            f"Level {count.level}: {count.existing} of {count.proposed} drafts exist"
            + (f"; {count.rejected} rejected" if count.rejected else "")
            + (f"; {count.unchecked} kept unchecked" if count.unchecked else "")
            + "."
            for count in self.counts
        ]
        return [
            self.subject.introduction(self.user),
            f"Verification {self.verification}: {MODES[self.verification]}.",
            " ".join(levels),
        ]

    def _refresh(self, change: Any = None) -> None:
        try:
            self.result = self.subject.decode(self.user, self.beam, self.verification)
        except ValueError as error:
            self.result, self.problem, self.counts = None, str(error), self._no_counts()
        else:
            assert self.result.trace is not None  # asked for
            self.problem, self.counts = "", draft_counts(self.result.trace, 0)
        redraw(self.figure, drafts_figure(self.counts))
        self.summary.value = "".join(map(paragraph, self.sentences()))
        self.table.value = list_html(*self._list()) if self.result else ""

    def _no_counts(self) -> list[DraftCounts]:
        levels = self.subject.semantic_ids.levels
        return [DraftCounts(level, 0, 0, 0) for level in range(1, levels + 1)]

    def _list(self) -> tuple[Any, ...]:
        assert self.result is not None
        subject = self.subject
        rows = list_rows(self.result, 0, subject.semantic_ids, subject.popularity)
        missing = sum(not row.items for row in rows)
        caption = f"{len(rows)} of {self.beam} places are filled; {missing} of them name no item."
        chosen = selected_rows(rows, BEST, HALLUCINATIONS)
        return chosen, subject.dataset, caption, subject.targets[self.user]

    def blocks(self) -> list[Any]:
        """The list on show: settings, bars and table."""
        text = [f"Beam width {self.beam}.", *self.sentences()]
        blocks: list[Any] = [text, drafts_figure(self.counts)]
        if self.result is not None:
            blocks.append(list_lines(*self._list()))
        return blocks
