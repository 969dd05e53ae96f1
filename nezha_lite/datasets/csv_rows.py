"""A CSV file row by row, and the problems in it: problems of one kind are counted together."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

# Memory is bounded by a line, so a line is bounded: a file without line ends is not a table.
LONGEST_LINE = 2**20
_BAD_BYTE = re.compile("[\udc80-\udcff]")  # as "surrogateescape" decodes one
_UTF16 = ("\udcff\udcfe", "\udcfe\udcff")  # its byte order marks, decoded so
_PLACES = 5  # of each kind of problem, the first places are stored
_Kind = tuple[bool, str, str | None, str]  # the first four fields of a Problem
_Place = tuple[int | None, str | None]  # line and value


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth knowing, with the first places where it occurs.

    Attributes:
        is_error: the tables cannot be read; otherwise they can, and this is a remark.
        file: as it was named.
        column: its name in the header, or None where the problem is not about one column.
        what: what is wrong and what would be valid, to be read after the value.
        places: line (None for the whole file) and value (None if there is none to show) of the
            first few.
        count: how many places there are in all.
    """

    is_error: bool
    file: str
    column: str | None
    what: str
    places: tuple[_Place, ...]
    count: int

    @property
    def line(self) -> int | None:
        """The first line that has it."""
        return self.places[0][0]

    @property
    def value(self) -> str | None:
        """The value in that line."""
        return self.places[0][1]

    def sentence(self) -> str:
        """File, line, column and value of the first place, and what would be valid."""
        line = "" if self.line is None else f", line {self.line}"
        column = "" if self.column is None else f", column {self.column!r}"
        value = "" if self.value is None else f"{_shown(self.value)} "
        return f"{self.file}{line}{column}: {value}{self.what}"

    def __str__(self) -> str:
        others = [
            f"line {line}" if value is None else f"line {line} ({_shown(value)})"
            for line, value in self.places[1:]
        ]
        if more := self.count - len(self.places):
            others.append(f"{more:,} more")
        return f"{self.sentence()}." + (f" Also {', '.join(others)}." if others else "")


