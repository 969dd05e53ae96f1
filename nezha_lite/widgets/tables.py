"""Tables and paragraphs of the widgets, as HTML in which all data is escaped and as plain text."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import DecodeResult
from nezha_lite.decoding.item_lists import NOT_FOUND
from nezha_lite.plots.beam_figures import item_label
from nezha_lite.plots.numbers import code_text
from nezha_lite.semantic_ids import SemanticIds

MISSING = Markup('<span class="nezha-missing">{}</span>')
"""For what does not exist."""
COMPARED = 10  # items of two lists
TARGET, GAP = "★ chosen next", "⋮"


def paragraphs(texts: Iterable[str]) -> str:
    """Plain texts as HTML, one paragraph each."""
    return "".join(f"<p>{html.escape(text)}</p>" for text in texts)


@dataclass(frozen=True)
class Table:
    """A table in both forms; without rows it is its caption.

    Attributes:
        caption: stands above it; none if empty.
        heads: of the columns; none if empty.
        rows: a cell for each column; cells of type `Markup` are HTML, all others are plain text.
        numbers: indices of the columns that are aligned to the right.
        row_heads: whether the first column names its row.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[int] = ()
    row_heads: bool = False

    def html(self) -> str:
        """As HTML, in which all text is escaped."""
        if not self.rows:
            return paragraphs([self.caption] if self.caption else [])
        data, head = "<td{}>{}</td>", '<th scope="col"{}>{}</th>'
        first = '<th scope="row"{}>{}</th>' if self.row_heads else data
        body = (Markup("<tr>{}</tr>").format(self._cells(row, first, data)) for row in self.rows)
        above = Markup("<caption>{}</caption>").format(self.caption) if self.caption else ""
        titles = Markup("<thead><tr>{}</tr></thead>").format(self._cells(self.heads, head, head))
        return Markup('<table class="nezha-table">{}{}<tbody>{}</tbody></table>').format(
            above, titles if self.heads else "", Markup().join(body)
        )

    def _cells(self, cells: Sequence[str], first: str, other: str) -> Markup:
        number = Markup(' class="nezha-number"')
        return Markup().join(
            Markup(other if column else first).format(
                number if column in self.numbers else "", text
            )
            for column, text in enumerate(cells)
        )

    def lines(self) -> list[str]:
        """As lines of plain text, for the static form."""
        heads = [] if self.row_heads or not self.rows else [" · ".join(self.heads)]
        rows = map(self._line, self.rows)
        return [line for line in (self.caption, *heads, *rows) if line]

    def _line(self, row: Sequence[str]) -> str:
        texts = [cell.striptags() if isinstance(cell, Markup) else cell for cell in row]
        if texts[0] == GAP:
            return GAP
        if not self.row_heads:
            return " · ".join(filter(None, texts))
        heads = self.heads[1:] or [""] * len(texts)
        pairs = zip(heads, texts[1:], strict=False)
        named = [f"{head} {text}".strip() for head, text in pairs if text]
        return f"{texts[0]}: {'; '.join(named)}"


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

    def cell(self, dataset: InteractionDataset, target: int | None = None) -> Markup:
        """The title, or that there is none, and the note; the target is marked."""
        missing = f"✕ does not exist (codes {code_text(self.codes)})"
        text = item_label(list(self.items), dataset) if self.items else missing
        text += f" ← {self.note}" if self.note else ""
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


def item_table(
    rows: Sequence[ListRow], dataset: InteractionDataset, caption: str, target: int | None = None
) -> Table:
    """Rows of a decoded list, the best first, with a mark where ranks are left out.

    Args:
        rows: those to be shown.
        dataset: for the titles.
        caption: plain text.
        target: the item that the user really chose next, to be marked.
    """
    cells = [
        (str(row.rank), row.cell(dataset, target), f"{row.score:.2f}") if row else (GAP, GAP, "")
        for row in _with_gaps(rows)
    ]
    return Table(caption, ("rank", "item", "log p"), cells, numbers=(0, 2))


def _with_gaps(rows: Sequence[ListRow]) -> Iterator[ListRow | None]:
    before = 0
    for row in rows:
        if row.rank > before + 1:
            yield None
        before = row.rank
        yield row
