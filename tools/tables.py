"""Result files as Markdown tables, so that no number is typed by hand.

A page holds marked blocks, and `python tools/tables.py README.md docs/results/*.md` fills them in:

    <!-- table quality-beauty-small.json: decoder, beam, recall@10 -->
    …
    <!-- end table -->

`toy.json where verifier=off, beam=10: …` keeps the rows of which all of that is true.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nezha_lite.bench.decoders import forward_ratio
from nezha_lite.common.results import ResultRow, read_results

RESULTS = Path(__file__).resolve().parents[1] / "data" / "results"
_BLOCK = re.compile(
    r"(<!-- table (\S+?)(?: where ([^:\n]+))?: (.+?) -->\n).*?(<!-- end table -->)", re.DOTALL
)


def markdown_table(rows: Sequence[ResultRow], columns: Sequence[str]) -> str:
    """One line per row; a column is a metric, a field, a setting or a fact of the model.

    They are looked for in this order; "ratio" and "forward" are derived (`forward_ratio`): the
    median over the forward pass of the same kind, and that kind, captured or eager;
    "training.seconds" is `seconds` in the setting `training`.
    Where a metric was measured with several seeds, its standard deviation follows a ±.

    Raises ValueError for a column that no row has.
    """
    for column in columns:
        if all(_cell(row, column) is None for row in rows):
            raise ValueError(f"No row has {column!r} as metric, field or setting.")
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell_text(row, column) for column in columns) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def filled_in(text: str, results: Path) -> str:
    """The text with every marked block remade from the files in the folder `results`."""

    def remade(block: re.Match[str]) -> str:
        mark, name, conditions, columns, end = block.groups()
        rows = read_results(results / name)
        for condition in conditions.split(", ") if conditions else ():
            field, _, value = condition.partition("=")
            rows = [row for row in rows if str(_cell(row, field)) == value]
        return mark + markdown_table(rows, [column.strip() for column in columns.split(",")]) + end

    if text.count("<!-- table ") != text.count("<!-- end table -->"):
        raise ValueError("A table's mark has no end mark, or the other way round.")
    return _BLOCK.sub(remade, text)


def _cell(row: ResultRow, column: str) -> Any:
    if column in ("ratio", "forward"):
        return forward_ratio(row)[column == "forward"]
    if column in row.metrics:
        return row.metrics[column]
    if hasattr(row, column):
        return getattr(row, column)
    for place in (row.settings, row.model):
        value: Any = place
        for name in column.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def _cell_text(row: ResultRow, column: str) -> str:
    spread = f" ± {_text(row.std[column])}" if row.std.get(column) else ""
    return _text(_cell(row, column)) + spread


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    if isinstance(value, float):
        if value == round(value, 1) and value < 1000:
            return f"{value:g}"
        return (
            f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" if value >= 1 else f"{value:.4f}"
        )
    return f"{value}"


def main() -> None:
    """Fill in the marked tables of the named files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        text = path.read_text(encoding="utf-8")
        path.write_text(filled_in(text, RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
