"""Any table of the field as one frame: its format, separator and header are recognised."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from nezha_lite.datasets.table_files import DAMAGE, Unreadable, frame_of, recognised
from nezha_lite.datasets.table_json import columns_of, json_or_none, parsed
from nezha_lite.datasets.table_layout import FileLayout, TableLayout, headerless
from nezha_lite.datasets.table_problems import Findings, TableReport, listed
from nezha_lite.datasets.table_text import TextFile

_TYPED = re.compile(r"[^\t:]+:(token|float)(_seq)?(\t[^\t:]+:(token|float)(_seq)?)*")
_DATA = re.compile(r"[+-]?\d+([.,:/ -]\d+)*([eE][+-]?\d+)?([T ]\d\d?:\d\d.*)?")


@dataclass
class Table:
    """What was read of a table.

    Attributes:
        findings: its problems so far.
        columns: role → name in the header.
        frame: a row's line, and a column for each role.
        reading: how it was read, for people.
        between: what stands between categories.
    """

    findings: Findings
    columns: dict[str, str] = field(default_factory=dict)
    frame: pl.DataFrame = field(default_factory=pl.DataFrame)
    reading: str = ""
    between: str = ","


def read_table(path: Path, layout: FileLayout, drop: bool, sequences: bool = False) -> Table:
    """Read a file of any format; whatever is wrong with it is in the table's findings.

    Args:
        path: of the file.
        layout: what is said of it.
        drop: whether rows that cannot be read are left out, and remarked on.
        sequences: whether each line is a user and their items.
    """
    table = Table(Findings(str(path), drop=drop))
    try:
        kind, open_file = recognised(path)
        if kind in ("Parquet", "Arrow", "Excel"):
            _read_frame(table, layout, frame_of(kind, open_file), kind)
        else:
            text = TextFile(table.findings, layout, open_file)
            _read_text(table, layout, text, sequences)
            table.reading = table.reading.replace(";", f", {kind};" if kind else ";", 1)
    except Unreadable as stop:
        if stop.args:
            table.findings.error(*stop.args)
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        table.findings.error(f"it is damaged, or of another format than it seems ({reason:.100})")
    return table


def read_frame(frame: pl.DataFrame, name: str, layout: FileLayout, drop: bool) -> Table:
    """A frame as `read_table` reads a file."""
    table = Table(Findings(name, "row", drop))
    try:
        _read_frame(table, layout, frame, "frame")
    except Unreadable as stop:
        if stop.args:
            table.findings.error(*stop.args)
    return table


def quoted_rows(path: Path) -> tuple[list[int], list[list[str]]]:
    """The lines and cells of a CSV file with a header; ValueError for what is wrong with it."""
    findings = Findings(str(path))
    try:
        layout = TableLayout(separator=",").of(items=False)
        text = TextFile(findings, layout, recognised(path)[1])
        cells, _, chunks = text.rows()
        rows = pl.concat(text.full_rows(chunks, len(cells)))
    except Unreadable as stop:
        if stop.args:
            findings.error(*stop.args)
    TableReport(tuple(findings.in_order())).check()
    return rows["line"].to_list(), rows["cells"].to_list()


# ---- columns -------------------------------------------------------------------------------------


def _read_frame(table: Table, layout: FileLayout, frame: pl.DataFrame, kind: str) -> None:
    table.findings.unit = "row"
    known = _find_columns(table, layout, frame.columns, None)
    columns = [pl.col(name).alias(role) for role, name in table.columns.items()]
    first = 2 if kind == "Excel" else 1
    table.frame = frame.select(pl.int_range(first, pl.len() + first).alias("line"), *columns)
    _describe(table, kind, known)


def _find_columns(table: Table, layout: FileLayout, names: Sequence[str], line: int | None) -> str:
    """Fill in the table's columns, or refuse; the name of the known format."""
    present, missing, known, between = layout.resolve(names)
    table.between = layout.between or between
    like_data = line and layout.header is None and any(map(_DATA.fullmatch, names))
    if missing and like_data:
        numbered = zip(layout.needed, range(1, len(names) + 1), strict=False)
        options = " ".join(f"{layout.option(role)} {number}" for role, number in numbered)
        more = " --file-order" if "time" in layout.needed and len(names) < 3 else ""
        more += "; or --sequences if each line is a user and their items" * (not layout.items)
        what = (
            "looks like data, not like the names of columns: say "
            f"{layout.option('no-header')} and which is which, such as {options}{more}"
        )
        raise Unreadable(what, line, None, ",".join(names))
    for role in missing:
        has = f"is missing, the header has {listed(names)}"
        if layout.header is False:
            has = f"is no column, without a header they are called 1 to {len(names)}"
        what = f"{has}: name it by {layout.option(role)}"
        if role == "time":
            what += ", or take the order of the file by --file-order"
        if len(names) == 1:
            what += f", or name the separator by {layout.option('separator')}"
        table.findings.error(what, line, layout.columns[role])
    twice = [name for name in dict.fromkeys(present.values()) if list(names).count(name) > 1]
    for name in twice:
        table.findings.error("stands twice in the header: rename one", line, name)
    if missing or twice:
        raise Unreadable
    table.columns = present
    return known


