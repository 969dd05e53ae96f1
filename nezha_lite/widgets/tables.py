"""Tables of the widgets: HTML in which all data is escaped, and decoded lists as HTML and text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import DecodeResult
from nezha_lite.decoding.item_lists import NOT_FOUND
from nezha_lite.plots.beam_figures import item_label
from nezha_lite.plots.numbers import code_text
from nezha_lite.semantic_ids import SemanticIds

_SPACED = "padding:2px 12px 2px 0;vertical-align:top;overflow-wrap:anywhere"
CELL = Markup(f'style="{_SPACED};text-align:left"')
NUMBER = Markup(f'style="{_SPACED};text-align:right;font-variant-numeric:tabular-nums"')
NARROW = Markup(f'style="{_SPACED};text-align:left;max-width:24ch"')
CAPTION = Markup('style="text-align:left;padding-bottom:4px"')
MISSING = Markup('<span style="color:#C04A00;font-weight:600">{}</span>')
"""For what does not exist: bold, so that colour is not the only difference."""
COMPARED = 10  # items of two lists
TARGET, GAP = "★ chosen next", "⋮"


def html_table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Collection[int] = (),
    row_heads: bool = False,
    cell: Markup = CELL,
) -> str:
    """A table; cells of type `Markup` are HTML, all others are text and escaped.

    Args:
        caption: stands above it; none if empty.
        heads: of the columns; none if empty.
        rows: a cell for each column.
        numbers: indices of the columns that are aligned to the right.
        row_heads: whether the first column names its row.
        cell: attribute of the cells that are no numbers.
    """

    def line(cells: Sequence[str], first: str, other: str) -> Markup:
        return Markup().join(
            Markup(other if column else first).format(NUMBER if column in numbers else cell, text)
            for column, text in enumerate(cells)
        )

    data, head = "<td {}>{}</td>", '<th scope="col" {}>{}</th>'
    first = '<th scope="row" {}>{}</th>' if row_heads else data
    body = Markup().join(Markup("<tr>{}</tr>").format(line(row, first, data)) for row in rows)
    above = Markup("<caption {}>{}</caption>").format(CAPTION, caption) if caption else ""
    titles = Markup("<thead><tr>{}</tr></thead>").format(line(heads, head, head)) if heads else ""
    table = Markup('<table style="line-height:1.4;margin-top:8px">{}{}<tbody>{}</tbody></table>')
    return str(table.format(above, titles, body))


def some_titles(dataset: InteractionDataset, items: Sequence[int], limit: int) -> str:
    """The titles of the first items, and a mark if there are more."""
    titles = "; ".join(dataset.title(int(item)) for item in items[:limit])
    return titles + ("; …" if len(items) > limit else "")


@dataclass(frozen=True)
class ListRow:
    """One filled place of a decoded list.

    Attributes:
        rank: from 1.
        codes: its semantic ID.
        score: its log-probability.
        items: those that carry the ID; empty for a hallucination.
        note: a remark in plain text.
    """

    rank: int
    codes: tuple[int, ...]
    score: float
    items: tuple[int, ...]
    note: str = ""

    def text(self, dataset: InteractionDataset) -> str:
        """The title, or that there is none, and the note, in plain text."""
        missing = f"✕ does not exist (codes {code_text(self.codes)})"
        text = item_label(list(self.items), dataset) if self.items else missing
        return f"{text} ← {self.note}" if self.note else text

    def cell(self, dataset: InteractionDataset, target: int | None = None) -> Markup:
        """The same as HTML: a missing item stands out, and the target is marked."""
        text = self.text(dataset)
        if not self.items:
            return MISSING.format(text)
        return escape(text) + (Markup(f" <b>{TARGET}</b>") if target in self.items else "")


def list_rows(
    result: DecodeResult, prompt: int, semantic_ids: SemanticIds, popularity: Sequence[int]
) -> list[ListRow]:
    """The filled places of one prompt's list, best first; items sharing an ID by popularity."""
    keys, scores = result.keys[prompt].cpu(), result.scores[prompt].tolist()  # (K,), K
    codes = semantic_ids.codes_of(keys.clamp_min(0)).tolist()
    return [
        ListRow(
            rank,
            tuple(digits),
            score,
            tuple(sorted(semantic_ids.items_of(key), key=lambda item: -popularity[item])),
        )
        for rank, (key, score, digits) in enumerate(
            zip(keys.tolist(), scores, codes, strict=True), start=1
        )
        if key >= 0
    ]


def selected_rows(rows: list[ListRow], best: int, hallucinations: int) -> list[ListRow]:
    """The best rows, and below them the first ones that name no item."""
    return rows[:best] + [row for row in rows[best:] if not row.items][:hallucinations]


def shared_items(items: Sequence[int], others: Sequence[int]) -> int:
    """How many of their first ten items two lists have in common."""
    return len({*items[:COMPARED]} & {*others[:COMPARED]} - {NOT_FOUND})


@dataclass(frozen=True)
class ItemList:
    """Rows of a decoded list to be shown, with a mark where ranks are left out.

    Attributes:
        rows: the best first.
        dataset: for the titles.
        caption: plain text.
        target: the item that the user really chose next, to be marked.
    """

    rows: list[ListRow]
    dataset: InteractionDataset
    caption: str
    target: int | None = None

    def html(self) -> str:
        """An HTML table; every text of the data set is escaped."""
        cells: list[tuple[str, str, str]] = [
            (str(row.rank), row.cell(self.dataset, self.target), f"{row.score:.2f}")
            if row
            else (GAP, GAP, "")
            for row in self._with_gaps()
        ]
        return html_table(self.caption, ("place", "item", "log-probability"), cells, numbers=(0, 2))

    def lines(self) -> list[str]:
        """The same table as lines of plain text, for the static form."""
        return [self.caption, *(self._line(row) if row else GAP for row in self._with_gaps())]

    def _line(self, row: ListRow) -> str:
        mark = f" {TARGET}" if self.target is not None and self.target in row.items else ""
        return f"{row.rank}. {row.text(self.dataset)}  ({row.score:.2f}){mark}"

    def _with_gaps(self) -> Iterator[ListRow | None]:
        before = 0
        for row in self.rows:
            if row.rank > before + 1:
                yield None
            before = row.rank
            yield row
