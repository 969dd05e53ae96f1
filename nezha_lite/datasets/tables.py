"""Any table of the field as one frame: its format, separator and header are recognised."""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fastexcel
import narwhals as nw
import numpy as np
import polars as pl

from nezha_lite.datasets.table_json import columns_of, parsed
from nezha_lite.datasets.table_layout import FileLayout, Format, TableLayout
from nezha_lite.datasets.table_report import Table, TableReport, Unreadable, counted, listed
from nezha_lite.datasets.table_text import Opener, TextFile

_TYPED = re.compile(r"[^\t:]+:(token|float)(_seq)?(\t[^\t:]+:(token|float)(_seq)?)*")
_DATA = re.compile(r"[+-]?\d+([.,:/ -]\d+)*([eE][+-]?\d+)?([T ]\d\d?:\d\d.*)?")
_SHOWN = {"\t": "tabs", " ": "blanks"}
_DAMAGE = (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error)
_DAMAGE_OF_TYPED = (pl.exceptions.PolarsError, fastexcel.FastExcelError)


_OTHER = {b"\x93NUMPY": "a NumPy array", b"\x89PNG": "a picture", b"%PDF": "a PDF"}
_OTHER |= {b"SQLite format 3": "an SQLite database", b"\x89HDF": "an HDF5 file"}
_OTHER |= {b"BZh": "packed by bzip2", b"\xfd7zXZ": "packed by xz", b"ARROW1": "an Arrow file"}
_TABLES = {b"PAR1": "Parquet", b"\xd0\xcf\x11\xe0": "Excel", b"PK\3\4": "zip"}


@contextmanager
def _noted(file: str, layout: FileLayout) -> Iterator[Table]:
    """A new table; what makes it unreadable is noted in it."""
    table = Table(file, layout)
    try:
        yield table
    except Unreadable as stop:
        if stop.args:
            table.error(*stop.args)
    except (*_DAMAGE, *_DAMAGE_OF_TYPED) as error:
        reason = " ".join(str(error).split())
        table.error(f"it is damaged, or of another format than it seems ({reason:.100})")


def read_table(source: Any, name: str, layout: FileLayout) -> Table:
    """Read a file of any format, or a frame of this name; what is wrong is among its problems."""
    if not isinstance(source, str | Path):
        with _noted(name, layout) as table:
            _take(table, _polars(source), "frame")
        return table
    with _noted(str(source), layout) as table:
        kind, open_file = _recognised(Path(source))
        with open_file() as file:
            if kind == "Parquet":
                _take(table, pl.read_parquet(file), kind)
            elif kind == "Excel":
                _take(table, pl.read_excel(file.read(), infer_schema_length=None), kind)
            elif re.match(rb"\s*\[\s*([\[{\r\n]|$)", file.read(99)):
                file.seek(0)
                _take(table, pl.read_json(file.read(), infer_schema_length=None), "a JSON list")
            else:
                _parse(table, TextFile(table, open_file), kind)
    return table


def _recognised(path: Path) -> tuple[str, Opener]:
    """What a file is by its first bytes, and what opens it unpacked."""
    if path.exists() and not path.is_file():
        what = "a folder: name the file in it" if path.is_dir() else "not a regular file: name one"
        raise Unreadable(f"it is {what}")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise Unreadable("there is no such file: name one") from None
    except OSError as error:
        raise Unreadable(f"it cannot be opened ({error.strerror}): name another file") from None
    for mark, name in _OTHER.items():
        if start.startswith(mark):
            raise Unreadable(f"it is {name}: save it as CSV in UTF-8, JSON lines or Parquet")
    if start.startswith(b"\x1f\x8b"):
        return "gzip", partial(gzip.open, path, "rb")
    kind = _TABLES.get(start[:4], "")
    if kind != "zip":
        return kind, partial(path.open, "rb")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "xl/workbook.xml" in names:
        return "Excel", partial(path.open, "rb")
    names = [name for name in names if not name.startswith("__MACOSX") and name[-1:] != "/"]
    if len(names) != 1:
        raise Unreadable(f"it is a zip of {counted(len(names), 'file')}: unpack it, and name one")
    return kind, lambda: zipfile.ZipFile(path).open(names[0])


def quoted_rows(path: Path) -> tuple[list[int], list[list[str]]]:
    """The lines and cells of a CSV file with a header; ValueError for what is wrong with it."""
    with _noted(str(path), TableLayout(separator=",").of(items=False)) as table:
        text = TextFile(table, _recognised(path)[1])
        cells, _, chunks = text.rows()
        rows = pl.concat(text.full_rows(chunks, len(cells)))
    TableReport.of([table]).check()
    return rows["line"].to_list(), rows["cells"].to_list()


def _take(table: Table, frame: pl.DataFrame, kind: str) -> None:
    """The columns of a frame, whose rows have no lines."""
    table.unit = "row"
    known = _find_columns(table, frame.columns)
    first = 2 if kind == "Excel" else 1
    columns = {role: frame[name] for role, name in table.columns.items()}
    table.frame = frame.select(line=pl.int_range(first, frame.height + first), **columns)
    _describe(table, kind + known)


def _polars(frame: Any) -> pl.DataFrame:
    """Any eager frame as one of polars; no library is needed but the frame's own."""
    frame = nw.from_native(frame, eager_only=True)
    if frame.implementation.is_polars():
        return frame.to_native()
    return pl.DataFrame({str(column.name): _series(column) for column in frame.iter_columns()})


