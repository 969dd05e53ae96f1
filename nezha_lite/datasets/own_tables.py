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
from nezha_lite.datasets.table_json import path_of, tokens, words
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
    layout = layout or TableLayout()
    table = read_table(Path(path), layout.of(True), layout.drop_bad_rows)
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
    columns = {}
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, nw.Datetime | nw.Date):
            moments = column.cast(nw.Datetime("ns")) if column.dtype == nw.Date else column
            column = pl.Series(moments.dt.timestamp("ns").to_list(), dtype=pl.Int64)
            columns[str(name)] = column.cast(pl.Datetime("ns"))
        elif isinstance(column.to_native(), pl.Series):
            columns[str(name)] = column.to_native()
        else:
            columns[str(name)] = _series(column.to_list())
    return pl.DataFrame(columns)


def _series(values: list[Any]) -> pl.Series:
    values = [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
    try:
        return pl.Series(values)
    except (TypeError, pl.exceptions.PolarsError):  # texts with numbers or NaN between them
        missing = (value is None or value != value for value in values)
        return pl.Series(
            [None if no else str(value) for no, value in zip(missing, values, strict=True)]
        )


class OwnTables:
    """The tables as they were read and checked; `fields` are those of their data set.

    Attributes:
        report: how they were read, and what is wrong with them.
    """

    def __init__(
        self, layout: TableLayout, interactions: Table, items: Table | None = None
    ) -> None:
        self._layout = layout
        self._rows = self._checked(interactions)
        self._timed = "time" in interactions.columns
        self._texts = None if items is None else _checked_texts(items)
        repeated = self._left_out(interactions) if self._rows.height else None
        names = self._rows["item"].unique().to_list()
        texts = {} if self._texts is None else self._texts
        core = self._layout.min_interactions > 1
        self._items = in_order(names if core else {*names, *texts})
        self._users = in_order(self._rows["user"].unique().to_list())
        tables = [interactions] if items is None else [interactions, items]
        if not any(table.findings.has_errors for table in tables) and items is not None:
            _match(interactions, items, self._rows, texts, core)
        self._order()
        if not interactions.findings.has_errors:
            self._remark(interactions, repeated)
        self.report = TableReport(
            tuple(problem for table in tables for problem in table.findings.in_order()),
            len(self._users),
            len(self._items),
            self._rows.height,
            tuple(table.reading for table in tables if table.reading),
        )

    @classmethod
    def of_files(
        cls, interactions: str | Path, items: str | Path | None, layout: TableLayout | None
    ) -> OwnTables:
        """The tables in two files; see `read_tables`."""
        layout = layout or TableLayout()
        tables = [
            read_table(Path(path), layout.of(which), layout.drop_bad_rows, layout.sequences > which)
            for which, path in ((False, interactions), (True, items))
            if path is not None
        ]
        return cls(layout, *tables)

    @classmethod
    def of_frames(cls, interactions: Any, items: Any, layout: TableLayout) -> OwnTables:
        """The tables in two data frames; see `InteractionDataset.from_frame`."""
        tables = [
            read_frame(_polars(frame), which, layout.of(which == "items"), layout.drop_bad_rows)
            for which, frame in (("interactions", interactions), ("items", items))
            if frame is not None
        ]
        return cls(layout, *tables)

    def fields(self) -> dict[str, Any]:
        """Of the `InteractionDataset` in these tables; ValueError for the first error in them."""
        self.report.check()
        texts, no_text = self._texts, ItemText("")
        offsets, timed = offsets_of(self._lengths), self._timed
        return {
            "items": tuple(self._items),
            "users": tuple(self._users),
            "sequences": Sequences(offsets, self._sorted["item"].to_numpy()),
            "texts": None
            if texts is None
            else tuple(texts.get(item, no_text) for item in self._items),
            "times": Sequences(offsets, self._sorted["time"].to_numpy()) if timed else None,
        }

    def _checked(self, table: Table) -> pl.DataFrame:
        """The readable rows: line, user, item and time, in the order of the file."""
        schema = {"line": pl.Int64, "user": pl.String, "item": pl.String, "time": pl.Int64}
        if not table.frame.height:
            return pl.DataFrame(schema=schema)
        frame = _in_rows(table) if "history" in table.columns else table.frame
        frame = frame.with_columns(_names(table, frame, role) for role in ("user", "item"))
        good = pl.lit(True)
        for role in ("user", "item"):
            bad = frame.filter(pl.col(role) == "").select("line", value=role)
            table.findings.rows(bad, _EMPTY, table.columns.get(role))
            good &= pl.col(role) != ""
        frame = frame.with_columns(ns=pl.lit(0, pl.Int64))
        if "time" in table.columns:
            times = read_times(frame["time"], self._layout.time_format)
            value = pl.col("time").cast(pl.String).fill_null("").str.strip_chars()
            frame = frame.with_columns(times, value=value)
            right = frame.filter(pl.col("what").is_null())
            if right.height:
                line, form, ns = right.select("line", "form", "ns").row(0)
                has = f"is {{}}, {table.findings.unit} {line} has {form}"
                other = pl.format(f"{has}: write all times of the column in one format", "form")
                other = pl.when(pl.col("form") != form).then(other)
                frame = frame.with_columns(what=pl.coalesce("what", other))
                moment = str(np.datetime64(ns, "ns")).rstrip("0").rstrip(".")
                table.reading += f" Times are {form}, the first is {moment} UTC."
            bad = frame.filter(pl.col("what").is_not_null()).select("line", "value", "what")
            table.findings.rows(bad, None, table.columns["time"])
            good &= pl.col("what").is_null()
        return frame.filter(good).select("line", "user", "item", time="ns")

    def _left_out(self, table: Table) -> pl.DataFrame:
        """Drop what the layout says to drop; the rows that repeat another one."""
        rows, layout = self._rows, self._layout
        again = rows.filter(~pl.struct("user", "item", "time").is_first_distinct())
        if layout.drop_repeats and again.height:
            rows = rows.filter(pl.struct("user", "item", "time").is_first_distinct())
            _count(table, again.height, "repeated row", "--drop-repeats")
            again = again.clear()
        if (least := layout.min_interactions) > 1:
            height = None
            while rows.height != height:
                height = rows.height
                for role in ("user", "item"):
                    rows = rows.filter(pl.len().over(role) >= least)
            for role in ("user", "item"):
                lost = self._rows[role].n_unique() - rows[role].n_unique()
                _count(table, lost, role, f"--min-interactions {least}")
            if not rows.height and not table.findings.has_errors:
                what = f"nothing is left by --min-interactions {least}: say a smaller number"
                table.findings.error(what)
        self._rows = rows
        return again.select("line", value="item")

    def _order(self) -> None:
        """Flat sequences, the positions of the rows in them, and what ties are in them."""
        rows = self._rows.select(
            _code("user", self._users).alias("user"),
            _code("item", self._items).alias("item"),
            "time",
        )
        order = np.lexsort((rows["time"].to_numpy(), rows["user"].to_numpy()))  # it is stable
        self._sorted = rows[order].with_columns(line=self._rows["line"][order])
        self._lengths = np.bincount(self._sorted["user"].to_numpy(), minlength=len(self._users))

    def _remark(self, table: Table, repeated: pl.DataFrame | None) -> None:
        """Short and long histories, repeated rows, and times that do not order what they should."""
        rows, findings, columns = self._sorted, table.findings, table.columns
        per_user = self._rows.group_by("user").agg(pl.col("line").first(), pl.len())
        per_user = per_user.select("line", "len", value="user")
        findings.remark(per_user.filter(pl.col("len") < 4), _SHORT, columns["user"])
        findings.remark(per_user.filter(pl.col("len") >= LONG_HISTORY), _LONG, columns["user"])
        if repeated is not None and self._timed:
            findings.remark(repeated, _AGAIN, columns["item"])
        same = (pl.col("user") == pl.col("user").shift()) & (
            pl.col("time") == pl.col("time").shift()
        )
        differ = same & (pl.col("item") != pl.col("item").shift())
        tied = (differ | differ.shift(-1)).fill_null(False)
        pairs = rows.select(
            up=(differ & (pl.col("item") > pl.col("item").shift())).sum(), all=differ.sum()
        ).row(0)
        if self._timed and rows.height > 1 and rows["time"].n_unique() == 1:
            findings.remark(
                table.frame.select("line", value=pl.col("time").cast(pl.String)).head(1),
                _ALL_EQUAL,
                columns["time"],
            )
        elif self._timed and pairs[1]:
            ties = rows.filter(tied)
            share = ties.height / rows.height
            what = (
                "has interactions of equal time: they are kept in the order of the file, so that "
                f"the order of {share:.1%} of all rows is unknown"
            )
            users = ties["user"].unique()
            named = pl.Series("value", self._users)[users].to_frame()
            findings.remark(named.join(per_user, on="value"), what, columns["user"])
        if pairs[1] >= 20 and pairs[0] > 0.95 * pairs[1]:
            what = (
                f"it seems sorted by item: of {pairs[1]:,} neighbours in a history that only the "
                f"order of the file puts in order, {pairs[0]:,} have the larger item last, which "
                "says nothing of time: give finer times, or the rows in their true order"
            )
            findings.error(what, is_error=False)


def _count(table: Table, number: int, noun: str, option: str) -> None:
    if number:
        table.findings.error(f"{option} leaves out {counted(number, noun)}", is_error=False)


def _code(role: str, names: list[str]) -> pl.Expr:
    """The index of each name, as int64."""
    return pl.col(role).cast(pl.Enum(names)).to_physical().cast(pl.Int64)


def _names(table: Table, frame: pl.DataFrame, role: str) -> pl.Series:
    """A column of names as text; whole numbers written as 101.0 in every row lose their ".0"."""
    column = frame[role].cast(pl.String).fill_null("").str.strip_chars()
    if column.head(1).str.ends_with(".0").all() and column.str.contains(r"^-?\d+\.0$").all():
        first = frame.select("line", value=column).head(1)
        what = "is written as a fraction, like all others here: each is read without its .0"
        table.findings.remark(first, what, table.columns.get(role))
        column = column.str.strip_suffix(".0")
    return column


def _in_rows(table: Table) -> pl.DataFrame:
    """One row for each item of a history; of several rows of a user, the longest counts."""
    frame = table.frame
    if frame["history"].dtype == pl.String:
        parts = frame["history"].fill_null("").map_elements(tokens, pl.List(pl.String))
        frame = frame.with_columns(history=parts)
    history = pl.col("history").cast(pl.List(pl.String))
    if "item" in table.columns:
        clicked = pl.col("item").cast(pl.String).str.extract_all(r"\S+")
        shown = pl.col("item").cast(pl.String).str.contains(r"^\S+-[01]( \S+-[01])*$")
        taken = clicked.list.eval(
            pl.element().filter(pl.element().str.ends_with("-1")).str.strip_suffix("-1")
        )
        one = pl.concat_list(pl.col("item").cast(pl.String))
        history = history.list.concat(pl.when(shown).then(taken).otherwise(one))
    frame = frame.select("line", "user", history.alias("item"))
    longest = pl.col("item").list.len().arg_max()
    frame = frame.group_by("user", maintain_order=True).agg(pl.all().get(longest))
    return frame.explode("item").drop_nulls("item").select("line", "user", "item")


def _checked_texts(table: Table) -> dict[str, ItemText]:
    """Item → its text; rows without a name, or with one that another row has, are noted."""
    texts: dict[str, ItemText] = {}
    if not table.frame.height:
        return texts
    table.frame = table.frame.with_columns(_names(table, table.frame, "item"))
    same: list[tuple[int, str]] = []
    differ: list[tuple[int, str]] = []
    roles = [role for role in TEXTS if role in table.columns]
    names = table.frame["item"]
    empty = table.frame.select("line", value=names).filter(pl.col("value") == "")
    table.findings.rows(empty, _EMPTY, table.columns["item"])
    rows = table.frame.select("line", *roles)
    for name, row in zip(names, rows.iter_rows(named=True), strict=True):
        text = _item_text(row, table.between)
        if name and texts.setdefault(name, text) is not text:
            (same if texts[name] == text else differ).append((row["line"], name))
    places = {"line": pl.Int64, "value": pl.String}
    column = table.columns["item"]
    table.findings.rows(pl.DataFrame(differ, places, orient="row"), _TWO_ROWS, column)
    table.findings.remark(pl.DataFrame(same, places, orient="row"), _SAME_ROW, column)
    return texts


def _match(
    interactions: Table, items: Table, rows: pl.DataFrame, texts: dict[str, ItemText], core: bool
) -> None:
    """Note the items that one table lacks; an error if that is all of them."""
    firsts = rows.group_by("item").agg(pl.col("line").min()).select("line", value="item")
    lacking = firsts.join(pl.DataFrame({"value": [*texts]}), on="value", how="anti")
    column = interactions.columns.get("item")
    if lacking.height == firsts.height and texts:
        theirs, ours = listed([*texts][:3]), listed(firsts["value"].head(3).to_list())
        what = (
            f"no item is in {items.findings.file}: here are {ours}, there {theirs}; name the "
            "right columns by --item and --items-item"
        )
        interactions.findings.error(what, column=column)
        return
    interactions.findings.remark(lacking, _NO_TEXT, column)
    if not core:
        lines = items.frame.select("line", value="item")
        unused = lines.join(firsts, on="value", how="anti").unique("value", keep="first")
        items.findings.remark(unused, _UNUSED, items.columns["item"])


def _item_text(row: dict[str, Any], between: str) -> ItemText:
    path = row.get("categories") or ()
    parts = path.split(between) if isinstance(path, str) else path_of(path)
    categories = tuple(part.strip() for part in parts if part.strip())
    texts = {role: words(row.get(role)) or "" for role in ("title", "brand", "description")}
    return ItemText(categories=categories, **texts)