@dataclass(frozen=True)
class TableReport:
    """The problems of the tables; `str` makes a list of them.

    Attributes:
        problems: errors and remarks, each in the order of their first places.
        users, items, interactions: how many the readable rows hold.
    """

    problems: tuple[Problem, ...]
    users: int
    items: int
    interactions: int

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems that must be corrected before the tables can be read."""
        return tuple(problem for problem in self.problems if problem.is_error)

    @property
    def remarks(self) -> tuple[Problem, ...]:
        """Problems that do not prevent reading."""
        return tuple(problem for problem in self.problems if not problem.is_error)

    def __str__(self) -> str:
        lines = [
            f"Readable: {_counted(self.interactions, 'interaction')}, "
            f"{_counted(self.users, 'user')}, {_counted(self.items, 'item')}."
        ]
        for title, problems in (
            ("Errors, to be mended before the tables can be read:", self.errors),
            ("Remarks, which do not hinder reading:", self.remarks),
        ):
            if problems:
                lines += [title, *(f"- {problem}" for problem in problems)]
        return "\n".join(lines if self.problems else [*lines, "Nothing is wrong."])

    def check(self) -> None:
        """Raise ValueError with the first error in one sentence, and the number of others."""
        if errors := self.errors:
            more = sum(problem.count for problem in errors) - 1
            rest = f" (and {_counted(more, 'more error')}, listed by check_tables)" if more else ""
            raise ValueError(f"{errors[0].sentence()}{rest}.")


class Findings:
    """Collects problems while tables are read; memory does not grow with their number."""

    def __init__(self) -> None:
        self._places: dict[_Kind, list[_Place]] = {}
        self._counts: Counter[_Kind] = Counter()

    def error(
        self,
        file: Path,
        what: str,
        line: int | None = None,
        column: str | None = None,
        value: str | None = None,
        is_error: bool = True,
    ) -> None:
        """Note a problem that prevents reading, or a remark; see `Problem` for the arguments."""
        kind = (is_error, str(file), column, what)
        self._counts[kind] += 1
        if self._counts[kind] <= _PLACES:
            self._places.setdefault(kind, []).append((line, value))

    def remark(self, file: Path, what: str, line: int, column: str, value: str) -> None:
        """Note something that does not prevent reading."""
        self.error(file, what, line, column, value, is_error=False)

    def has_errors(self, file: Path) -> bool:
        """Whether this file has an error."""
        return any(is_error and name == str(file) for is_error, name, *_ in self._places)

    def report(self, users: int = 0, items: int = 0, interactions: int = 0) -> TableReport:
        """Everything noted so far."""
        problems = [
            Problem(*kind, tuple(places), self._counts[kind])
            for kind, places in self._places.items()
        ]
        return TableReport(tuple(problems), users, items, interactions)


def listed(names: Sequence[str]) -> str:
    """Names as 'a', 'b' and 'c', shortened where they are many or long."""
    shown = [_shown(name) for name in names[:8]]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown):,} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _shown(value: str) -> str:
    return repr(value) if len(value) <= 60 else f"{value[:60]!r}…"


# ---- rows ----------------------------------------------------------------------------------------


class _UnreadableLineError(Exception):
    """A line cannot be part of a table; the message says why."""


def csv_rows(path: Path, separator: str, findings: Findings) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each row begins, and its cells; the first row is the header.

    Rows without any content are skipped. Rows that cannot be read, or have another number of cells
    than the header, are noted as errors and left out. UTF-8, with or without a byte order mark.
    """
    if path.is_dir():
        findings.error(path, "it is a folder: name the CSV file in it")
        return
    try:
        file = path.open(encoding="utf-8", errors="surrogateescape", newline="")
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
            except _UnreadableLineError as error:
                findings.error(path, str(error), reader.line_num + 1)
                return
            except csv.Error as error:
                findings.error(path, _explanation(error), line)
                continue
            if not any(cell.strip() for cell in cells):
                continue
            if any("\0" in cell for cell in cells):
                remedy = "save the table as UTF-8 text (UTF-16 looks like this)"
                findings.error(path, f"it holds a NUL byte: {remedy}", line)
                continue
            width = width or len(cells)
            if len(cells) != width:
                has = f"has {_counted(len(cells), 'cell')}, but the header has {width}"
                remedy = f'quote cells that contain "{separator}", and leave unknown ones empty'
                findings.error(path, f"{has}: {remedy}", line, value=separator.join(cells))
                continue
            yield line, cells
    if not width:
        findings.error(path, "it holds no header: write the names of the columns on line 1")


def _lines(file: TextIO) -> Iterator[str]:
    position = 0  # in bytes
    while line := file.readline(LONGEST_LINE):
        if bad := _BAD_BYTE.search(line):
            utf16 = position == 0 and line.startswith(_UTF16)
            raise _UnreadableLineError(
                f"byte 0x{ord(bad[0]) - 0xDC00:02x} at position "
                f"{position + len(line[: bad.start()].encode()):,} (counted from 0) is not UTF-8"
                f"{', the file looks like UTF-16' * utf16}: save the table as UTF-8, in a "
                "spreadsheet 'CSV UTF-8'"
            )
        if len(line) == LONGEST_LINE and not line.endswith(("\n", "\r")):
            raise _UnreadableLineError(
                f"it has more than {LONGEST_LINE:,} characters: write one row on a line, as UTF-8 "
                "text"
            )
        yield line if position else line.removeprefix("\ufeff")
        position += len(line.encode())


def _explanation(error: csv.Error) -> str:
    """The csv module's error in the words of a table's author."""
    if "field limit" in str(error):
        many = f"a cell has more than {csv.field_size_limit():,} characters"
        return f"{many}: shorten it, or close the quote that opens it"
    if "unexpected end" in str(error):
        remedy = 'close it, or write "" for a quote in a cell'
        return f"a quote is opened here and never closed: {remedy}"
    return 'a quoted cell goes on after its end: write "" for a quote inside it'
