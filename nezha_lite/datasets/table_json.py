"""Lines of JSON objects, or of Python literals, as the columns of a table."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from typing import Any

import polars as pl

from nezha_lite.common.files import parse_json
from nezha_lite.datasets.table_report import Table

_TOKEN = re.compile(r"""'[^']*'|"[^"]*"|[^\s,|;\[\]()'"]+""")
_LISTS = ("history", "categories")


def columns_of(lines: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The table's columns in lines of text (columns line and text); what is no object is noted."""
    types: dict[str, Any] = dict.fromkeys(table.columns, pl.String)
    types |= {role: pl.List(pl.String) for role in _LISTS if role in types}
    if "user" in types:  # all cells are texts or numbers
        # If it does not succeed: line by line, to name the one that is wrong.
        with suppress(pl.exceptions.PolarsError):
            schema = pl.Struct({name: types[role] for role, name in table.columns.items()})
            fields = lines["text"].str.json_decode(schema).struct.unnest()
            columns = {role: fields[name] for role, name in table.columns.items()}
            return lines.select("line", **columns)
    rows, bad = [], []
    for line, text in lines.select("line", "text").iter_rows():
        entry = parsed(text)
        if isinstance(entry, dict):
            cells = [(role, entry.get(name)) for role, name in table.columns.items()]
            rows.append((line, *((listed_in if r in _LISTS else words)(cell) for r, cell in cells)))
        else:
            bad.append((line, text))
    places = pl.DataFrame(bad, {"line": pl.Int64, "value": pl.String}, orient="row")
    table.rows(places, "is no JSON object: write one on each line")
    return pl.DataFrame(rows, {"line": pl.Int64, **types}, orient="row")


def parsed(text: str) -> Any:
    """What a line holds, as JSON or as a Python literal (which is never run); None for neither."""
    with suppress(ValueError, RecursionError):
        return parse_json(text)
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        return ast.literal_eval(text.strip())


def words(value: Any) -> str | None:
    """A cell as text; a list's parts joined; None for nothing."""
    if value is None or value != value:
        return None
    return " ".join(listed_in(value)) if isinstance(value, list | tuple) else str(value)


def listed_in(value: Any) -> list[str]:
    """The texts in a list, however nested."""
    if isinstance(value, list | tuple):
        return [text for part in value for text in listed_in(part)]
    return [text] if (text := words(value)) else []


def tokens(cell: str) -> list[str]:
    """The names in a cell such as "N1 N2", "['a', 'b']" or "[1, 2]"."""
    return [(part[1:-1] if part[0] in "'\"" else part) for part in _TOKEN.findall(cell)]
