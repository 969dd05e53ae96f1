"""One pass over each table: what can be read is kept, what cannot is noted."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nezha_lite.datasets.csv_rows import csv_rows
from nezha_lite.datasets.item_text import ItemText
from nezha_lite.datasets.table_layout import TableLayout
from nezha_lite.datasets.table_problems import Findings, listed
from nezha_lite.datasets.times import read_time

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
