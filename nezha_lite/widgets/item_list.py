"""A decoded list as a reader sees it: places, titles, and the places wasted on nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import DecodeResult
from nezha_lite.plots.beam_figures import item_label
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets.html_table import MISSING, html_table

CHOSEN = Markup(" <b>★ chosen next</b>")


@dataclass(frozen=True)
class ListRow:
    """One filled place of the list.

    Attributes:
        place: from 1.
        codes: its semantic ID.
        score: its log-probability.
        items: those that carry the ID; empty for a hallucination.
        note: what else is to be said of it, in plain text.
    """

    place: int
    codes: tuple[int, ...]
    score: float
    items: tuple[int, ...]
    note: str = ""

    def text(self, dataset: InteractionDataset) -> str:
        """The title, or that there is none, and the note, in plain text."""
        missing = f"✕ does not exist (codes {'-'.join(map(str, self.codes))})"
        text = item_label(list(self.items), dataset) if self.items else missing
        return f"{text} ← {self.note}" if self.note else text


def list_rows(
    result: DecodeResult, row: int, semantic_ids: SemanticIds, popularity: Sequence[int]
) -> list[ListRow]:
    """The filled places of one prompt's list, best first; items sharing an ID by popularity."""
    keys, scores = result.keys[row].cpu(), result.scores[row].tolist()
    codes = semantic_ids.codes_of(keys.clamp_min(0)).tolist()
    return [
        ListRow(
            place,
            tuple(digits),
            score,
            tuple(sorted(semantic_ids.items_of(key), key=lambda item: -popularity[item])),
        )
        for place, (key, score, digits) in enumerate(
            zip(keys.tolist(), scores, codes, strict=True), start=1
        )
        if key >= 0
    ]


def selected_rows(rows: list[ListRow], best: int, hallucinations: int) -> list[ListRow]:
    """The best places, and further down the first places that name no item."""
    further = [row for row in rows[best:] if not row.items]
    return rows[:best] + further[:hallucinations]


def list_html(
    rows: list[ListRow], dataset: InteractionDataset, caption: str, target: int | None = None
) -> str:
    """An HTML table of the rows; every text of the data set is escaped.

    Args:
        rows: what to show; a gap between their places is marked.
        dataset: for the titles.
        caption: plain text.
        target: the item that the user really chose next, to be marked.
    """
    cells: list[tuple[str, str, str]] = []
    before = 0
    for row in rows:
        if row.place > before + 1:
            cells.append(("⋮", "⋮", ""))
        before = row.place
        cells.append((str(row.place), item_cell(row, dataset, target), f"{row.score:.2f}"))
    return html_table(caption, ("place", "item", "log-probability"), cells, numbers=(0, 2))


def item_cell(row: ListRow, dataset: InteractionDataset, target: int | None = None) -> Markup:
    """A row's title; what does not exist stands out, and what was really chosen is marked."""
    text = row.text(dataset)
    if not row.items:
        return MISSING.format(text)
    return escape(text) + (CHOSEN if target in row.items else "")


def list_lines(
    rows: list[ListRow], dataset: InteractionDataset, caption: str, target: int | None = None
) -> list[str]:
    """The same table as lines of plain text, for the static form."""
    lines, before = [caption], 0
    for row in rows:
        if row.place > before + 1:
            lines.append("⋮")
        before = row.place
        mark = " ★ chosen next" if target is not None and target in row.items else ""
        lines.append(f"{row.place}. {row.text(dataset)}  ({row.score:.2f}){mark}")
    return lines
