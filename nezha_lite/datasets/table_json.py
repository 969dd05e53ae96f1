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
_LISTS = {"categories": pl.List(pl.String), "history": pl.List(pl.String)}


def columns_of(
    lines: pl.DataFrame, columns: Mapping[str, str], findings: Findings, between: str, fast: bool
) -> pl.DataFrame:
    """The columns (role → name) of lines of text; what is no object is noted.

    Args:
        lines: columns line and text.
        columns: which to read.
        findings: where problems are noted.
        between: what stands between categories, where they are one text.
        fast: whether all cells are texts or numbers, as in interactions.
    """
    if fast and columns:
        schema = pl.Struct({name: _LISTS.get(role, pl.String) for role, name in columns.items()})
        # If it does not succeed: line by line, to name the one that is wrong.
        with suppress(pl.exceptions.PolarsError):
            fields = lines["text"].str.json_decode(schema).struct.unnest()
            roles = [pl.col(name).alias(role) for role, name in columns.items()]
            return pl.concat([lines.select("line"), fields.select(roles)], how="horizontal")
    rows, bad = [], []
    for line, text in lines.iter_rows():
        entry = parsed(text)
        if isinstance(entry, dict):
            cells = (_cell(role, entry.get(name), between) for role, name in columns.items())
            rows.append((line, *cells))
        else:
            bad.append((line, text))
    places = pl.DataFrame(bad, {"line": pl.Int64, "value": pl.String}, orient="row")
    findings.rows(places, "is no JSON object: write one on each line")
    types: dict[str, Any] = {
        "line": pl.Int64,
        **{role: _LISTS.get(role, pl.String) for role in columns},
    }
    return pl.DataFrame(rows, types, orient="row")


def _cell(role: str, value: Any, between: str) -> Any:
    if role not in _LISTS:
        return words(value)
    if isinstance(value, str):
        value = tokens(value) if role == "history" else value.split(between)
    return path_of(value)


def parsed(text: str) -> Any:
    """What a line holds, as JSON or as a Python literal (which is never run); None for neither."""
    entry = json_or_none(text)
    if entry is None:
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            return ast.literal_eval(text.strip())
    return entry


def json_or_none(text: str) -> Any:
    """What JSON text holds, or None."""
    with suppress(ValueError, RecursionError):
        return parse_json(text)


def words(value: Any) -> str | None:
    """A cell as text; a list's parts joined; None for nothing."""
    if value is None or value != value:
        return None
    return " ".join(path_of(value)) if isinstance(value, list | tuple) else str(value)


def path_of(value: Any) -> list[str]:
    """The texts in a list, however nested."""
    if isinstance(value, list | tuple):
        return [text for part in value for text in path_of(part)]
    text = words(value)
    return [text] if text else []


def tokens(cell: str) -> list[str]:
    """The names in a cell such as "N1 N2", "['a', 'b']" or "[1, 2]"."""
    return [(part[1:-1] if part[0] in "'\"" else part) for part in _TOKEN.findall(cell)]
