"""A decoded list as a reader sees it: places, titles, and the places wasted on nothing."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import DecodeResult
from nezha_lite.plots.beam_figures import item_label
from nezha_lite.semantic_ids import SemanticIds

CELL = 'style="padding:2px 12px 2px 0;text-align:left;vertical-align:top"'
NUMBER = 'style="padding:2px 12px 2px 0;text-align:right;font-variant-numeric:tabular-nums"'


@dataclass(frozen=True)
class ListRow:
    """One filled place of the list.

    Attributes:
        place: from 1.
        codes: its semantic ID.
        score: its log-probability.
        items: those that carry the ID; empty for a hallucination.
    """

    place: int
    codes: tuple[int, ...]
    score: float
    items: tuple[int, ...]

    def text(self, dataset: InteractionDataset) -> str:
        """The title, or that there is none, in plain text."""
        if self.items:
            return item_label(list(self.items), dataset)
        return f"✕ does not exist (codes {'-'.join(map(str, self.codes))})"


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
    lines, before = [], 0
    for row in rows:
        if row.place > before + 1:
            lines.append(f"<tr><td {NUMBER}>⋮</td><td {CELL}>⋮</td><td></td></tr>")
        before = row.place
        text = html.escape(row.text(dataset))
        if not row.items:
            text = f'<span style="color:#C04A00;font-weight:600">{text}</span>'
        if target is not None and target in row.items:
            text += " <b>★ chosen next</b>"
        lines.append(
            f"<tr><td {NUMBER}>{row.place}</td><td {CELL}>{text}</td>"
            f"<td {NUMBER}>{row.score:.2f}</td></tr>"
        )
    heads = zip(("place", "item", "log-probability"), (NUMBER, CELL, NUMBER), strict=True)
    head = "".join(f'<th scope="col" {style}>{name}</th>' for name, style in heads)
    return (
        f'<table style="line-height:1.4"><caption style="text-align:left;padding-bottom:4px">'
        f"{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


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
