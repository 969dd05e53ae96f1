"""Your own data: a CSV of interactions, and a CSV of the items."""

from __future__ import annotations

from pathlib import Path

from nezha_lite.datasets.csv_import.layout import TableLayout
from nezha_lite.datasets.csv_import.problems import Findings, TableReport
from nezha_lite.datasets.csv_import.scan import (
    Interactions,
    ItemRow,
    remark_on_interactions,
    remark_on_items,
    scan_interactions,
    scan_items,
)
from nezha_lite.datasets.dataset import InteractionDataset
from nezha_lite.datasets.item_text import ItemText
from nezha_lite.datasets.json_folder import in_order


def read_tables(
    interactions: str | Path,
    items: str | Path | None = None,
    layout: TableLayout | None = None,
    name: str | None = None,
) -> InteractionDataset:
    """A data set from two CSV tables, or from the interactions alone.

    A user's rows are put in order of time; rows of equal time keep the file's order, and repeated
    rows are kept. Users and items are in numeric order where all their names are decimal integers,
    else in alphabetical order. Blanks around names and times do not count.

    Args:
        interactions: columns user, item and time; others are passed over. A time is a number, unix
            seconds or milliseconds, or ISO 8601.
        items: columns item and one or more of title, brand, categories, description.
        layout: what your columns are called.
        name: of the data set; by default the interactions file's.

    Raises:
        ValueError: for the first error that `check_tables` lists, and saying how many more.
    """
    report, taken, rows = _scan(interactions, items, layout)
    report.check()
    users, catalogue = in_order(taken.histories), in_order({*taken.item_lines, *rows})
    index = {item: row for row, item in enumerate(catalogue)}
    row_of = [index[item] for item in taken.item_lines]
    sequences = []
    for user in users:
        history = taken.histories[user]
        sequences.append(tuple(row_of[history.items[place]] for place in history.order()))
    texts = tuple(rows[item].text if item in rows else ItemText("") for item in catalogue)
    return InteractionDataset(
        name=name or Path(interactions).stem,
        items=tuple(catalogue),
        users=tuple(users),
        sequences=tuple(sequences),
        texts=None if items is None else texts,
    )


def check_tables(
    interactions: str | Path, items: str | Path | None = None, layout: TableLayout | None = None
) -> TableReport:
    """All errors for which `read_tables` would refuse these tables, and what is worth knowing.

    Remarks are made on tables without errors only: half a table would be remarked on wrongly. See
    `read_tables` for the arguments.
    """
    return _scan(interactions, items, layout)[0]


def _scan(
    interactions: str | Path, items: str | Path | None, layout: TableLayout | None
) -> tuple[TableReport, Interactions, dict[str, ItemRow]]:
    path, layout, findings = Path(interactions), layout or TableLayout(), Findings()
    taken = scan_interactions(path, layout, findings)
    rows: dict[str, ItemRow] = {}
    if items is not None:
        rows = scan_items(Path(items), layout, findings)
    if not findings.has_errors(path):
        remark_on_interactions(path, taken, layout, findings)
        if items is not None and not findings.has_errors(Path(items)):
            remark_on_items(path, taken.item_lines, Path(items), rows, layout, findings)
    catalogue = len(taken.item_lines.keys() | rows.keys())
    return findings.report(len(taken.histories), catalogue, len(taken)), taken, rows
