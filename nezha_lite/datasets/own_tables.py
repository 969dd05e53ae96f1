"""Your own data: a table of interactions, and one of the items, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from nezha_lite.datasets.item_text import ItemText
from nezha_lite.datasets.names import in_order
from nezha_lite.datasets.sequences import Sequences, offsets_of
from nezha_lite.datasets.table_json import listed_in, tokens, words
from nezha_lite.datasets.table_layout import TEXTS, TableLayout
from nezha_lite.datasets.table_problems import TableReport, counted, listed
from nezha_lite.datasets.table_times import read_times
from nezha_lite.datasets.tables import Table, read_frame, read_table

LONG_HISTORY = 10_000
_EMPTY = "is empty: name one, delete the row, or leave such rows out by --drop-bad-rows"
_TWO_ROWS = "has two rows that differ: keep the right one"
_SAME_ROW = "has the same row twice: one is read"
_SHORT = (
    "has fewer than 4 interactions: training needs 4, as the last two are held out, and "
    "evaluation needs 3"
)
_LONG = f"has {LONG_HISTORY:,} interactions or more: make sure it is a person, not a robot"
_AGAIN = "is a repetition of this user's item and time: it is kept, unless --drop-repeats is said"
_ALL_EQUAL = "is the time of every row: the order of the file is taken for the order of time"
_NO_TEXT = "is not in the item table: it is read without a text"
_UNUSED = "is in no interaction: it can be recommended, but no user is known to have taken it"


def read_items(path: str | Path, layout: TableLayout | None = None) -> dict[str, ItemText]:
    """The items of an item table alone; ValueError for its first error, see `read_tables`."""
    table = read_table(Path(path), (layout or TableLayout()).of(items=True))
    texts = _checked_texts(table)
    TableReport(tuple(table.findings.in_order()), 0, len(texts), 0).check()
    return texts


def check_tables(
    interactions: str | Path, items: str | Path | None = None, layout: TableLayout | None = None
) -> TableReport:
    """List all errors for which `read_tables` would refuse these tables, and remarks.

    Remarks are made on tables without errors only: half a table would be remarked on wrongly. See
    `read_tables` for the arguments.
    """
    return OwnTables.of_files(interactions, items, layout).report


def _polars(frame: Any) -> pl.DataFrame:
    """Any eager frame as one of polars; no library is needed but the frame's own."""
    frame = nw.from_native(frame, eager_only=True)
    if frame.implementation.is_polars():
        return frame.to_native()
    columns = {}
    for column in frame.iter_columns():
        if column.dtype in (nw.Datetime, nw.Date):
            moments = column.cast(nw.Datetime("ns", getattr(column.dtype, "time_zone", None)))
            series = pl.Series(moments.dt.timestamp("ns").to_list(), dtype=pl.Int64)
            columns[str(column.name)] = series.cast(pl.Datetime("ns"))
        else:
            values = (v.tolist() if isinstance(v, np.ndarray) else v for v in column.to_list())
            pairs = zip(values, column.is_null(), strict=True)
            columns[str(column.name)] = pl.Series(
                [None if no else v for v, no in pairs], strict=False
            )
    return pl.DataFrame(columns)


