"""What is wrong with a table, and where: problems of one kind are counted together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PLACES_KEPT = 5
_Kind = tuple[bool, str, str | None, str]  # the first four fields of a Problem


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth knowing, with the first places where it is.

    Attributes:
        is_error: the tables cannot be read; otherwise they can, and this is a remark.
        file: as it was named.
        column: the header's word for it, or None where it is not about one column.
        what: what is wrong and what would be valid, to be read after the value.
        places: line (None for the whole file) and value (None if there is none to show) of the
            first few.
        count: how many places there are in all.
    """

    is_error: bool
    file: str
    column: str | None
    what: str
    places: tuple[tuple[int | None, str | None], ...]
    count: int

    @property
    def line(self) -> int | None:
        """The first line that has it."""
        return self.places[0][0]

    @property
    def value(self) -> str | None:
        """What stands there."""
        return self.places[0][1]

    def sentence(self) -> str:
        """File, line, column and value of the first place, and what would be valid."""
        place = self.file
        if self.line is not None:
            place += f", line {self.line}"
        if self.column is not None:
            place += f", column {self.column!r}"
        value = "" if self.value is None else f"{_shown(self.value)} "
        return f"{place}: {value}{self.what}"

    def __str__(self) -> str:
        if self.count == 1:
            return f"{self.sentence()}."
        others = [_other(line, value) for line, value in self.places[1:]]
        if left := self.count - len(self.places):
            others.append(f"{left:,} more")
        return f"{self.sentence()}. Also {', '.join(others)}."


@dataclass(frozen=True)
class TableReport:
    """What was found in the tables; `str` makes a list of it.

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
        """What must be mended before the tables can be read."""
        return tuple(problem for problem in self.problems if problem.is_error)

    @property
    def remarks(self) -> tuple[Problem, ...]:
        """What does not hinder reading."""
        return tuple(problem for problem in self.problems if not problem.is_error)

    def __str__(self) -> str:
        facts = (
            _counted(self.interactions, "interaction"),
            _counted(self.users, "user"),
            _counted(self.items, "item"),
        )
        lines = [f"Readable: {', '.join(facts)}."]
        for title, problems in (
            ("Errors, to be mended before the tables can be read:", self.errors),
            ("Remarks, which do not hinder reading:", self.remarks),
        ):
            if problems:
                lines += [title, *(f"- {problem}" for problem in problems)]
        return "\n".join(lines if self.problems else [*lines, "Nothing is wrong."])

    def check(self) -> None:
        """ValueError with the first error in one sentence, and how many more there are."""
        errors = self.errors
        if errors:
            more = sum(problem.count for problem in errors) - 1
            rest = f" (and {_counted(more, 'more error')}, listed by check_tables)" if more else ""
            raise ValueError(f"{errors[0].sentence()}{rest}.")


class Findings:
    """Collects problems while tables are read; memory does not grow with their number."""

    def __init__(self) -> None:
        self._places: dict[_Kind, list[tuple[int | None, str | None]]] = {}
        self._counts: Counter[_Kind] = Counter()

    def error(
        self,
        file: Path,
        what: str,
        line: int | None = None,
        column: str | None = None,
        value: str | None = None,
    ) -> None:
        """Note something without which the tables cannot be read; see `Problem`."""
        self._note(True, file, what, line, column, value)

    def remark(
        self,
        file: Path,
        what: str,
        line: int | None = None,
        column: str | None = None,
        value: str | None = None,
    ) -> None:
        """Note something that does not hinder reading; see `Problem`."""
        self._note(False, file, what, line, column, value)

    def has_errors(self, file: Path) -> bool:
        """Whether an error was noted in this file."""
        return any(is_error and name == str(file) for is_error, name, *_ in self._places)

    def report(self, users: int, items: int, interactions: int) -> TableReport:
        """Everything noted so far."""
        problems = [
            Problem(*kind, tuple(places), self._counts[kind])
            for kind, places in self._places.items()
        ]
        return TableReport(tuple(problems), users, items, interactions)

    def _note(
        self,
        is_error: bool,
        file: Path,
        what: str,
        line: int | None,
        column: str | None,
        value: str | None,
    ) -> None:
        kind = (is_error, str(file), column, what)
        self._counts[kind] += 1
        if self._counts[kind] <= _PLACES_KEPT:
            self._places.setdefault(kind, []).append((line, value))


def listed(names: Sequence[str]) -> str:
    """'a', 'b' and 'c', cut short where they are many or long."""
    shown = [_shown(name) for name in names[:8]]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown):,} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _shown(value: str) -> str:
    return repr(value) if len(value) <= 60 else f"{value[:60]!r}…"


def _other(line: int | None, value: str | None) -> str:
    shown = "" if value is None else f" ({_shown(value)})"
    return f"line {line}{shown}"
