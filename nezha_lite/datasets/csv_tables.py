"""Your own data: a CSV table of interactions, and one of the items."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from nezha_lite.common.checks import check
from nezha_lite.datasets.csv_rows import Findings, TableReport, csv_rows, listed
from nezha_lite.datasets.dataset import InteractionDataset
from nezha_lite.datasets.item_text import ItemText
from nezha_lite.datasets.json_folder import in_order
from nezha_lite.datasets.sequences import Sequences


@dataclass(frozen=True)
class TableLayout:
    """What the tables' columns are called, and how cells are separated.

    Attributes:
        user, item, time: columns of the interactions; the item table has a column `item`, too.
        title, brand, categories, description: columns of the item table. One of the four must
            exist, and each one with another name than here.
        separator: between cells: one character, such as ";" or a tab.
        category_separator: between the categories in their one cell.

    Raises:
        ValueError: for an impossible separator, and a name that is empty or used twice.
    """

    user: str = "user"
    item: str = "item"
    time: str = "time"
    title: str = "title"
    brand: str = "brand"
    categories: str = "categories"
    description: str = "description"
    separator: str = ","
    category_separator: str = ","

    def __post_init__(self) -> None:
        one = len(self.separator) == 1 and self.separator not in '"\r\n\0 '
        check(one, "separator", self.separator, "one character, such as ',' or ';'")
        separator = self.category_separator
        check(bool(separator), "category_separator", separator, "a text such as ',' or '|'")
        for names in ((self.user, self.item, self.time), (self.item, *self.texts.values())):
            if not all(names) or len(set(names)) < len(names):
                raise ValueError(
                    f"The columns of a table are named {', '.join(map(repr, names))}, but each "
                    "needs a name of its own."
                )

    @property
    def texts(self) -> dict[str, str]:
        """Field of `ItemText` → its column."""
        return {key: getattr(self, key) for key in ("title", "brand", "categories", "description")}


def read_tables(
    interactions: str | Path,
    items: str | Path | None = None,
    layout: TableLayout | None = None,
    name: str | None = None,
) -> InteractionDataset:
    """Read a data set from two CSV tables, or from the interactions alone.

    A user's rows are put in order of time; rows of equal time keep the file's order, and repeated
    rows are kept. Users and items are in numeric order where all their names are decimal integers,
    else in alphabetical order. Blanks around names and times do not count.

    Args:
        interactions: columns user, item and time; others are ignored. All times are written alike:
            numbers, unix seconds or milliseconds, or ISO 8601.
        items: columns item and one or more of title, brand, categories, description.
        layout: what your columns are called.
        name: of the data set; by default the interactions file's.

    Raises:
        ValueError: for the first error that `check_tables` lists, with the number of others.
    """
    report, rows, texts = _scan(interactions, items, layout)
    report.check()
    users, catalogue = in_order(rows.histories), in_order({*rows.item_lines, *texts})
    index = {item: position for position, item in enumerate(catalogue)}
    indices = [index[item] for item in rows.item_lines]
    sequences, times = [], []
    for user in users:
        history = rows.histories[user]
        by_time = sorted(range(len(history.times)), key=history.times.__getitem__)
        sequences.append([indices[history.items[row]] for row in by_time])
        times.append(sorted(history.times))
    no_text = (0, ItemText(""))
    return InteractionDataset(
        name=name or Path(interactions).stem,
        items=tuple(catalogue),
        users=tuple(users),
        sequences=Sequences.of(sequences),
        texts=None if items is None else tuple(texts.get(item, no_text)[1] for item in catalogue),
        times=Sequences.of(times),
    )


def check_tables(
    interactions: str | Path, items: str | Path | None = None, layout: TableLayout | None = None
) -> TableReport:
    """List all errors for which `read_tables` would refuse these tables, and remarks.

    Remarks are made on tables without errors only: half a table would be remarked on wrongly. See
    `read_tables` for the arguments.
    """
    return _scan(interactions, items, layout)[0]


# ---- times ---------------------------------------------------------------------------------------

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,30})?")
_EXPONENT = re.compile(r"[+-]?[0-9]+([.,][0-9]*)?[eE][+-]?[0-9]+")
_DATES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by their digits
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIMIT = 2**63
# Below this size (in its own unit) a number is taken for that unit. A present-day time has 10
# digits in seconds and three more in each finer unit, so that units cannot be confused after 1973.
_UNITS = (
    (10**11, 10**9, "unix seconds"),
    (10**14, 10**6, "unix milliseconds"),
    (10**17, 10**3, "unix microseconds"),
    (10**20, 1, "unix nanoseconds"),
)
VALID = "write unix seconds or milliseconds, or ISO 8601 such as 2024-01-31T18:05"


def read_time(text: str) -> tuple[int, str]:
    """Nanoseconds since 1970 in UTC, and the format's name.

    A number is unix time, in seconds below 10^11, in milliseconds below 10^14, and so on; anything
    else is ISO 8601, in UTC where it names no zone. A number that can also be read as a date of
    the years 1900 to 2099 is refused.

    Raises:
        ValueError: saying what would be valid, to be read after the value.
    """
    if _EXPONENT.fullmatch(text):
        remedy = "give the column the format of whole numbers before saving it"
        raise ValueError(f"is a time that a spreadsheet has rounded: {remedy}")
    if _NUMBER.fullmatch(text):
        number = Decimal(text)
        for below, nanoseconds, unit in _UNITS:
            if abs(number) < below:
                if _reads_as_date(text):
                    raise ValueError(f"could be a date without dashes or {unit}: {VALID}")
                return _within(int(number * nanoseconds)), unit
        raise ValueError(f"is too large for a time: {VALID}")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"is no time: {VALID}") from None
    zone = "without" if moment.tzinfo is None else "with"
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    return _within(1000 * microseconds), f"ISO 8601 {zone} a time zone"


def _reads_as_date(number: str) -> bool:
    """Whether it reads as 20240131, with or without a time of day; 20240131.0 does, too."""
    digits, _, fraction = number.partition(".")
    try:
        date = datetime.strptime(digits, _DATES.get(len(digits), "no date"))
    except ValueError:
        return False
    return 1900 <= date.year < 2100 and not fraction.strip("0")


def _within(nanoseconds: int) -> int:
    if not -_LIMIT <= nanoseconds < _LIMIT:
        raise ValueError(f"is outside the years 1678 to 2261: {VALID}")
    return nanoseconds


# ---- one pass over each table: readable rows are kept, problems are noted ------------------------

LONG_HISTORY = 10_000
_SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_NO_ROWS = "it has no rows below its header: add some"
_EMPTY = "is empty: name one, or delete the row"
_TWO_ROWS = "has two rows that differ: keep the right one"
_SAME_ROW = "has the same row twice: one is read"
_SHORT = "has fewer than 3 interactions: these are read, but neither trained nor evaluated on"
_LONG = f"has {LONG_HISTORY:,} interactions or more: make sure it is a person, not a robot"
_AGAIN = "is a repetition of this user's item and time: it is kept, delete it if it is a slip"
_TIES = "has interactions of equal time: they are kept in the order of the file"
_ALL_EQUAL = "is the time of every row: the order of the file is taken for the order of time"
_NO_TEXT = "is not in the item table: it is read without a text"
_UNUSED = "is in no interaction: it can be recommended, but no user is known to have taken it"

_Texts = dict[str, tuple[int, ItemText]]  # item → the line of its row, and its text


class _History:
    """One user's rows in the file's order: times in nanoseconds, items by number, lines."""

    def __init__(self) -> None:
        self.times, self.items, self.lines = array("q"), array("q"), array("q")


@dataclass
class _Interactions:
    """The readable rows of the interactions.

    Attributes:
        histories: by user.
        item_lines: item → the first line that names it; items are numbered in this order.
        count: how many rows there are.
        first_time: line, text and format of the first time.
    """

    histories: dict[str, _History] = field(default_factory=dict)
    item_lines: dict[str, int] = field(default_factory=dict)
    count: int = 0
    first_time: tuple[int, str, str] | None = None

    def add_time(self, line: int, text: str) -> int:
        """A time in nanoseconds; ValueError unless it is written as the first one."""
        nanoseconds, form = read_time(text)
        self.first_time = self.first_time or (line, text, form)
        first_line, _, first_form = self.first_time
        if form != first_form:
            remedy = "write all times of the column in one format"
            raise ValueError(f"is {form}, line {first_line} has {first_form}: {remedy}")
        return nanoseconds


def _scan(
    interactions: str | Path, items: str | Path | None, layout: TableLayout | None
) -> tuple[TableReport, _Interactions, _Texts]:
    path, layout, findings = Path(interactions), layout or TableLayout(), Findings()
    rows = _scan_interactions(path, layout, findings)
    texts = {} if items is None else _scan_items(Path(items), layout, findings)
    if not findings.has_errors(path):
        _remark_on_interactions(path, rows, layout, findings)
        if items is not None and not findings.has_errors(Path(items)):
            for item, line in rows.item_lines.items():
                if item not in texts:
                    findings.remark(path, _NO_TEXT, line, layout.item, item)
            for item, (line, _) in texts.items():
                if item not in rows.item_lines:
                    findings.remark(Path(items), _UNUSED, line, layout.item, item)
    catalogue = len(rows.item_lines.keys() | texts.keys())
    return findings.report(len(rows.histories), catalogue, rows.count), rows, texts


def _scan_interactions(path: Path, layout: TableLayout, findings: Findings) -> _Interactions:
    readable = _Interactions()
    names = (layout.user, layout.item, layout.time)
    numbers: dict[str, int] = {}
    for line, cells in _table_rows(path, layout, names, (), findings):
        user, item, time = (cells[name].strip() for name in names)
        for name, cell in ((layout.user, user), (layout.item, item)):
            if not cell:
                findings.error(path, _EMPTY, line, name, cell)
        try:
            nanoseconds = readable.add_time(line, time)
        except ValueError as error:
            findings.error(path, str(error), line, layout.time, time)
            continue
        if user and item:
            readable.count += 1
            readable.item_lines.setdefault(item, line)
            history = readable.histories.setdefault(user, _History())
            history.times.append(nanoseconds)
            history.items.append(numbers.setdefault(item, len(numbers)))
            history.lines.append(line)
    return readable


def _scan_items(path: Path, layout: TableLayout, findings: Findings) -> _Texts:
    texts: _Texts = {}
    columns = tuple(layout.texts.values())
    for line, cells in _table_rows(path, layout, (layout.item,), columns, findings):
        words = {key: cells.get(name, "") for key, name in layout.texts.items()}
        parts = [part.strip() for part in words.pop("categories").split(layout.category_separator)]
        text = ItemText(categories=tuple(filter(None, parts)), **words)
        item = cells[layout.item].strip()
        if not item:
            findings.error(path, _EMPTY, line, layout.item, item)
        elif item not in texts:
            texts[item] = (line, text)
        elif texts[item][1] != text:
            findings.error(path, _TWO_ROWS, line, layout.item, item)
        else:
            findings.remark(path, _SAME_ROW, line, layout.item, item)
    return texts


def _table_rows(
    path: Path,
    layout: TableLayout,
    needed: Sequence[str],
    optional: Sequence[str],
    findings: Findings,
) -> Iterator[tuple[int, dict[str, str]]]:
    """The line of each readable row, and its cells by column; the header's problems are noted."""
    rows, empty = csv_rows(path, layout.separator, findings), True
    columns = _columns(path, rows, layout, needed, optional, findings)
    for line, cells in rows if columns else ():
        empty = False
        yield line, {name: cells[index] for name, index in columns.items()}
    if empty and not findings.has_errors(path):
        findings.error(path, _NO_ROWS)


