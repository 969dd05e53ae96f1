"""The lists of a race side by side; decoders that agree place by place share a column."""

from __future__ import annotations

import html
from collections.abc import Sequence

from nezha_lite.datasets import InteractionDataset
from nezha_lite.widgets.item_list import CELL, NUMBER, ListRow, list_lines
from nezha_lite.widgets.race_outcome import PLACES, Entrant

STRANGER = "△"
NARROW = CELL.replace("vertical-align", "max-width:24ch;vertical-align")
PLACE = NUMBER.replace("text-align", "vertical-align:top;text-align")


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
    heads = "".join(f'<th scope="col" {NARROW}>{html.escape(name)}</th>' for name, _ in lists)
    lines = []
    for place in range(max((len(rows) for _, rows in lists), default=0)):
        cells = "".join(
            f"<td {NARROW}>{_cell(rows[place], dataset, target, reference)}</td>"
            if place < len(rows)
            else f"<td {NARROW}>(empty)</td>"
            for _, rows in lists
        )
        lines.append(f"<tr><td {PLACE}>{place + 1}</td>{cells}</tr>")
    return (
        '<div style="overflow-x:auto"><table style="line-height:1.4">'
        f'<caption style="text-align:left;padding-bottom:4px">{_caption(reference)}</caption>'
        f'<thead><tr><th scope="col" {PLACE}>place</th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _caption(reference: Entrant | None) -> str:
    text = f"The first {PLACES} places. Decoders whose lists are equal share a column."
    if reference is not None:
        text += f" {STRANGER}: not in the list of the {reference.name} decoder."
    return html.escape(text)


def _cell(row: ListRow, dataset: InteractionDataset, target: int, reference: Entrant | None) -> str:
    text = html.escape(row.text(dataset))
    if not row.items:
        return f'<span style="color:#C04A00;font-weight:600">{text}</span>'
    if reference is not None and not {*row.items} & {*reference.items[:PLACES]}:
        text = f"{STRANGER} {text}"
    return text + (" <b>★ chosen next</b>" if target in row.items else "")


def lists_lines(
    entrants: Sequence[Entrant], dataset: InteractionDataset, target: int
) -> list[list[str]]:
    """The same lists as lines of plain text, for the static form."""
    return [
        list_lines(rows, dataset, f"The first {PLACES} places by {name}:", target)
        for name, rows in columns(entrants)
    ]
