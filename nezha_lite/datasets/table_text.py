"""The lines and cells of a text file; a line that is no text, or no row, is a problem."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

import polars as pl

from nezha_lite.datasets.table_report import Table, Unreadable

Opener = Callable[[], Any]  # a binary file
LONGEST_LINE = 2**20  # a file without line ends is not a table
_BLOCK = 2**25
_ROWS = 200_000  # quoted rows that are read at a time
_BAD = re.compile("[\udc80-\udcff\0]")  # a byte as "surrogateescape" decodes it, or NUL
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_NONE = "{quote} none if quotes are text"
# Errors of the csv module, by words in them, for the author of a table.
_QUOTES = {
    "field limit": "a cell has more than {limit:,} characters: shorten it, or close the quote that "
    "opens it",
    "unexpected end": 'a quote is opened here and never closed: close it, write "" for a quote in '
    f"a cell, or say {_NONE}",
    "": f'a quoted cell goes on after its end: write "" for a quote inside it, or say {_NONE}',
    "rows": "a quote is opened here, and closed after lines that look like rows: say "
    f"{_NONE}, or {{quote}} '\"' if this is one cell",
}


class TextFile:
    """Text that is read in blocks of whole lines, so that a problem can be named by its line.

    Attributes:
        sample: its first lines, without blank ones.
        encoding: by its layout or byte order mark; else UTF-8.
        separator: between cells.
        quote: around cells, or "none".
    """

    def __init__(self, table: Table, open_file: Opener) -> None:
        self.table, self.open = table, open_file
        self._cut = False  # whether reading stopped before the file's end
        with self.open() as file:
            sample = file.read(2**16)
        mark = next((name for start, name in _MARKS.items() if sample.startswith(start)), "utf-8")
        self.encoding = table.layout.encoding or mark
        text = sample.decode(self.encoding, "replace").removeprefix("\ufeff")
        lines = [line for line in re.split("\r\n|\r|\n", text) if line.strip()]
        self.sample = lines[: -1 if len(sample) == 2**16 and len(lines) > 1 else None][:100]
        self.separator, self.quote = table.layout.separator or _separator(self.sample[:20]), '"'

    def _blocks(self) -> Iterator[str]:
        """Whole lines; ends with a problem where a byte or a line is no text."""
        line = 1
        with (
            self.open() as raw,
            io.TextIOWrapper(raw, self.encoding, errors="surrogateescape", newline="") as file,
        ):
            while not self._cut and (text := file.read(_BLOCK)):
                text += file.readline(LONGEST_LINE)
                bad = _BAD.search(text) if "\0" in text or not text.isascii() else None
                if bad:
                    text = re.sub(r"[^\r\n]*\Z", "", text[: bad.start()])
                yield text.removeprefix("\ufeff") if line == 1 else text
                line += text.count("\n") + text.count("\r") - text.count("\r\n")
                if bad:
                    self._cut, code = True, ord(bad[0]) - 0xDC00
                    what, example = f"byte 0x{code:02x} is not {self.encoding.upper()}", "cp1252"
                    if code < 0:
                        what = "it holds a NUL byte, which no text does (UTF-16 looks like this)"
                        example = "utf-16-le"
                    name = f"name its encoding, such as {self.table.layout.option('encoding')}"
                    what += f": save the table as UTF-8, or {name} {example}"
                    self.table.error(what, place=(line, None))

    def lines(self, blank: str = "") -> Iterator[pl.DataFrame]:
        """Columns line and text, without lines that hold nothing but spaces and `blank`."""
        first = 1
        for text in self._blocks():
            if "\r" in text:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            lines = pl.Series("text", [text.removesuffix("\n")]).str.split("\n").explode()
            frame = lines.to_frame().with_columns(line=pl.int_range(first, first + len(lines)))
            first += len(lines)
            short = pl.col("text").str.len_bytes() < LONGEST_LINE
            what = f"it has {LONGEST_LINE:,} characters or more: write one row on a line, as text"
            self.table.rows(frame.filter(~short).select("line", value=pl.lit(None)), what)
            filled = pl.col("text").str.contains(rf"[^\s{re.escape(blank.strip())}]")
            yield frame.filter(short & filled)

    def rows(self) -> tuple[list[str], int, Iterator[pl.DataFrame]]:
        """The first row that is not blank, its line, and all rows as the columns line and cells.

        Cells are a list of texts. Raises Unreadable if there is no row.
        """
        chunks = self._quoted()
        if self.quote == "none":
            text, blanks = pl.col("text").str, self.separator == " "
            cells = text.extract_all(r"\S+") if blanks else text.split(self.separator)
            lines = self.lines(blank=self.separator)
            chunks = (chunk.select("line", cells=cells) for chunk in lines)
        chunks = (chunk for chunk in chunks if chunk.height)
        top = next(chunks, None)
        if top is None:
            no_header = "it holds no header: write the names of the columns on line 1"
            raise Unreadable(*[] if self.table.has_errors else [no_header])
        line, first = top.row(0)
        return first, line, chain([top], chunks)

    def _quoted(self) -> Iterator[pl.DataFrame]:
        rows = self._csv_rows()
        while chunk := list(islice(rows, _ROWS)):
            frame = pl.DataFrame(chunk, {"line": pl.Int64, "cells": pl.String}, orient="row")
            yield frame.with_columns(pl.col("cells").str.split("\0"))

    def _csv_rows(self) -> Iterator[tuple[int, str]]:
        """Lines, and cells joined by NUL, which no text holds."""
        lines = chain.from_iterable(io.StringIO(text, newline="") for text in self._blocks())
        reader = csv.reader(lines, delimiter=self.separator, quotechar=self.quote, strict=True)
        width = 0
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if self._cut and line > 1 and "unexpected end" in str(error):
                    return  # the rest of the cell is behind the problem
                kind = next(words for words in _QUOTES if words in str(error))
                place = pl.DataFrame({"line": [line], "value": [None]})
                self.table.rows(place, self._on_quotes(kind))
                continue
            several = reader.line_num > line and not self.table.layout.quote
            if several and self._has_rows(cells, width):
                raise Unreadable(self._on_quotes("rows"), None, (line, None))
            if any(map(str.strip, cells)):
                yield line, "\0".join(cells)
                width = width or len(cells)

    def _has_rows(self, cells: list[str], width: int) -> bool:
        """Whether a cell has whole rows in it: its quote is probably text."""
        for index, cell in enumerate(cells):
            lines = cell.split("\n")[:-1] or [""]
            first, *others = (line.count(self.separator) for line in lines)
            if 0 < first == width - 1 - index or width - 1 in others:
                return True
        return False

    def _on_quotes(self, kind: str) -> str:
        option = self.table.layout.option("quote")
        return _QUOTES[kind].format(limit=csv.field_size_limit(), quote=option)

    def full_rows(self, chunks: Iterable[pl.DataFrame], width: int) -> Iterator[pl.DataFrame]:
        """The rows of this many cells; the others are noted."""
        cells, bad = pl.col("cells"), []
        for chunk in chunks:
            wrong = chunk["cells"].list.len() != width
            bad.append(chunk.filter(wrong))
            yield chunk.filter(~wrong) if wrong.any() else chunk
        remedy = f'quote cells that contain "{self.separator}", and leave unknown ones empty'
        plural = pl.when(cells.list.len() == 1).then(pl.lit("")).otherwise(pl.lit("s"))
        text = f"has {{}} cell{{}}, but the header has {width}: {remedy}"
        value, what = cells.list.join(self.separator), pl.format(text, cells.list.len(), plural)
        self.table.rows(pl.concat(bad).select("line", value=value, what=what), None)

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
