"""What verification changes: drafts level by level, and the resulting list."""

from __future__ import annotations

from typing import Any

import traitlets

from nezha_lite.decoding import VERIFICATIONS
from nezha_lite.plots.beam_figures import DraftCounts, draft_counts, drafts_figure
from nezha_lite.widgets.panel import Drawings
from nezha_lite.widgets.subject import DecodePanel, verification_sentence
from nezha_lite.widgets.tables import Table, selected_rows

BEAMS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
BEST, HALLUCINATIONS = 10, 10  # rows shown of the list


class VerifierLab(DecodePanel):
    """Turn verification on and off, and watch the drafts and the list.

    The arguments are `SubjectPanel`'s: a trained model, its catalogue, the data set, the users on
    offer, and first values of the traits.

    These traits may be given, set and observed: `user`; `beam`, one of 1, 2, 5, 10, 20, 50, 100,
    200, 500; and `verification`, "off", "final" or "prefix". `result` is the `DecodeResult` on
    show, or None where decoding failed; the widget then says why.
    """

    beam = traitlets.Enum(BEAMS, 50)
    verification = traitlets.Enum(VERIFICATIONS, "off")
    refreshed_by = ("user", "beam", "verification")

    def compute(self, change: Any = None) -> None:
        """Decode, and count the drafts."""
        trace, levels = self.decode(), self.subject.semantic_ids.levels
        nothing = [DraftCounts(level, 0, 0, 0) for level in range(1, levels + 1)]
        self.counts = nothing if trace is None else draft_counts(trace, 0)

    def drawings(self) -> Drawings:
        """Bars for the drafts of each level."""
        return [lambda: drafts_figure(self.counts)]

    def tables(self) -> list[Table]:
        """The list."""
        if self.result is None:
            return []
        rows = self.subject.list_rows(self.result)
        return [self.item_table(rows, selected_rows(rows, BEST, HALLUCINATIONS))]

    def sentences(self) -> list[str]:
        """The state on show, or what went wrong, in plain text."""
        if self.problem:
            return [self.problem]
        levels = [
            f"Level {count.level}: {count.existing} of {count.proposed} drafts exist"
            + (f"; {count.rejected} rejected" if count.rejected else "")
            + (f"; {count.unchecked} kept unchecked" if count.unchecked else "")
            + "."
            for count in self.counts
        ]
        user, mode = self.subject.introduction(self.user), verification_sentence(self.verification)
        return [user, mode, " ".join(levels)]
