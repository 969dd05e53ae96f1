"""Lines of JSON objects, or of Python literals, as the columns of a table."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import polars as pl

from nezha_lite.common.files import parse_json
from nezha_lite.datasets.table_problems import Findings

_TOKEN = re.compile(r"""'[^']*'|"[^"]*"|[^\s,|;\[\]()'"]+""")


def columns_of(lines: pl.DataFrame, columns: Mapping[str, str], findings: Findings) -> pl.DataFrame:
    """The columns (role → name) of lines of text; what is no object is noted.

    Args:
        lines: columns line and text.
        columns: which to read.
        findings: where problems are noted.
    """
    lists = dict.fromkeys(("history", "categories"), pl.List(pl.String))
    types: dict[str, Any] = {role: lists.get(role, pl.String) for role in columns}
    if "user" in columns:  # all cells are texts or numbers
        # If it does not succeed: line by line, to name the one that is wrong.
        with suppress(pl.exceptions.PolarsError):
            schema = pl.Struct({name: types[role] for role, name in columns.items()})
            fields = lines["text"].str.json_decode(schema).struct.unnest()
            roles = [fields[name].alias(role) for role, name in columns.items()]
            return lines.select("line", *roles)
    rows, bad = [], []
    for line, text in lines.iter_rows():
        entry = parsed(text)
        if isinstance(entry, dict):
            cells = ((role, entry.get(name)) for role, name in columns.items())
            rows.append(
                (line, *(listed_in(cell) if role in lists else words(cell) for role, cell in cells))
            )
        else:
            bad.append((line, text))
    places = pl.DataFrame(bad, {"line": pl.Int64, "value": pl.String}, orient="row")
    findings.rows(places, "is no JSON object: write one on each line")
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
    text = words(value)
    return [text] if text else []


def tokens(cell: str) -> list[str]:
    """The names in a cell such as "N1 N2", "['a', 'b']" or "[1, 2]"."""
    return [(part[1:-1] if part[0] in "'\"" else part) for part in _TOKEN.findall(cell)]
