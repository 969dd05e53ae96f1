"""A CSV file row by row, with what cannot be read said by line and remedy."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from nezha_lite.datasets.csv_import.problems import Findings

# Memory is bounded by a line, so a line is bounded: a file without line ends is no table.
LONGEST_LINE = 2**20
_CHUNK = 2**16


class _LineTooLongError(Exception):
    """A line has more than LONGEST_LINE characters."""


def csv_rows(path: Path, separator: str, findings: Findings) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row begins, and its cells; the first one is the header.

    Rows without any content are passed over. Rows that cannot be read, or have not as many cells
    as the header, are noted as errors and left out. UTF-8, with or without a byte order mark.
    """
    if path.is_dir():
        findings.error(path, "it is a folder: name the CSV file in it")
        return
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        findings.error(path, "there is no such file: name a CSV file")
        return
    except OSError as error:
        findings.error(path, f"it cannot be opened ({error.strerror}): name a CSV file")
        return
    width = 0
    with file:
        reader = csv.reader(_lines(file), delimiter=separator, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                break
            except UnicodeDecodeError:
                _note_bad_byte(path, findings)
                return
            except _LineTooLongError:
                much = f"it has more than {LONGEST_LINE:,} characters"
                findings.error(path, f"{much}: write one row on a line, as UTF-8 text", line)
                return
            except csv.Error as error:
                findings.error(path, _meaning(error), line)
                continue
            if not any(cell.strip() for cell in cells):
                continue
            if any("\0" in cell for cell in cells):
                remedy = "save the table as UTF-8 text (UTF-16 looks like this)"
                findings.error(path, f"it holds a NUL byte: {remedy}", line)
                continue
            width = width or len(cells)
            if len(cells) != width:
                number = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
                remedy = f'quote cells that contain "{separator}", and leave unknown ones empty'
                what = f"has {number}, but the header has {width}: {remedy}"
                findings.error(path, what, line, value=separator.join(cells))
                continue
            yield line, cells
    if not width:
        findings.error(path, "it holds no header: write the names of the columns on line 1")


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith(("\n", "\r")):
            raise _LineTooLongError
        yield line


def _meaning(error: csv.Error) -> str:
    """What the csv module's error says, as a reader of the table would put it."""
    if "field limit" in str(error):
        many = f"a cell has more than {csv.field_size_limit():,} characters"
        return f"{many}: shorten it, or close the quote that opens it"
    if "unexpected end" in str(error):
        return (
            'a quote is opened here and never closed: close it, or write "" for a quote in a cell'
        )
    return 'a quoted cell goes on after its end: write "" for a quote inside it'


def _note_bad_byte(path: Path, findings: Findings) -> None:
    """Where the file stops being UTF-8, found in a pass of its own: text files tell no place."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    read, lines = 0, 1
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        while True:
            chunk = file.read(_CHUNK)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                place = read - (len(error.object) - len(chunk)) + error.start
                lines += error.object[: error.start].count(b"\n")
                byte = error.object[error.start]
                what = f"byte 0x{byte:02x} at position {place:,} (counted from 0) is not UTF-8"
                if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                    what += ", the file looks like UTF-16"
                remedy = "save the table as UTF-8, in a spreadsheet 'CSV UTF-8'"
                findings.error(path, f"{what}: {remedy}", lines)
                return
            if not chunk:  # somebody has mended the file meanwhile
                findings.error(path, "it changed while it was read: read it again")
                return
            read += len(chunk)
            lines += chunk.count(b"\n")
