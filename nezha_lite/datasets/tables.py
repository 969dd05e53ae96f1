"""Any table of the field as one frame: its format, separator and header are recognised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from nezha_lite.datasets.table_files import Unreadable, noted, recognised
from nezha_lite.datasets.table_json import columns_of, parsed
from nezha_lite.datasets.table_layout import FileLayout, Format, TableLayout
from nezha_lite.datasets.table_problems import Findings, TableReport, listed
from nezha_lite.datasets.table_text import TextFile

_TYPED = re.compile(r"[^\t:]+:(token|float)(_seq)?(\t[^\t:]+:(token|float)(_seq)?)*")
_DATA = re.compile(r"[+-]?\d+([.,:/ -]\d+)*([eE][+-]?\d+)?([T ]\d\d?:\d\d.*)?")
_SHOWN = {"\t": "tabs", " ": "blanks"}


@dataclass
class Table:
    """What was read of a table.

    Attributes:
        findings: its problems so far.
        layout: what is said of it.
        columns: role → name in the header.
        frame: a row's line, and a column for each role.
        reading: how it was read, for people.
        between: what stands between categories.
    """

    findings: Findings
    layout: FileLayout
    columns: dict[str, str] = field(default_factory=dict)
    frame: pl.DataFrame = field(default_factory=pl.DataFrame)
    reading: str = ""
    between: str = ","

    def _find_columns(
        self, names: Sequence[str], line: int | None = None, known: Format | None = None
    ) -> str:
        """Fill in the columns, or refuse; the name of the known format in brackets."""
        layout = self.layout
        present, missing, form = layout.resolve(names, known)
        self.between = layout.both.category_separator or form.between
        if missing and line and layout.header is None and any(map(_DATA.fullmatch, names)):
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
            if line and len(names) == 1:
                what += f", or name the separator by {layout.option('separator')}"
            self.findings.error(what, line, layout.columns[role])
        twice = [name for name in {*present.values()} if list(names).count(name) > 1]
        for name in twice:
            self.findings.error("stands twice in the header: rename one", line, name)
        if missing or twice:
            raise Unreadable
        self.columns = present
        return f" ({form.name})" if form.name else ""

    def take(self, frame: pl.DataFrame, kind: str) -> None:
        """The columns of a frame, whose rows have no lines."""
        self.findings.unit = "row"
        known = self._find_columns(frame.columns)
        first = 2 if kind == "Excel" else 1
        columns = (frame[name].alias(role) for role, name in self.columns.items())
        row = pl.int_range(first, frame.height + first, eager=True).alias("line")
        self.frame = pl.DataFrame([row, *columns])
        self._describe(kind + known)

    def _describe(self, how: str) -> None:
        """Say how the table was read: format, columns and first row."""
        columns = ", ".join(f"{role} from {name!r}" for role, name in self.columns.items())
        first = [f"{cell!s:.40}" for row in self.frame[:1].iter_rows() for cell in row[1:]]
        shown = f"; first row: {', '.join(first)}" if first else ""
        self.reading = f"{self.findings.file}: {how}; {columns}{shown}."

    def parse(self, text: TextFile, kind: str) -> None:
        """The columns of a text file."""
        start = text.sample[0].lstrip() if text.sample else ""
        if start.startswith("{") and not self.layout.separator:
            how, known, parts = self._json(text)
        elif not self.layout.items and self.layout.both.sequences:
            text.quote = "none"
            self.columns = {"user": "1", "history": "2, 3, …"}
            how, known = "one sequence a line, separated by {}", ""
            user, items = pl.col("cells").list.first(), pl.col("cells").list.slice(1)
            parts = (part.select("line", user=user, history=items) for part in text.rows()[2])
        else:
            how, known, parts = self._cells(text)
        self.frame = pl.concat([*parts])
        how = how.format(_SHOWN.get(text.separator, repr(text.separator)))
        self._describe(f"{how}, {text.encoding}{known}{kind and f', {kind}'}")

    def _json(self, text: TextFile) -> tuple[str, str, Iterable[pl.DataFrame]]:
        entries = [entry for entry in map(parsed, text.sample) if isinstance(entry, dict)]
        names = [*dict.fromkeys(name for entry in entries for name in entry)]
        known = self._find_columns(names) if names else ""
        parts = (columns_of(lines, self.columns, self.findings) for lines in text.lines())
        return "lines of JSON or of Python literals", known, parts

    def _cells(self, text: TextFile) -> tuple[str, str, Iterable[pl.DataFrame]]:
        layout, known = self.layout, self.layout.headerless(text.sample[:20])
        typed = bool(text.sample and _TYPED.fullmatch(text.sample[0]))
        if not layout.separator and (known or typed):
            text.separator = known.separator if known else "\t"
        single = len(text.separator) == 1 and text.separator != " "
        quotes = text.holds(b'"')
        text.quote = layout.quote or '"'
        if not layout.quote and (known or typed or not single or not quotes):
            text.quote = "none"
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
            names = [
                cell.strip().rpartition(":" * typed)[0] if typed else cell.strip() for cell in cells
            ]
        origin = self._find_columns(names, line if header else None, known)
        needed = {
            role: pl.col("cells").list.get(names.index(name)) for role, name in self.columns.items()
        }
        parts = [part.select("line", **needed) for part in text.full_rows(chunks, len(names))]
        parts[0] = parts[0][1:] if header else parts[0]
        if not any(part.height for part in parts) and not self.findings.has_errors:
            raise Unreadable("it has no rows below its header: add some")
        how = "text separated by {}" + ", quotes are text" * (quotes and text.quote == "none")
        how += ", with a header" if header else ", without a header"
        return how, " (RecBole's typed header)" if typed else origin, parts


def read_table(path: Path, layout: FileLayout) -> Table:
    """Read a file of any format; whatever is wrong with it is in the table's findings."""
    table = Table(Findings(str(path), drop=layout.both.drop_bad_rows), layout)
    with noted(table.findings):
        kind, open_file = recognised(path)
        with open_file() as file:
            if kind == "Parquet":
                table.take(pl.read_parquet(file), kind)
            elif kind == "Excel":
                table.take(pl.read_excel(file.read(), infer_schema_length=None), kind)
            elif re.match(rb"\s*\[\s*([\[{\r\n]|$)", file.read(99)):
                file.seek(0)
                table.take(pl.read_json(file.read(), infer_schema_length=None), "a JSON list")
            else:
                table.parse(TextFile(table.findings, layout, open_file), kind)
    return table


def read_frame(frame: pl.DataFrame, name: str, layout: FileLayout) -> Table:
    """A frame as `read_table` reads a file."""
    table = Table(Findings(name, drop=layout.both.drop_bad_rows), layout)
    with noted(table.findings):
        table.take(frame, "frame")
    return table


def quoted_rows(path: Path) -> tuple[list[int], list[list[str]]]:
    """The lines and cells of a CSV file with a header; ValueError for what is wrong with it."""
    findings = Findings(str(path))
    with noted(findings):
        text = TextFile(findings, TableLayout(separator=",").of(items=False), recognised(path)[1])
        cells, _, chunks = text.rows()
        rows = pl.concat(text.full_rows(chunks, len(cells)))
    TableReport(tuple(findings.in_order())).check()
    return rows["line"].to_list(), rows["cells"].to_list()
