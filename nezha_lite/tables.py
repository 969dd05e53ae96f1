"""Result files as Markdown tables, so that nobody types a number.

A README holds marked blocks, and `python -m nezha_lite.tables README.md` fills them in:

    <!-- table quality-beauty-small.json: decoder, beam, recall@10 -->
    …
    <!-- end table -->
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nezha_lite.results import ResultRow, read_results

RESULTS = Path("data") / "results"
_BLOCK = re.compile(r"(<!-- table (\S+): (.+?) -->\n).*?(<!-- end table -->)", re.DOTALL)


def markdown_table(rows: Sequence[ResultRow], columns: Sequence[str]) -> str:
    """One line per row; a column is a metric, a field of the row, or a setting, looked for so.

    Raises ValueError for a column that no row has.
    """
    for column in columns:
        if all(_cell(row, column) is None for row in rows):
            raise ValueError(f"No row has {column!r} as metric, field or setting.")
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_text(_cell(row, column)) for column in columns) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def filled_in(text: str, results: Path) -> str:
    """The text with every marked block remade from the files in the folder `results`."""

    def remade(block: re.Match[str]) -> str:
        columns = [column.strip() for column in block[3].split(",")]
        return block[1] + markdown_table(read_results(results / block[2]), columns) + block[4]

    return _BLOCK.sub(remade, text)


def _cell(row: ResultRow, column: str) -> Any:
    if column in row.metrics:
        return row.metrics[column]
    if hasattr(row, column):
        return getattr(row, column)
    return row.settings.get(column)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
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
        path.write_text(filled_in(text, path.resolve().parent / RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