def _columns(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    layout: TableLayout,
    needed: Sequence[str],
    optional: Sequence[str],
    findings: Findings,
) -> dict[str, int]:
    """Column → its index, from the header; empty where that is missing or wrong, and noted."""
    line, cells = next(rows, (0, []))
    header = [cell.strip() for cell in cells]
    if not header:
        return {}
    for other, shown in _SEPARATORS.items():
        if len(header) == 1 and other != layout.separator and other in header[0]:
            what = f"is one cell: is the separator {shown}? Name it as the separator"
            findings.error(path, what, line, value=header[0])
            return {}
    missing = [name for name in needed if name not in header]
    if optional:
        # A column with another name than by default must exist.
        renamed = [name for key, name in layout.texts.items() if name != key]
        missing += [name for name in renamed if name not in header]
        if not missing and not set(optional) & set(header):
            missing = [layout.title]
    present = [name for name in (*needed, *optional) if name in header]
    twice = [name for name in present if header.count(name) > 1]
    for name in missing:
        here = f"is missing, the header has {listed(header)}"
        findings.error(path, f"{here}: rename one, or say which of them it is", line, name)
    for name in twice:
        findings.error(path, "stands twice in the header: rename one", line, name)
    return {} if missing or twice else {name: header.index(name) for name in present}


def _remark_on_interactions(
    path: Path, rows: _Interactions, layout: TableLayout, findings: Findings
) -> None:
    """Short and long histories, repeated rows, and times that do not order what they should."""
    times = {time for history in rows.histories.values() for time in history.times}
    all_equal = rows.count > 1 and len(times) == 1
    if all_equal and rows.first_time:
        findings.remark(path, _ALL_EQUAL, rows.first_time[0], layout.time, rows.first_time[1])
    names = list(rows.item_lines)
    for user, history in rows.histories.items():
        first_line = history.lines[0]
        if len(history.times) < 3:
            findings.remark(path, _SHORT, first_line, layout.user, user)
        if len(history.times) >= LONG_HISTORY:
            findings.remark(path, _LONG, first_line, layout.user, user)
        seen: set[tuple[int, int]] = set()
        for time, item, line in zip(history.times, history.items, history.lines, strict=True):
            if (time, item) in seen:
                findings.remark(path, _AGAIN, line, layout.item, names[item])
            seen.add((time, item))
        if len({time for time, _ in seen}) < len(seen) and not all_equal:
            findings.remark(path, _TIES, first_line, layout.user, user)
