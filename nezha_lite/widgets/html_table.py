"""Tables of the widgets as HTML: what is not marked as HTML is text, and is escaped."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from markupsafe import Markup, escape

_SPACED = "padding:2px 12px 2px 0;vertical-align:top;overflow-wrap:anywhere"
CELL = Markup(f'style="{_SPACED};text-align:left"')
NUMBER = Markup(f'style="{_SPACED};text-align:right;font-variant-numeric:tabular-nums"')
NARROW = Markup(f'style="{_SPACED};text-align:left;max-width:24ch"')
CAPTION = Markup('style="text-align:left;padding-bottom:4px"')
MISSING = Markup('<span style="color:#C04A00;font-weight:600">{}</span>')
"""For what does not exist: heavier, not only of another colour."""


def html_table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Collection[int] = (),
    row_heads: bool = False,
    cell: Markup = CELL,
) -> str:
    """A table.

    Args:
        caption: stands above it; none if empty.
        heads: of the columns; none if empty.
        rows: a cell for each column; `Markup` is taken as it is, everything else escaped.
        numbers: places of the columns that are set to the right.
        row_heads: whether the first column names its row.
        cell: attribute of the cells that are no numbers.
    """

    def styled(place: int) -> Markup:
        return NUMBER if place in numbers else cell

    head = Markup().join(
        Markup('<th scope="col" {}>{}</th>').format(styled(place), text)
        for place, text in enumerate(heads)
    )
    body = Markup().join(
        Markup("<tr>{}</tr>").format(
            Markup().join(
                Markup(
                    '<th scope="row" {}>{}</th>' if row_heads and not place else "<td {}>{}</td>"
                ).format(styled(place), text)
                for place, text in enumerate(row)
            )
        )
        for row in rows
    )
    above = Markup("<caption {}>{}</caption>").format(CAPTION, caption) if caption else ""
    titles = Markup("<thead><tr>{}</tr></thead>").format(head) if heads else ""
    return str(
        Markup(
            '<table style="line-height:1.4;margin-top:8px">{}{}<tbody>{}</tbody></table>'
        ).format(escape(above), titles, body)
    )
