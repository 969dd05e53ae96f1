"""Your own data: a table of interactions, and one of the items, read and checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nezha_lite.datasets.item_text import ItemText
from nezha_lite.datasets.sequences import Sequences, offsets_of
from nezha_lite.datasets.table_json import listed_in, tokens, words
from nezha_lite.datasets.table_layout import TEXTS, TableLayout
from nezha_lite.datasets.table_report import Table, TableReport, counted, listed
from nezha_lite.datasets.table_times import read_times
from nezha_lite.datasets.tables import read_table

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


def in_order(names: Iterable[str]) -> list[str]:
    """Names in numeric order if all are decimal integers, else in alphabetical order."""
    names = sorted(names)
    numbered = all(name.isdecimal() and name.isascii() and len(name) <= 4000 for name in names)
    return sorted(names, key=int) if numbered else names


def read_items(path: str | Path, layout: TableLayout | None = None) -> dict[str, ItemText]:
    """The items of an item table alone; ValueError for its first error, see `read_tables`."""
    table = read_table(path, "items", (layout or TableLayout()).of(items=True))
    texts = _checked_texts(table)
    TableReport.of([table]).check()
    return texts


def check_tables(
    interactions: str | Path, items: str | Path | None = None, layout: TableLayout | None = None
) -> TableReport:
    """List all errors for which `read_tables` would refuse these tables, and remarks.

    Remarks are made on tables without errors only: half a table would be remarked on wrongly. See
    `read_tables` for the arguments.
    """
    return OwnTables(interactions, items, layout).report


class OwnTables:
    """The tables as they were read and checked; `fields` are those of their data set.

    Args:
        interactions, items: files or data frames, see `nezha_lite.datasets.read_tables`.
        layout: as there.

    Attributes:
        report: how they were read, and what is wrong with them.
    """

    def __init__(
        self, interactions: Any, items: Any = None, layout: TableLayout | None = None
    ) -> None:
        layout = layout or TableLayout()
        self._table = table = read_table(interactions, "interactions", layout.of(items=False))
        if items is not None:
            items = read_table(items, "items", layout.of(items=True))
        rows, texts = _checked(table), _checked_texts(items) if items else {}
        self._texts = texts if items else None
        named = {"user": {*rows["user"].unique()}, "item": {*rows["item"].unique(), *texts}}
        self._names = {role: pl.Series(in_order(named[role]), dtype=pl.String) for role in named}
        codes = {
            role: pl.col(role).cast(pl.Enum(names)).to_physical().cast(pl.Int64)
            for role, names in self._names.items()
        }
        rows, repeated = self._left_out(rows.with_columns(**codes))
        self._rows = rows.sort("user", "time", maintain_order=True)
        tables = [table, items] if items else [table]
        if items and not any(each.has_errors for each in tables):
            self._match(items)
        if not table.has_errors:
            self._remark(repeated)
        counts = (len(self._names["user"]), len(self._names["item"]), rows.height)
        self.report = TableReport.of(tables, *counts)

    def fields(self) -> dict[str, Any]:
        """Of the `InteractionDataset` in these tables; ValueError for the first error in them."""
        self.report.check()
        users, items = map(tuple, self._names.values())
        offsets = offsets_of(np.bincount(self._rows["user"].to_numpy(), minlength=len(users)))
        items_in_time, times = (Sequences(offsets, self._rows[role]) for role in ("item", "time"))
        texts = self._texts
        return {
            "items": items,
            "users": users,
            "sequences": items_in_time,
            "texts": None if texts is None else tuple(texts.get(i, ItemText("")) for i in items),
            "times": times if "time" in self._table.columns else None,
        }

    def _left_out(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Without what the layout says to drop; and the rows that repeat another one."""
        layout, before = self._table.layout.both, rows
        first = pl.struct("user", "item", "time").is_first_distinct()
        again = rows.filter(~first)
        if layout.drop_repeats:
            self._count(again.height, "repeated row", "--drop-repeats")
            rows, again = rows.filter(first), again.clear()
        if (least := layout.min_interactions) > 1:
            height, option = None, f"--min-interactions {least}"
            while rows.height != height:
                height = rows.height
                for role in self._names:
                    rows = rows.filter(pl.len().over(role) >= least)
            for role, names in self._names.items():
                kept = rows[role].unique().sort()
                self._count(before[role].n_unique() - len(kept), role, option)
                rows = rows.with_columns(kept.search_sorted(rows[role]).cast(pl.Int64).alias(role))
                self._names[role] = names[kept]
            if not rows.height and not self._table.has_errors:
                self._table.error(f"nothing is left by {option}: say a smaller number")
        return rows, again

    def _count(self, number: int, noun: str, option: str) -> None:
        if number:
            self._table.error(f"{option} leaves out {counted(number, noun)}", is_error=False)

    def _first(self, rows: pl.DataFrame, role: str) -> pl.DataFrame:
        """Each different name in a column, as value, its first line, and its number of rows."""
        rows = rows.group_by(role).agg(pl.col("line").min(), pl.len())
        return rows.with_columns(value=self._names[role][rows[role]])

    def _match(self, items: Table) -> None:
        """Note the items that one table lacks; an error if that is all of them."""
        ours = self._first(self._rows, "item").sort("item")
        theirs = items.frame.select("line", value="item")
        lacking = ours.join(theirs, on="value", how="anti")
        if lacking.height < ours.height:
            self._table.rows(lacking, _NO_TEXT, "item", is_error=False)
            if self._table.layout.both.min_interactions == 1:
                unused = theirs.unique("value", keep="first").join(ours, on="value", how="anti")
                items.rows(unused, _UNUSED, "item", is_error=False)
        elif theirs.height:
            here, there = (listed(some["value"][:3].to_list()) for some in (ours, theirs))
            what = (
                f"no item is in the item table {items.file}: here are {here}, there {there}; name "
                "the right columns by --item and --items-item"
            )
            self._table.error(what, self._table.columns.get("item"))

    def _remark(self, repeated: pl.DataFrame) -> None:
        """Short and long histories, repeated rows, and times that do not order what they should."""
        rows, table, timed = self._rows, self._table, "time" in self._table.columns
        users, length = self._first(rows, "user"), pl.col("len")
        table.rows(users.filter(length < 4), _SHORT, "user", is_error=False)
        table.rows(users.filter(length >= LONG_HISTORY), _LONG, "user", is_error=False)
        if timed:
            again = repeated.select("line", value=self._names["item"][repeated["item"]])
            table.rows(again, _AGAIN, "item", is_error=False)
        item, earlier = pl.col("item"), pl.col("item").shift()
        same = pl.all_horizontal(pl.col(role) == pl.col(role).shift() for role in ("user", "time"))
        differ = (same & (item != earlier)).fill_null(False)
        rows = rows.with_columns(differ=differ, rises=differ & (item > earlier))
        pairs, rising = (int(rows[name].sum()) for name in ("differ", "rises"))
        if timed and rows.height > 1 and rows["time"].n_unique() == 1:
            value = pl.col("time").cast(pl.String)
            first = table.frame.select("line", value=value).head(1)
            table.rows(first, _ALL_EQUAL, "time", is_error=False)
        elif timed and pairs:
            tied = rows.filter(pl.col("differ") | pl.col("differ").shift(-1))
            what = (
                "has interactions of equal time: they are kept in the order of the file, so that "
                f"the order of {tied.height / rows.height:.1%} of all rows is unknown"
            )
            table.rows(users.join(tied, on="user", how="semi"), what, "user", is_error=False)
        if pairs >= 20 and rising > 0.95 * pairs:
            what = (
                f"it seems sorted by item: of {pairs:,} neighbours in a history that only the "
                f"order of the file puts in order, {rising:,} have the larger item last, which "
                "says nothing of time: give finer times, or the rows in their true order"
            )
            table.error(what, is_error=False)


