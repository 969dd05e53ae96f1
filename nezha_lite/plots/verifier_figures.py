"""What verifiers cost as the catalogue grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nezha_lite.plots.labelled_lines import Line, Look, labelled_lines_figure
from nezha_lite.plots.style import BLACK, BLUE, GREEN, GREY, PURPLE, VERMILLION, Figure
from nezha_lite.results import ResultRow

STRUCTURES = {
    "isin": Look("torch.isin", BLACK, "longdash", "x"),
    "hash-set": Look("Python set", GREY, "dot", "triangle-down"),
    "sorted": Look("sorted keys", VERMILLION, "dash", "square"),
    "hash-table": Look("hash table", PURPLE, "dashdot", "triangle-up"),
    "bitset": Look("bitset", GREEN, "longdash", "diamond"),
    "trie": Look("trie", BLUE, "solid", "circle"),
}


def verifiers_figure(
    rows: Sequence[ResultRow],
    values: Mapping[tuple[str, int], float],
    y_title: str,
    title: str,
    caption: str,
) -> Figure:
    """A quantity against catalogue size, a line per structure; what was extrapolated is dotted.

    Args:
        rows: of `bench_verifiers`, and of `extrapolate`.
        values: (structure, items) → what is shown; rows without are left out.
        y_title: the quantity, with its unit.
        title: plain text.
        caption: what to see, in a sentence.
    """
    lines = []
    for kind in dict.fromkeys(str(row.verifier) for row in rows):
        own = sorted(
            (row for row in rows if row.verifier == kind), key=lambda row: row.settings["items"]
        )
        own = [row for row in own if (kind, row.settings["items"]) in values]
        measured = [row for row in own if not row.settings.get("extrapolated")]
        sizes = [row.settings["items"] for row in own]
        look = STRUCTURES.get(kind, Look(kind, GREY, "dot", "cross"))
        ys = [values[kind, size] for size in sizes]
        if own:
            lines.append(
                Line(look.name, sizes, ys, look.colour, look.dash, look.symbol, len(measured))
            )
    sizes = sorted({size for line in lines for size in line.xs})
    return labelled_lines_figure(
        lines,
        x_title="items in the catalogue",
        y_title=y_title,
        title=title,
        caption=caption,
        x_ticks=[(size, _size(size)) for size in sizes],
    )


def _size(items: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if items >= size:
            return f"{items / size:g}{letter}"
    return f"{items:g}"
