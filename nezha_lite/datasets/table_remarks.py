"""What does not hinder reading a table, but is worth knowing before one trains on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nezha_lite.datasets.table_layout import TableLayout
from nezha_lite.datasets.table_problems import Findings
from nezha_lite.datasets.table_scan import Interactions, ItemRow

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
