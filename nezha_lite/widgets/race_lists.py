"""The lists of a race side by side; decoders that agree place by place share a column."""

from __future__ import annotations

from collections.abc import Sequence

from nezha_lite.datasets import InteractionDataset
from nezha_lite.widgets.html_table import NARROW, html_table
from nezha_lite.widgets.item_list import ListRow, item_cell, list_lines
from nezha_lite.widgets.race_outcome import PLACES, Entrant

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
