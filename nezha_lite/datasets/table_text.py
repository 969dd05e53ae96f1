"""The lines and cells of a text file; a line that is no text, or no row, is a problem."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

import polars as pl

from nezha_lite.datasets.table_files import Opener, Unreadable
from nezha_lite.datasets.table_layout import FileLayout
from nezha_lite.datasets.table_problems import Findings

LONGEST_LINE = 2**20  # a file without line ends is not a table
_BLOCK = 2**25
_ROWS = 200_000  # quoted rows that are read at a time
_BAD = re.compile("[\udc80-\udcff\0]")  # a byte as "surrogateescape" decodes it, or NUL
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class TextFile:
    """Text that is read in blocks of whole lines, so that a problem can be named by its line.

    Attributes:
        sample: its first lines, without blank ones.
        encoding: by its layout or byte order mark; else UTF-8.
        separator: between cells.
        quote: around cells, or "none".
    """

    def __init__(self, findings: Findings, layout: FileLayout, open_file: Opener) -> None:
        self.findings, self.layout, self.open = findings, layout, open_file
        self._cut = False  # whether reading stopped before the file's end
        with self.open() as file:
            sample = file.read(2**16)
        mark = next((name for start, name in _MARKS.items() if sample.startswith(start)), "utf-8")
        self.encoding = layout.encoding or mark
        text = sample.decode(self.encoding, "replace").removeprefix("\ufeff")
        lines = [line for line in re.split("\r\n|\r|\n", text) if line.strip()]
        self.sample = lines[: -1 if len(sample) == 2**16 and len(lines) > 1 else None][:100]
        self.separator, self.quote = layout.separator or _separator(self.sample[:20]), '"'

    def _blocks(self) -> Iterator[str]:
        """Whole lines; ends with a problem where a byte or a line is no text."""
        line = 1
        with (
            self.open() as raw,
            io.TextIOWrapper(raw, self.encoding, errors="surrogateescape", newline="") as file,
        ):
            while text := file.read(_BLOCK):
                text += file.readline(LONGEST_LINE)
                bad = _BAD.search(text) if "\0" in text or not text.isascii() else None
                if bad:
                    text = re.sub(r"[^\r\n]*\Z", "", text[: bad.start()])
                yield text.removeprefix("\ufeff") if line == 1 else text
                line += text.count("\n") + text.count("\r") - text.count("\r\n")
                if bad:
                    name, code = self.layout.option("encoding"), ord(bad[0])
                    what = f"byte 0x{code - 0xDC00:02x} is not {self.encoding.upper()}"
                    if not code:
                        what = "it holds a NUL byte, which no text does (UTF-16 looks like this)"
                    what += f": save the table as UTF-8, or name its encoding, such as {name} "
                    self.findings.error(what + ("cp1252" if code else "utf-16-le"), line)
                    self._cut = True
                    return

    def lines(self, blank: str = "") -> Iterator[pl.DataFrame]:
        """Columns line and text, without lines that hold nothing but spaces and `blank`."""
        first = 1
        for text in self._blocks():
            if "\r" in text:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            lines = pl.Series("text", [text.removesuffix("\n")]).str.split("\n").explode()
            frame = lines.to_frame().with_row_index("line", first)
            frame = frame.with_columns(pl.col("line").cast(pl.Int64))
            first += frame.height
            short = pl.col("text").str.len_bytes() < LONGEST_LINE
            what = f"it has {LONGEST_LINE:,} characters or more: write one row on a line, as text"
            self.findings.rows(frame.filter(~short).select("line", value=pl.lit(None)), what)
            filled = pl.col("text").str.contains(rf"[^\s{re.escape(blank.strip())}]")
            yield frame.filter(short & filled)

    def rows(self) -> tuple[list[str], int, Iterator[pl.DataFrame]]:
        """The first row that is not blank, its line, and all rows as the columns line and cells.

        Cells are a list of texts. Raises Unreadable if there is no row.
        """
        chunks = self._quoted()
        if self.quote == "none":
            text = pl.col("text").str
            cells = (
                text.extract_all(r"\S+") if self.separator == " " else text.split(self.separator)
            )
            chunks = (
                lines.select("line", cells=cells) for lines in self.lines(blank=self.separator)
            )
        chunks = (chunk for chunk in chunks if chunk.height)
        top = next(chunks, None)
        if top is None:
            no_header = "it holds no header: write the names of the columns on line 1"
            raise Unreadable(*[] if self.findings.has_errors else [no_header])
        line, first = top.row(0)
        return first, line, chain([top], chunks)

    def _quoted(self) -> Iterator[pl.DataFrame]:
        lines = chain.from_iterable(io.StringIO(text, newline="") for text in self._blocks())
        reader = csv.reader(lines, delimiter=self.separator, quotechar=self.quote, strict=True)
        rows: list[tuple[int, str]] = []  # cells joined by NUL, which no text holds
        width = 0
        ended = False
        while not ended:
            line, cells = reader.line_num + 1, []
            try:
                cells = next(reader)
            except StopIteration:
                ended = True
            except csv.Error as error:
                if self._cut and line > 1 and "unexpected end" in str(error):
                    ended = True  # the rest of the cell is behind the problem
                else:
                    place = pl.DataFrame({"line": [line], "value": [None]})
                    self.findings.rows(place, self._explanation(error))
            if reader.line_num > line and not self.layout.quote:
                self._check_rows_in_cell(line, cells, width)
            if any(map(str.strip, cells)):
                rows.append((line, "\0".join(cells)))
                width = width or len(cells)
            if ended or len(rows) == _ROWS:
                chunk = pl.DataFrame(rows, {"line": pl.Int64, "cells": pl.String}, orient="row")
                yield chunk.with_columns(pl.col("cells").str.split("\0"))
                rows = []

    def _check_rows_in_cell(self, line: int, cells: list[str], width: int) -> None:
        """Refuse a cell that has whole rows in it: its quote is probably text."""
        for index, cell in enumerate(cells):
            head, *inner = cell.split("\n")[:-1] or [""]
            counts = [line.count(self.separator) for line in inner]
            if (0 < head.count(self.separator) == width - 1 - index) or width - 1 in counts:
                name = self.layout.option("quote")
                raise Unreadable(
                    f"a quote is opened here, and closed after lines that look like rows: say "
                    f"{name} none if quotes are text, or {name} '\"' if this is one cell",
                    line,
                )

    def _explanation(self, error: csv.Error) -> str:
        """The csv module's error in the words of a table's author."""
        none = f"{self.layout.option('quote')} none if quotes are text"
        if "field limit" in str(error):
            many = f"a cell has more than {csv.field_size_limit():,} characters"
            return f"{many}: shorten it, or close the quote that opens it"
        if "unexpected end" in str(error):
            remedy = f'close it, write "" for a quote in a cell, or say {none}'
            return f"a quote is opened here and never closed: {remedy}"
        return f'a quoted cell goes on after its end: write "" for a quote inside it, or say {none}'

    def full_rows(self, chunks: Iterable[pl.DataFrame], width: int) -> Iterator[pl.DataFrame]:
        """The rows of this many cells; the others are noted."""
        cells, bad = pl.col("cells"), []
        for chunk in chunks:
            wrong = chunk["cells"].list.len() != width
            bad += [chunk.filter(wrong)] if wrong.any() else []
            yield chunk.filter(~wrong) if wrong.any() else chunk
        if bad:
            remedy = f'quote cells that contain "{self.separator}", and leave unknown ones empty'
            plural = pl.when(cells.list.len() == 1).then(pl.lit("")).otherwise(pl.lit("s"))
            text = f"has {{}} cell{{}}, but the header has {width}: {remedy}"
            value, what = cells.list.join(self.separator), pl.format(text, cells.list.len(), plural)
            self.findings.rows(pl.concat(bad).select("line", value=value, what=what))

    def holds(self, byte: bytes) -> bool:
        """Whether the file has this byte anywhere."""
        with self.open() as file:
            return any(byte in block for block in iter(partial(file.read, _BLOCK), b""))


def _separator(lines: Sequence[str]) -> str:
    for separator in ("::", "\t"):
        if lines and all(separator in line for line in lines):
            return separator
    first = lines[0].strip() if lines else ""
    most = max(",;|", key=first.count)
    return most if most in first or " " not in first else " "