class OwnTables:
    """The tables as they were read and checked; `fields` are those of their data set.

    Attributes:
        report: how they were read, and what is wrong with them.
    """

    def __init__(self, interactions: Table, items: Table | None = None) -> None:
        self._table = table = interactions
        rows, self._timed = _checked(table), "time" in table.columns
        self._texts = None if items is None else _checked_texts(items)
        names, texts = rows["item"].unique(), self._texts or {}
        self._users = pl.Series(in_order(rows["user"].unique()), dtype=pl.String)
        self._items = pl.Series(in_order({*names, *texts}), dtype=pl.String)
        users, catalogue = _code("user", self._users), _code("item", self._items)
        self._rows = rows.select("line", "time", user=users, item=catalogue)
        repeated = self._left_out() if rows.height else self._rows
        tables = [table, items] if items else [table]
        if items and not any(each.findings.has_errors for each in tables):
            self._match(items, names)
        self._sorted = self._rows.sort("user", "time", maintain_order=True)
        if not table.findings.has_errors:
            self._remark(repeated)
        self.report = TableReport(
            tuple(problem for each in tables for problem in each.findings.in_order()),
            len(self._users),
            len(self._items),
            self._rows.height,
            tuple(each.reading for each in tables if each.reading),
        )

    @classmethod
    def of_files(
        cls, interactions: str | Path, items: str | Path | None, layout: TableLayout | None
    ) -> OwnTables:
        """The tables in two files; see `read_tables`."""
        layout = layout or TableLayout()
        table = read_table(Path(interactions), layout.of(items=False))
        return cls(table, None if items is None else read_table(Path(items), layout.of(items=True)))

    @classmethod
    def of_frames(cls, interactions: Any, items: Any, layout: TableLayout) -> OwnTables:
        """The tables in two data frames; see `InteractionDataset.from_frame`."""
        table = read_frame(_polars(interactions), "interactions", layout.of(items=False))
        if items is None:
            return cls(table)
        return cls(table, read_frame(_polars(items), "items", layout.of(items=True)))

    def fields(self) -> dict[str, Any]:
        """Of the `InteractionDataset` in these tables; ValueError for the first error in them."""
        self.report.check()
        texts, no_text, rows = self._texts, ItemText(""), self._sorted
        lengths = np.bincount(rows["user"].to_numpy(), minlength=len(self._users))
        offsets = offsets_of(lengths)
        return {
            "items": tuple(self._items),
            "users": tuple(self._users),
            "sequences": Sequences(offsets, rows["item"].to_numpy()),
            "texts": None
            if texts is None
            else tuple(texts.get(item, no_text) for item in self._items),
            "times": Sequences(offsets, rows["time"].to_numpy()) if self._timed else None,
        }

    def _left_out(self) -> pl.DataFrame:
        """Drop what the layout says to drop; the rows that repeat another one."""
        layout, rows = self._table.layout.both, self._rows
        first = rows.select(pl.struct("user", "item", "time").is_first_distinct()).to_series()
        again = rows.filter(~first)
        if layout.drop_repeats:
            rows = rows.filter(first)
            self._count(again.height, "repeated row", "--drop-repeats")
            again = again.clear()
        if (least := layout.min_interactions) > 1:
            height, option = None, f"--min-interactions {least}"
            while rows.height != height:
                height = rows.height
                for role in ("user", "item"):
                    rows = rows.filter(pl.len().over(role) >= least)
            for role in ("user", "item"):
                kept = rows[role].unique().sort()
                self._count(self._rows[role].n_unique() - len(kept), role, option)
                rows = rows.with_columns(kept.search_sorted(rows[role]).cast(pl.Int64).alias(role))
                setattr(self, f"_{role}s", getattr(self, f"_{role}s")[kept])
            if not rows.height and not self._table.findings.has_errors:
                self._table.findings.error(f"nothing is left by {option}: say a smaller number")
        self._rows = rows
        return again

    def _count(self, number: int, noun: str, option: str) -> None:
        if number:
            what = f"{option} leaves out {counted(number, noun)}"
            self._table.findings.error(what, is_error=False)

    def _match(self, items: Table, names: pl.Series) -> None:
        """Note the items that one table lacks; an error if that is all of them."""
        table, theirs = self._table, items.frame["item"]
        if names.is_in(theirs.implode()).any():
            firsts = self._rows.group_by("item").agg(pl.col("line").min())
            firsts = firsts.select("line", value=self._items[firsts["item"]])
            lacking = firsts.filter(~pl.col("value").is_in(theirs.implode()))
            table.findings.remark(lacking, _NO_TEXT, table.columns.get("item"))
            unused = items.frame.select("line", value="item").unique("value", keep="first")
            if table.layout.both.min_interactions == 1:
                unused = unused.filter(~pl.col("value").is_in(names.implode()))
                items.findings.remark(unused, _UNUSED, items.columns["item"])
        elif len(theirs):
            ours, others = (listed(some[:3].to_list()) for some in (names.sort(), theirs))
            what = (
                f"no item is in the item table {items.findings.file}: here are {ours}, there "
                f"{others}; name the right columns by --item and --items-item"
            )
            table.findings.error(what, column=table.columns.get("item"))

    def _remark(self, repeated: pl.DataFrame) -> None:
        """Short and long histories, repeated rows, and times that do not order what they should."""
        rows, findings, columns = self._sorted, self._table.findings, self._table.columns
        per_user = rows.group_by("user").agg(pl.col("line").min(), pl.len())
        per_user = per_user.with_columns(value=self._users[per_user["user"]])
        findings.remark(per_user.filter(pl.col("len") < 4), _SHORT, columns["user"])
        findings.remark(per_user.filter(pl.col("len") >= LONG_HISTORY), _LONG, columns["user"])
        if self._timed:
            again = repeated.select("line", value=self._items[repeated["item"]])
            findings.remark(again, _AGAIN, columns["item"])
        item, earlier = pl.col("item"), pl.col("item").shift()
        same = pl.all_horizontal(pl.col(role) == pl.col(role).shift() for role in ("user", "time"))
        rows = rows.with_columns(
            differ=(same & (item != earlier)).fill_null(False), up=item > earlier
        )
        pairs = int(rows["differ"].sum())
        if self._timed and rows.height > 1 and rows["time"].n_unique() == 1:
            value = pl.col("time").cast(pl.String)
            first = self._table.frame.select("line", value=value).head(1)
            findings.remark(first, _ALL_EQUAL, columns["time"])
        elif self._timed and pairs:
            tied = rows.filter(pl.col("differ") | pl.col("differ").shift(-1))
            what = (
                "has interactions of equal time: they are kept in the order of the file, so that "
                f"the order of {tied.height / rows.height:.1%} of all rows is unknown"
            )
            users = per_user.filter(pl.col("user").is_in(tied["user"].implode()))
            findings.remark(users, what, columns["user"])
        rising = rows.filter("differ", "up").height
        if pairs >= 20 and rising > 0.95 * pairs:
            what = (
                f"it seems sorted by item: of {pairs:,} neighbours in a history that only the "
                f"order of the file puts in order, {rising:,} have the larger item last, which "
                "says nothing of time: give finer times, or the rows in their true order"
            )
            findings.error(what, is_error=False)