def _describe(table: Table, how: str, known: str) -> None:
    """Say how the table was read: format, columns and first row."""
    columns = ", ".join(f"{role} from {name!r}" for role, name in table.columns.items())
    cells = (
        f"{cell!s:.40}" for cell in table.frame.drop("line").head(1).rows()[0:1] for cell in cell
    )
    first = f"; first row: {', '.join(cells)}" if table.frame.height else ""
    known = f" ({known})" if known else ""
    table.reading = f"{table.findings.file}: {how}{known}; {columns}{first}."


# ---- text ----------------------------------------------------------------------------------------

_SHOWN = {"\t": "tabs", " ": "blanks"}


def _read_text(table: Table, layout: FileLayout, text: TextFile, sequences: bool) -> None:
    start = text.sample[0].lstrip() if text.sample else ""
    if start.startswith(("{", "[")) and not layout.separator:
        how, known, parts = _read_json(table, layout, text)
    elif sequences:
        how, known, parts = _read_sequences(table, text)
    else:
        how, known, parts = _read_delimited(table, layout, text)
    if parts:
        table.frame = pl.concat(parts)
        _describe(table, f"{how}, {text.encoding}", known)


def _read_json(
    table: Table, layout: FileLayout, text: TextFile
) -> tuple[str, str, list[pl.DataFrame]]:
    entries = [entry for entry in map(parsed, text.sample) if isinstance(entry, dict)]
    names = [*dict.fromkeys(name for entry in entries for name in entry)]
    known = _find_columns(table, layout, names, None) if names else ""
    literals = names and json_or_none(text.sample[0]) is None
    parts = [
        columns_of(chunk, table.columns, table.findings, table.between, not layout.items)
        for chunk in text.lines()
    ]
    return "lines of Python literals" if literals else "JSON lines", known, parts


def _read_sequences(table: Table, text: TextFile) -> tuple[str, str, list[pl.DataFrame]]:
    text.quote = "none"
    table.columns = {"user": "1", "history": "2, 3, …"}
    user = pl.col("cells").list.first().alias("user")
    history = pl.col("cells").list.slice(1).alias("history")
    parts = [part.select("line", user, history) for part in text.rows()[2]]
    return f"one sequence a line, separated by {_separated(text)}", "", parts


def _read_delimited(
    table: Table, layout: FileLayout, text: TextFile
) -> tuple[str, str, list[pl.DataFrame]]:
    known = headerless(layout, text.sample[:20])
    typed = bool(text.sample and _TYPED.fullmatch(text.sample[0]))
    if not layout.separator and (known or typed):
        text.separator = known.separator if known else "\t"
    single = len(text.separator) == 1 and text.separator != " "
    quotes = text.holds(b'"')
    plain = known or typed or not single or not quotes
    text.quote = layout.quote or ("none" if plain else '"')
    if text.quote != "none" and not single:
        raise Unreadable(f"quotes need a separator of one character, not {text.separator!r}")
    if known and known.name.startswith("MovieLens") and not layout.encoding:
        with text.open() as file:
            text.encoding = _utf8_or(file.read(), "latin-1")
    cells, line, chunks = text.rows()
    header = typed or (known is None if layout.header is None else layout.header)
    names = [cell.strip() for cell in cells] if header else [*map(str, range(1, len(cells) + 1))]
    if typed:
        names = [name.rpartition(":")[0] for name in names]
    if known:
        columns = {**known.columns, **layout.renamed}
        layout = layout._replace(columns=columns, needed=[*known.columns])
    origin = _find_columns(table, layout, names, line if header else None)
    if known:
        origin, table.between = known.name, layout.between or known.categories
    needed = [
        pl.col("cells").list.get(names.index(name)).alias(role)
        for role, name in table.columns.items()
    ]
    parts = [part.select("line", *needed) for part in text.full_rows(chunks, len(names))]
    if header:
        parts[0] = parts[0][1:]
    if not any(part.height for part in parts) and not table.findings.has_errors:
        raise Unreadable("it has no rows below its header: add some")
    how = f"text separated by {_separated(text)}"
    how += ", quotes are text" if text.quote == "none" and quotes else ""
    how += ", with a header" if header else ", without a header"
    return how, "RecBole's typed header" if typed else origin, parts


def _separated(text: TextFile) -> str:
    return _SHOWN.get(text.separator, repr(text.separator))


def _utf8_or(content: bytes, other: str) -> str:
    try:
        content.decode()
    except UnicodeDecodeError:
        return other
    return "utf-8"
