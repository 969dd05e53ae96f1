"""The lists of a race side by side; decoders that agree place by place share a column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nezha_lite.bench.race import Finish, entry
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import Verification
from nezha_lite.decoding.item_lists import NOT_FOUND, item_lists
from nezha_lite.plots.race_figures import RaceBar
from nezha_lite.plots.speed_figures import decoder_style
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets.html_table import NARROW, html_table
from nezha_lite.widgets.item_list import ListRow, item_cell, list_lines, list_rows

STRANGER = "△"


def columns(entrants: Sequence[Entrant]) -> list[tuple[str, list[ListRow]]]:
    """The different lists, cut after ten places, under the names of those that returned them."""
    found: dict[tuple[tuple[int, ...], ...], tuple[list[str], list[ListRow]]] = {}
    for entrant in entrants:
        rows = entrant.rows[:PLACES]
        codes = tuple(row.codes for row in rows)
        found.setdefault(codes, ([], rows))[0].append(entrant.name)
    return [("; ".join(names), rows) for names, rows in found.values()]


def lists_html(
    entrants: Sequence[Entrant],
    dataset: InteractionDataset,
    target: int,
    reference: Entrant | None,
) -> str:
    """An HTML table with a column per list; every text of the data set is escaped.

    Args:
        entrants: whose lists.
        dataset: for the titles.
        target: the item that the user really chose next, to be marked.
        reference: items that are not among its first ten are marked.
    """
    lists = columns(entrants)
    rows = [
        (str(place + 1), *(_cell(found, place, dataset, target, reference) for _, found in lists))
        for place in range(max((len(found) for _, found in lists), default=0))
    ]
    heads = ("place", *(name for name, _ in lists))
    table = html_table(_caption(reference), heads, rows, numbers=(0,), cell=NARROW)
    return f'<div style="overflow-x:auto">{table}</div>'


def _caption(reference: Entrant | None) -> str:
    text = f"The first {PLACES} places. Decoders whose lists are equal share a column."
    if reference is not None:
        text += f" {STRANGER}: not in the list of the {reference.name} decoder."
    return text


def _cell(
    rows: Sequence[ListRow],
    place: int,
    dataset: InteractionDataset,
    target: int,
    reference: Entrant | None,
) -> str:
    if place >= len(rows):
        return "(empty)"
    row = rows[place]
    known = reference is None or {*row.items} & {*reference.items[:PLACES]}
    mark = "" if known or not row.items else f"{STRANGER} "
    return mark + item_cell(row, dataset, target)


def lists_lines(
    entrants: Sequence[Entrant], dataset: InteractionDataset, target: int
) -> list[list[str]]:
    """The same lists as lines of plain text, for the static form."""
    return [
        list_lines(rows, dataset, f"The first {PLACES} places by {name}:", target)
        for name, rows in columns(entrants)
    ]


PLACES = 10  # of the lists that are compared
EXACT_NAMES = {"exact-draft": "exact, draft head", "exact-backbone": "exact, backbone"}
NEZHA, REFERENCE = "nezha", "autoregressive"


@dataclass(frozen=True)
class Entrant:
    """One decoder that came through.

    Attributes:
        decoder: its name in the bench.
        verification: how its drafts were checked.
        ms: median of the timed calls, in milliseconds.
        calls: forward passes of the backbone.
        rows: all filled places of the list.
        items: the list as items, best first; NOT_FOUND for an ID without item.
    """

    decoder: str
    verification: Verification
    ms: float
    calls: int
    rows: list[ListRow]
    items: list[int]

    @property
    def name(self) -> str:
        """As figures call it."""
        return racer_name(self.decoder, self.verification)

    @property
    def missing(self) -> int:
        """How many of the listed IDs no item has."""
        return sum(not row.items for row in self.rows)

    @property
    def bar(self) -> RaceBar:
        """For the figure."""
        return RaceBar(self.name, self.ms, self.calls, len(self.rows), self.missing)

    def shared_with(self, other: Entrant) -> int:
        """How many items the first places of both lists have in common."""
        return len({*self.items[:PLACES]} & {*other.items[:PLACES]} - {NOT_FOUND})


@dataclass(frozen=True, eq=False)
class Raced:
    """A race that was run, and what it was run with.

    Attributes:
        user: index of the user.
        beam: beam width.
        verification: of the decoders that leave it open.
        finishes: one for each decoder.
        entrants: those that did not fail.
    """

    user: int
    beam: int
    verification: Verification
    finishes: tuple[Finish, ...] = ()
    entrants: tuple[Entrant, ...] = ()

    @classmethod
    def of(
        cls,
        user: int,
        beam: int,
        verification: Verification,
        finishes: Sequence[Finish],
        semantic_ids: SemanticIds,
        popularity: Sequence[int],
    ) -> Raced:
        """The race that these came through; items that share an ID are ordered by popularity."""
        entrants = [
            Entrant(
                finish.decoder,
                finish.verification,
                finish.median_ms,
                finish.result.backbone_calls,
                list_rows(finish.result, 0, semantic_ids, popularity),
                item_lists(finish.result.keys[:1], semantic_ids, popularity)[0],
            )
            for finish in finishes
            if finish.result is not None
        ]
        return cls(user, beam, verification, tuple(finishes), tuple(entrants))

    def entrant(self, name: str) -> Entrant | None:
        """The one of this name of `bench.race.RACERS`, if it is there."""
        wanted = entry(name, self.verification)
        same = (one for one in self.entrants if (one.decoder, one.verification) == wanted)
        return next(same, None)

    @property
    def reference(self) -> Entrant | None:
        """The autoregressive decoder's list, which the others are compared with."""
        return self.entrant(REFERENCE)

    def was(self, names: Sequence[str], user: int, beam: int, verification: Verification) -> bool:
        """Whether it was run with these names of `bench.race.RACERS` and these settings."""
        raced = {(finish.decoder, finish.verification) for finish in self.finishes}
        chosen = {entry(name, verification) for name in names}
        return raced == chosen and (self.user, self.beam) == (user, beam)

    # ---- in plain text ----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """Calls, overlap, what does not exist and what failed; no times, which vary."""
        return [
            *self._comparison(),
            *self._hallucinations(),
            *(
                f"'{racer_name(finish.decoder, finish.verification)}' did not run: {finish.failure}"
                for finish in self.finishes
                if finish.failure is not None
            ),
        ]

    def _comparison(self) -> Iterator[str]:
        nezha, reference = self.entrant(NEZHA), self.reference
        if reference is None:
            for one in self.entrants:
                yield f"'{one.name}' called the backbone {_times(one.calls)}."
            return
        length = len(reference.items[:PLACES])
        if nezha is None:
            yield f"The autoregressive decoder called the backbone {_times(reference.calls)}."
        else:
            yield (
                f"NEZHA called the backbone {_times(nezha.calls)}, the autoregressive decoder "
                f"{_times(reference.calls)}; their lists share {nezha.shared_with(reference)} of "
                f"{length} items."
            )
        others = [
            f"'{one.name}' lists {one.shared_with(reference)} after "
            f"{one.calls} call{'' if one.calls == 1 else 's'}"
            for one in self.entrants
            if one not in (nezha, reference)
        ]
        if others:
            yield f"Of the autoregressive decoder's {length} items, {'; '.join(others)}."

    def _hallucinations(self) -> Iterator[str]:
        for one in self.entrants:
            if one.missing:
                ids = "1 ID" if one.missing == 1 else f"{one.missing} IDs"
                yield f"'{one.name}' lists {ids} that no item has."
        if self.entrants and not any(one.missing for one in self.entrants):
            yield "Every ID in the lists exists."
        filled: dict[int, list[str]] = {}
        for one in self.entrants:
            if len(one.rows) < self.beam:
                filled.setdefault(len(one.rows), []).append(f"'{one.name}'")
        if filled:
            by = [f"{count} by {', '.join(names)}" for count, names in filled.items()]
            yield f"Places filled, of {self.beam}: {'; '.join(by)}."


def racer_name(decoder: str, verification: Verification) -> str:
    """What figures call a decoder whose drafts are checked so."""
    return EXACT_NAMES.get(decoder) or decoder_style(decoder, verification).name


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