def _checked(table: Table) -> pl.DataFrame:
    """The readable rows: line, user, item and time, in the order of the file."""
    schema = {"line": pl.Int64, "user": pl.String, "item": pl.String, "time": pl.Int64}
    if not table.frame.height:
        return pl.DataFrame(schema=schema)
    frame = _in_rows(table) if "history" in table.columns else table.frame
    frame = frame.with_columns(_names(table, frame, role) for role in ("user", "item"))
    good = pl.all_horizontal(pl.col("user", "item") != "")
    if "time" not in table.columns:
        return frame.filter(good).select("line", "user", "item", time=pl.lit(0, pl.Int64))
    times = read_times(frame["time"], table.layout.both.time_format)
    frame = frame.with_columns(times)
    right = frame.filter(pl.col("what").is_null())[:1]
    for line, form, ns in right.select("line", "form", "ns").iter_rows():
        has = f"is {{}}, {table.findings.unit} {line} has {form}"
        other = pl.format(f"{has}: write all times of the column in one format", "form")
        other = pl.when(pl.col("form") != form).then(other)
        frame = frame.with_columns(what=pl.coalesce("what", other))
        moment = str(np.datetime64(ns, "ns")).rstrip("0").rstrip(".")
        table.reading += f" Times are {form}, the first is {moment} UTC."
    value = pl.col("time").cast(pl.String).fill_null("").str.strip_chars()
    bad = frame.filter(pl.col("what").is_not_null()).select("line", "what", value=value)
    table.findings.rows(bad, None, table.columns["time"])
    return frame.filter(good, pl.col("what").is_null()).select("line", "user", "item", time="ns")


def _code(role: str, names: pl.Series) -> pl.Expr:
    """The index of each name, as int64."""
    return pl.col(role).cast(pl.Enum(names)).to_physical().cast(pl.Int64)


def _names(table: Table, frame: pl.DataFrame, role: str) -> pl.Series:
    """A column of names as text, without the ".0" of 101.0 in every row; empty ones are noted."""
    column = frame[role].cast(pl.String).fill_null("").str.strip_chars()
    if column[:1].str.ends_with(".0").all() and column.str.contains(r"^-?\d+\.0$").all():
        first = frame.select("line", value=column).head(1)
        what = "is written as a fraction, like all others here: each is read without its .0"
        table.findings.remark(first, what, table.columns.get(role))
        column = column.str.strip_suffix(".0")
    empty = frame.select("line", value=column).filter(pl.col("value") == "")
    table.findings.rows(empty, _EMPTY, table.columns.get(role))
    return column.alias(role)


def _in_rows(table: Table) -> pl.DataFrame:
    """One row for each item of a history; of several rows of a user, the longest counts."""
    frame = table.frame
    if frame["history"].dtype == pl.String:
        parts = frame["history"].fill_null("").map_elements(tokens, pl.List(pl.String))
        frame = frame.with_columns(history=parts)
    history = pl.col("history").cast(pl.List(pl.String))
    if "item" in table.columns:
        item = pl.col("item").cast(pl.String)
        shown = item.str.contains(r"^\S+-[01]( \S+-[01])*$")
        clicked = item.str.extract_all(r"\S+-1\b").list.eval(pl.element().str.strip_suffix("-1"))
        history = history.list.concat(pl.when(shown).then(clicked).otherwise(pl.concat_list(item)))
    frame = frame.select("line", "user", item=history)
    longest = pl.all().get(pl.col("item").list.len().arg_max())
    frame = frame.group_by("user", maintain_order=True).agg(longest)
    return frame.explode("item").drop_nulls("item").select("line", "user", "item")


def _checked_texts(table: Table) -> dict[str, ItemText]:
    """Item → its text; rows without a name, or with one that another row has, are noted."""
    texts: dict[str, ItemText] = {}
    if not table.frame.height:
        return texts
    table.frame = frame = table.frame.with_columns(_names(table, table.frame, "item"))
    lacking = [pl.lit(None).alias(role) for role in TEXTS if role not in frame.columns]
    again: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
    for line, name, title, brand, path, about in (
        frame.with_columns(lacking).select("line", "item", *TEXTS).iter_rows()
    ):
        parts = path.split(table.between) if isinstance(path, str) else listed_in(path)
        categories = tuple(part.strip() for part in parts if part.strip())
        text = ItemText(words(title) or "", words(brand) or "", categories, words(about) or "")
        if name and texts.setdefault(name, text) is not text:
            again[texts[name] == text].append((line, name))
    places = {"line": pl.Int64, "value": pl.String}
    differ, same = (pl.DataFrame(again[alike], places, orient="row") for alike in (False, True))
    table.findings.rows(differ, _TWO_ROWS, table.columns["item"])
    table.findings.remark(same, _SAME_ROW, table.columns["item"])
    return texts
