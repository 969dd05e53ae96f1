"""The outcome of a race: what each decoder returned, in sentences and as lists side by side."""

from __future__ import annotations

from collections.abc import Sequence

from nezha_lite.bench.race import Finish, entry
from nezha_lite.decoding import DecodeResult, Verification
from nezha_lite.decoding.item_lists import item_lists
from nezha_lite.plots.speed_figures import RaceBar
from nezha_lite.plots.style import decoder_style
from nezha_lite.widgets.panel import times
from nezha_lite.widgets.subject import Subject
from nezha_lite.widgets.tables import COMPARED, ListRow, Table, item_table, shared_items

EXACT_NAMES = {"exact-draft": "exact, draft head", "exact-backbone": "exact, backbone"}
NEZHA, REFERENCE = "nezha", "autoregressive"
OUTCOMES = ("decoder", "backbone calls", "places filled", "IDs of no item", "shared items")
ABSENT = "△"  # marks an item that is not on the list of the reference


class Entrant(RaceBar):
    """One decoder that did not fail.

    Attributes:
        decoder: its name in the bench.
        verification: how its drafts were checked.
        rows: all filled places of the list.
        items: the list as items, best first and by popularity where they share an ID; NOT_FOUND
            for an ID without item.
    """

    def __init__(self, subject: Subject, finish: Finish, result: DecodeResult) -> None:
        self.decoder, self.verification = finish.decoder, finish.verification
        self.rows = subject.list_rows(result)
        name = racer_name(finish.decoder, finish.verification)
        counts = len(self.rows), sum(not row.items for row in self.rows)
        super().__init__(name, finish.median_ms, result.backbone_calls, *counts)
        ids, popularity = subject.semantic_ids, subject.popularity
        self.items = item_lists(result.keys[:1], ids, popularity)[0]

    def shared_with(self, other: Entrant) -> int:
        """How many of their first ten items both lists have in common."""
        return shared_items(self.items, other.items)


class Raced:
    """A race, its settings, and what each decoder returned.

    Attributes:
        entrants: the decoders that did not fail.
        reference: the autoregressive one, with whose list the others are compared, or None.

    Args:
        subject: the model, its catalogue and its users.
        user: index of the user.
        beam: beam width.
        verification: of the decoders that leave it open.
        finishes: one for each decoder.
    """

    def __init__(
        self,
        subject: Subject,
        user: int,
        beam: int,
        verification: Verification,
        finishes: Sequence[Finish] = (),
    ) -> None:
        self.subject, self.user, self.beam, self.verification = subject, user, beam, verification
        self.finishes = tuple(finishes)
        results = [(finish, finish.result) for finish in finishes if finish.result is not None]
        self.entrants = tuple(Entrant(subject, *result) for result in results)
        self.reference = self.entrant(REFERENCE)

    def entrant(self, name: str) -> Entrant | None:
        """The one of this name of `bench.race.RACERS`, if it did not fail."""
        racer = entry(name, self.verification)
        same = (one for one in self.entrants if (one.decoder, one.verification) == racer)
        return next(same, None)

    def was(self, names: Sequence[str], user: int, beam: int, verification: Verification) -> bool:
        """Whether it was run with these names of `bench.race.RACERS` and these settings."""
        raced = {(finish.decoder, finish.verification) for finish in self.finishes}
        racers = {entry(name, verification) for name in names}
        return raced == racers and (self.user, self.beam) == (user, beam)

    # ---- in plain text ----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """NEZHA beside the reference, and failures; no times, which vary."""
        failures = [
            f"'{racer_name(finish.decoder, finish.verification)}' did not run: {finish.failure}"
            for finish in self.finishes
            if finish.failure is not None
        ]
        nezha, reference = self.entrant(NEZHA), self.reference
        if nezha is None or reference is None:
            return failures
        return [
            f"NEZHA called the backbone {times(nezha.calls)}, the autoregressive decoder "
            f"{times(reference.calls)}; their lists share {nezha.shared_with(reference)} of "
            f"{len(reference.items[:COMPARED])} items.",
            *failures,
        ]

    def outcomes(self) -> Table:
        """What each decoder did, in numbers."""
        rows = [
            (
                *(one.name, str(one.calls), f"{one.listed} of {self.beam}", str(one.missing)),
                "–" if self.reference is None else str(one.shared_with(self.reference)),
            )
            for one in self.entrants
        ]
        return Table("", OUTCOMES, rows, range(1, len(OUTCOMES)), row_heads=True)

    # ---- the lists --------------------------------------------------------------------------

    def columns(self) -> list[tuple[str, list[ListRow]]]:
        """The distinct lists, cut after ten places, under the names of the decoders that agree."""
        lists: dict[tuple[tuple[int, ...], ...], tuple[list[str], list[ListRow]]] = {}
        for entrant in self.entrants:
            rows = entrant.rows[:COMPARED]
            codes = tuple(row.codes for row in rows)
            lists.setdefault(codes, ([], rows))[0].append(entrant.name)
        return [("; ".join(names), rows) for names, rows in lists.values()]

    def lists(self) -> Table:
        """A column for each list.

        Marked are the item that the user really chose next, and items that are not among the first
        ten of the reference.
        """
        columns, reference = self.columns(), self.reference
        longest = max((len(rows) for _, rows in columns), default=0)
        table = [
            (str(rank), *(self._cell(rows[rank - 1 : rank]) for _, rows in columns))
            for rank in range(1, longest + 1)
        ]
        caption = f"The first {COMPARED} places. Decoders whose lists are equal share a column."
        if reference is not None:
            caption += f" {ABSENT}: not in the list of the {reference.name} decoder."
        return Table(caption, ("rank", *(name for name, _ in columns)), table, numbers=(0,))

    def _cell(self, rows: Sequence[ListRow]) -> str:
        if not rows:
            return "(empty)"
        row, reference = rows[0], self.reference
        shared = reference is None or {*row.items} & {*reference.items[:COMPARED]}
        mark = "" if shared or not row.items else f"{ABSENT} "
        return mark + row.cell(self.subject.dataset, self.subject.targets[self.user])

    def lists_lines(self) -> list[list[str]]:
        """The same lists as lines of plain text, for the static form."""
        dataset, target = self.subject.dataset, self.subject.targets[self.user]
        return [
            item_table(rows, dataset, f"The first {COMPARED} places by {name}:", target).lines()
            for name, rows in self.columns()
        ]


def racer_name(decoder: str, verification: Verification) -> str:
    """The name in figures of a decoder whose drafts are checked so."""
    return EXACT_NAMES.get(decoder) or decoder_style(decoder, verification).name