def _series(column: Any) -> pl.Series:
    if column.dtype in (nw.Datetime, nw.Date):
        moments = column.cast(nw.Datetime("ns", getattr(column.dtype, "time_zone", None)))
        values = moments.dt.timestamp("ns").to_list()
        return pl.Series(values, dtype=pl.Int64).cast(pl.Datetime("ns"))
    cells = (cell.tolist() if isinstance(cell, np.ndarray) else cell for cell in column.to_list())
    pairs = zip(cells, column.is_null(), strict=True)
    return pl.Series([None if missing else cell for cell, missing in pairs], strict=False)


def _parse(table: Table, text: TextFile, kind: str) -> None:
    """The columns of a text file."""
    start = text.sample[0].lstrip() if text.sample else ""
    if start.startswith("{") and not table.layout.separator:
        entries = [entry for entry in map(parsed, text.sample) if isinstance(entry, dict)]
        names = [*dict.fromkeys(name for entry in entries for name in entry)]
        how, known = "lines of JSON or of Python literals", ""
        if names:
            known = _find_columns(table, names)
        parts: Iterable[pl.DataFrame] = (columns_of(lines, table) for lines in text.lines())
    elif not table.layout.items and table.layout.both.sequences:
        text.quote = "none"
        table.columns = {"user": "1", "history": "2, 3, …"}
        how, known = "one sequence a line, separated by {}", ""
        user, items = pl.col("cells").list.first(), pl.col("cells").list.slice(1)
        parts = (part.select("line", user=user, history=items) for part in text.rows()[2])
    else:
        how, known, parts = _cells(table, text)
    table.frame = pl.concat([*parts])
    how = how.format(_SHOWN.get(text.separator, repr(text.separator)))
    _describe(table, f"{how}, {text.encoding}{known}{kind and f', {kind}'}")


def _cells(table: Table, text: TextFile) -> tuple[str, str, Iterable[pl.DataFrame]]:
    layout, known = table.layout, table.layout.headerless(text.sample[:20])
    typed = bool(text.sample and _TYPED.fullmatch(text.sample[0]))
    if not layout.separator and (known or typed):
        text.separator = known.separator if known else "\t"
    single, quotes = len(text.separator) == 1 and text.separator != " ", text.holds(b'"')
    are_text = known or typed or not single or not quotes
    text.quote = layout.quote or ("none" if are_text else '"')
    if text.quote != "none" and not single:
        raise Unreadable(f"quotes need a separator of one character, not {text.separator!r}")
    if known and known.name.startswith("MovieLens") and not layout.encoding:
        with text.open() as file:
            try:
                file.read().decode()
            except UnicodeDecodeError:
                text.encoding = "latin-1"
    cells, line, chunks = text.rows()
    header = typed or (known is None if layout.header is None else layout.header)
    names = [str(number) for number in range(1, len(cells) + 1)]
    if header:
        names = [cell.strip().split(":")[0] if typed else cell.strip() for cell in cells]
    origin = _find_columns(table, names, line if header else None, known)
    needed = {
        role: pl.col("cells").list.get(names.index(name)) for role, name in table.columns.items()
    }
    parts = [part.select("line", **needed) for part in text.full_rows(chunks, len(names))]
    parts[0] = parts[0][1:] if header else parts[0]
    if not any(part.height for part in parts) and not table.has_errors:
        raise Unreadable("it has no rows below its header: add some")
    how = "text separated by {}" + ", quotes are text" * (quotes and text.quote == "none")
    how += f", with{'' if header else 'out'} a header"
    return how, " (RecBole's typed header)" if typed else origin, parts


def _find_columns(
    table: Table, names: Sequence[str], line: int | None = None, known: Format | None = None
) -> str:
    """Fill in the columns, or refuse; the name of the known format in brackets."""
    layout = table.layout
    present, missing, form = layout.resolve(names, known)
    table.between = layout.both.category_separator or form.between
    if missing and line and layout.header is None and any(map(_DATA.fullmatch, names)):
        numbered = zip(layout.needed, range(1, len(names) + 1), strict=False)
        options = " ".join(f"{layout.option(role)} {number}" for role, number in numbered)
        more = " --file-order" if "time" in layout.needed and len(names) < 3 else ""
        more += "; or --sequences if each line is a user and their items" * (not layout.items)
        what = (
            "looks like data, not like the names of columns: say "
            f"{layout.option('no-header')} and which is which, such as {options}{more}"
        )
        raise Unreadable(what, None, (line, ",".join(names)))
    for role in missing:
        has = f"is missing, the header has {listed(names)}"
        if layout.header is False:
            has = f"is no column, without a header they are called 1 to {len(names)}"
        what = f"{has}: name it by {layout.option(role)}"
        if role == "time":
            what += ", or take the order of the file by --file-order"
        if line and len(names) == 1:
            what += f", or name the separator by {layout.option('separator')}"
        table.error(what, layout.columns[role], (line, None))
    twice = [name for name in {*present.values()} if list(names).count(name) > 1]
    for name in twice:
        table.error("stands twice in the header: rename one", name, (line, None))
    if missing or twice:
        raise Unreadable
    table.columns = present
    return f" ({form.name})" if form.name else ""


def _describe(table: Table, how: str) -> None:
    """Say how the table was read: format, columns and first row."""
    columns = ", ".join(f"{role} from {name!r}" for role, name in table.columns.items())
    first = ", ".join(f"{cell!s:.40}" for row in table.frame[:1].iter_rows() for cell in row[1:])
    shown = filter(None, (how, columns, first and f"first row: {first}"))
    table.reading = f"{table.file}: {'; '.join(shown)}."
