"""What is read of a table, and what is wrong with it: problems of one kind are counted together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import polars as pl

from nezha_lite.datasets.table_layout import FileLayout

Place = tuple[int | None, str | None]  # line and value
NOWHERE: Place = (None, None)
_PLACES = 5  # of each kind of problem, the first places are stored


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
        unit: what a place is called: "line", or "row" where a file has no lines.
    """

    is_error: bool
    file: str
    column: str | None
    what: str
    places: tuple[Place, ...]
    count: int = 1
    unit: str = "line"

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
        line = "" if self.line is None else f", {self.unit} {self.line}"
        column = "" if self.column is None else f", column {self.column!r}"
        value = "" if self.value is None else f"{_shown(self.value)} "
        return f"{self.file}{line}{column}: {value}{self.what}"

    def __str__(self) -> str:
        others = [
            f"{self.unit} {line}" if value is None else f"{self.unit} {line} ({_shown(value)})"
            for line, value in self.places[1:]
        ]
        if more := self.count - len(self.places):
            others.append(f"{more:,} more")
        return f"{self.sentence()}." + (f" Also {', '.join(others)}." if others else "")


@dataclass(frozen=True)
class TableReport:
    """How the tables were read, and their problems; `str` makes a list of them.

    Attributes:
        problems: errors and remarks: of the file as a whole, then by their first lines.
        users, items, interactions: how many the readable rows hold.
        readings: for each table, its format, encoding and columns, and its first row.
    """

    problems: tuple[Problem, ...]
    users: int = 0
    items: int = 0
    interactions: int = 0
    readings: tuple[str, ...] = ()

    @classmethod
    def of(cls, tables: Iterable[Table], users: int = 0, items: int = 0, rows: int = 0) -> Self:
        """The report on tables, of which so many users, items and interactions are readable."""
        tables = [*tables]
        problems = (sorted(table.problems, key=lambda each: each.line or 0) for table in tables)
        readings = tuple(table.reading for table in tables if table.reading)
        return cls(tuple(chain.from_iterable(problems)), users, items, rows, readings)

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
            *self.readings,
            f"Readable: {counted(self.interactions, 'interaction')}, "
            f"{counted(self.users, 'user')}, {counted(self.items, 'item')}.",
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
            rest = f" (and {counted(more, 'more error')}, listed by check_tables)" if more else ""
            raise ValueError(f"{errors[0].sentence()}{rest}.")


class Unreadable(Exception):
    """A table cannot be read at all; the arguments are those of `Table.error`."""


class Table:
    """What was read of a table, and what is wrong with it.

    Attributes:
        file: as it was named.
        layout: what is said of it.
        unit: what a place in it is called.
        columns: role → name in the header.
        frame: a row's line, and a column for each role.
        reading: how it was read, for people.
        between: what stands between categories.
        problems: found so far.
    """

    def __init__(self, file: str, layout: FileLayout) -> None:
        self.file, self.layout = file, layout
        self.unit, self.reading, self.between = "line", "", ","
        self.columns: dict[str, str] = {}
        self.frame = pl.DataFrame()
        self.problems: list[Problem] = []

    def error(
        self, what: str, column: str | None = None, place: Place = NOWHERE, is_error: bool = True
    ) -> None:
        """Note one problem; see `Problem` for the arguments."""
        self.problems.append(Problem(is_error, self.file, column, what, (place,), 1, self.unit))

    def rows(
        self, bad: pl.DataFrame, what: str | None, role: str = "", is_error: bool = True
    ) -> None:
        """Note rows with the columns line, value and, if they differ, what; of one kind together.

        Errors become remarks where the layout says to drop such rows.
        """
        bad = bad if what is None else bad.with_columns(what=pl.lit(what))
        dropped = is_error and self.layout.both.drop_bad_rows
        column, is_error = self.columns.get(role), is_error and not dropped
        for (kind,), group in bad.group_by("what", maintain_order=True):
            kind = f"{kind}. The row is dropped" if dropped else str(kind)
            first = group.select("line", "value").bottom_k(_PLACES, by="line").sort("line").rows()
            problem = (is_error, self.file, column, kind, tuple(first), group.height, self.unit)
            self.problems.append(Problem(*problem))

    @property
    def has_errors(self) -> bool:
        """Whether anything prevents reading."""
        return any(problem.is_error for problem in self.problems)


def listed(names: Sequence[str]) -> str:
    """Names as 'a', 'b' and 'c', shortened where they are many or long."""
    shown = [_shown(name) for name in names[:8]]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown):,} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it needs one."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _shown(value: str) -> str:
    return repr(value) if len(value) <= 60 else f"{value[:60]!r}…"