def _checked(table: Table) -> pl.DataFrame:
    """The readable rows: line, user, item and time, in the order of the file."""
    schema = {"line": pl.Int64, "user": pl.String, "item": pl.String, "time": pl.Int64}
    if not table.frame.height:
        return pl.DataFrame(schema=schema)
    frame = _in_rows(table) if "history" in table.columns else table.frame
    frame = frame.with_columns(_names(table, frame, role) for role in ("user", "item"))
    if "time" in table.columns:
        frame = frame.with_columns(time=_times(table))
    else:
        frame = frame.with_columns(time=pl.lit(0, pl.Int64))
    return frame.filter(pl.col("user", "item") != "", pl.col("time").is_not_null()).select(*schema)


def _times(table: Table) -> pl.Series:
    """Of each row in nanoseconds, or null; what is no time, or of another format, is noted."""
    times = read_times(table.frame["time"], table.layout.both.time_format)
    times = times.with_columns(table.frame["line"])
    for line, form, ns in times.filter(pl.col("what").is_null())["line", "form", "ns"][:1].rows():
        has = f"is {{}}, {table.unit} {line} has {form}"
        other = pl.format(f"{has}: write all times of the column in one format", "form")
        other = pl.when(pl.col("form") != form).then(other)
        times = times.with_columns(what=pl.coalesce("what", other))
        moment = str(np.datetime64(ns, "ns")).rstrip("0").rstrip(".")
        table.reading += f" Times are {form}, the first is {moment} UTC."
    bad = pl.col("what").is_not_null()
    table.rows(times.filter(bad).select("line", "what", value="text"), None, "time")
    return times.select(pl.when(~bad).then("ns")).to_series()


def _names(table: Table, frame: pl.DataFrame, role: str) -> pl.Series:
    """A column of names as text, without the ".0" of 101.0 in every row; empty ones are noted."""
    column = frame[role].cast(pl.String).fill_null("").str.strip_chars()
    if column[:1].str.ends_with(".0").all() and column.str.contains(r"^-?\d+\.0$").all():
        first = frame.select("line", value=column).head(1)
        what = "is written as a fraction, like all others here: each is read without its .0"
        table.rows(first, what, role, is_error=False)
        column = column.str.strip_suffix(".0")
    table.rows(frame.select("line", value=column).filter(pl.col("value") == ""), _EMPTY, role)
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
    again = []
    for line, name, title, brand, path, about in (
        frame.with_columns(lacking).select("line", "item", *TEXTS).iter_rows()
    ):
        parts = path.split(table.between) if isinstance(path, str) else listed_in(path)
        categories = tuple(part.strip() for part in parts if part.strip())
        text = ItemText(words(title) or "", words(brand) or "", categories, words(about) or "")
        if name and texts.setdefault(name, text) is not text:
            again.append((line, name, texts[name] == text))
    schema = {"line": pl.Int64, "value": pl.String, "same": pl.Boolean}
    repeated = pl.DataFrame(again, schema, orient="row")
    table.rows(repeated.filter(~pl.col("same")), _TWO_ROWS, "item")
    table.rows(repeated.filter("same"), _SAME_ROW, "item", is_error=False)
    return texts
