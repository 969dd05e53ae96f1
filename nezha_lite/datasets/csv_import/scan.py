"""One pass over each table: what can be read is kept, what cannot is noted."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nezha_lite.datasets.csv_import.layout import TableLayout
from nezha_lite.datasets.csv_import.problems import Findings, listed
from nezha_lite.datasets.csv_import.rows import csv_rows
from nezha_lite.datasets.csv_import.timestamps import read_time
from nezha_lite.datasets.item_text import ItemText

_SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_NO_ROWS = "it has no rows below its header: add some"
_EMPTY = "is empty: name one, or delete the row"


def _numbers() -> array[int]:
    return array("q")


@dataclass(frozen=True)
class History:
    """One user's rows in the file's order: times in nanoseconds, items by number, lines."""

    times: array[int] = field(default_factory=_numbers)
    items: array[int] = field(default_factory=_numbers)
    lines: array[int] = field(default_factory=_numbers)

    def __len__(self) -> int:
        return len(self.times)

    def order(self) -> list[int]:
        """Rows by time; those of equal time as in the file."""
        return sorted(range(len(self)), key=self.times.__getitem__)


@dataclass(frozen=True)
class Interactions:
    """What the interactions' readable rows hold.

    Attributes:
        histories: by user.
        item_lines: by item, the first line that names it; items are numbered in this order.
        formats: by the format of times, the first line that has it, and what stands there.
    """

    histories: dict[str, History]
    item_lines: dict[str, int]
    formats: dict[str, tuple[int, str]]

    def __len__(self) -> int:
        return sum(map(len, self.histories.values()))


@dataclass(frozen=True)
class ItemRow:
    """An item's row of the item table."""

    line: int
    text: ItemText


def scan_interactions(path: Path, layout: TableLayout, findings: Findings) -> Interactions:
    """The table of who took what and when."""
    found = Interactions({}, {}, {})
    rows = csv_rows(path, layout.separator, findings)
    columns = _columns(path, rows, layout, (layout.user, layout.item, layout.time), (), findings)
    if columns is None:
        return found
    numbers: dict[str, int] = {}
    for line, cells in rows:
        user, item, time = (cells[columns[name]].strip() for name in columns)
        for name, cell in ((layout.user, user), (layout.item, item)):
            if not cell:
                findings.error(path, _EMPTY, line, name, cell)
        try:
            moment, written = read_time(time)
        except ValueError as error:
            findings.error(path, str(error), line, layout.time, time)
            continue
        if user and item:
            found.formats.setdefault(written, (line, time))
            found.item_lines.setdefault(item, line)
            history = found.histories.setdefault(user, History())
            history.times.append(moment)
            history.items.append(numbers.setdefault(item, len(numbers)))
            history.lines.append(line)
    if not found.histories and not findings.has_errors(path):
        findings.error(path, _NO_ROWS)
    return found


def scan_items(path: Path, layout: TableLayout, findings: Findings) -> dict[str, ItemRow]:
    """The table of items, by name."""
    found: dict[str, ItemRow] = {}
    rows = csv_rows(path, layout.separator, findings)
    texts = tuple(layout.texts.values())
    columns = _columns(path, rows, layout, (layout.item,), texts, findings)
    if columns is None:
        return found
    for line, cells in rows:
        words = {
            key: cells[columns[name]] if name in columns else ""
            for key, name in layout.texts.items()
        }
        parts = [part.strip() for part in words.pop("categories").split(layout.category_separator)]
        text = ItemText(categories=tuple(filter(None, parts)), **words)
        item = cells[columns[layout.item]].strip()
        first = found.setdefault(item, ItemRow(line, text)) if item else None
        if first is None:
            findings.error(path, _EMPTY, line, layout.item, item)
        elif first.text != text:
            what = "has two rows that differ: keep the right one"
            findings.error(path, what, line, layout.item, item)
        elif first.line != line:
            findings.remark(path, "has the same row twice: one is read", line, layout.item, item)
    if not found and not findings.has_errors(path):
        findings.error(path, _NO_ROWS)
    return found


def _columns(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    layout: TableLayout,
    needed: Sequence[str],
    optional: Sequence[str],
    findings: Findings,
) -> dict[str, int] | None:
    """Column → its place, from the header; None where that is missing or wrong, and noted."""
    line, cells = next(rows, (0, []))
    header = [cell.strip() for cell in cells]
    if not header:
        return None
    for other, shown in _SEPARATORS.items():
        if len(header) == 1 and other != layout.separator and other in header[0]:
            what = f"is one cell: is the separator {shown}? Name it as the separator"
            findings.error(path, what, line, value=header[0])
            return None
    missing = [name for name in needed if name not in header]
    if optional:
        missing += [name for name in layout.renamed_texts() if name not in header]
        if not missing and not set(optional) & set(header):
            missing = [layout.title]
    known = [name for name in (*needed, *optional) if name in header]
    twice = [name for name in known if header.count(name) > 1]
    for name in missing:
        here = f"is missing, the header has {listed(header)}"
        findings.error(path, f"{here}: rename one, or say which of them it is", line, name)
    for name in twice:
        findings.error(path, "stands twice in the header: rename one", line, name)
    return None if missing or twice else {name: header.index(name) for name in known}


LONG_HISTORY = 10_000
_SHORT = "has fewer than 3 interactions: these are read, but neither trained nor evaluated on"
_LONG = f"has {LONG_HISTORY:,} interactions or more: make sure it is a person, not a robot"
_AGAIN = "is a repetition of this user's item and time: it is kept, delete it if it is a slip"
_TIES = "has interactions of equal time: they are kept in the order of the file"


def remark_on_interactions(
    path: Path, found: Interactions, layout: TableLayout, findings: Findings
) -> None:
    """Short and long histories, repeated rows, and times that do not order what they should."""
    earliest = min(min(history.times) for history in found.histories.values())
    latest = max(max(history.times) for history in found.histories.values())
    one_moment = earliest == latest and len(found) > 1
    (first, (first_line, first_value)), *others = found.formats.items()
    if one_moment:
        what = "is the time of every row: the order of the file is taken for the order of time"
        findings.remark(path, what, first_line, layout.time, first_value)
    for written, (line, value) in others:
        what = f"is {written}, line {first_line} has {first}: both are put on one clock"
        findings.remark(path, what, line, layout.time, value)
    names = list(found.item_lines)
    for user, history in found.histories.items():
        if len(history) < 3:
            findings.remark(path, _SHORT, history.lines[0], layout.user, user)
        if len(history) >= LONG_HISTORY:
            findings.remark(path, _LONG, history.lines[0], layout.user, user)
        seen: set[tuple[int, int]] = set()
        for moment, item, line in zip(history.times, history.items, history.lines, strict=True):
            if (moment, item) in seen:
                findings.remark(path, _AGAIN, line, layout.item, names[item])
            seen.add((moment, item))
        if len({moment for moment, _ in seen}) < len(seen) and not one_moment:
            findings.remark(path, _TIES, history.lines[0], layout.user, user)


def remark_on_items(
    interactions: Path,
    taken: Mapping[str, int],
    items: Path,
    rows: Mapping[str, ItemRow],
    layout: TableLayout,
    findings: Findings,
) -> None:
    """Items that only one of the tables names; `taken` is by item the first line that names it."""
    for item, line in taken.items():
        if item not in rows:
            what = "is not in the item table: it is read without a text"
            findings.remark(interactions, what, line, layout.item, item)
    for item, row in rows.items():
        if item not in taken:
            what = "is in no interaction: it can be recommended, but nobody is known to take it"
            findings.remark(items, what, row.line, layout.item, item)
