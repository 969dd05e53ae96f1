"""What tables look like: what their columns are called, and the formats known by themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nezha_lite.common.checks import check, check_counts

TEXTS = ("title", "brand", "categories", "description")
_NAMED = {"tab": "\t", "blank": " ", "blanks": " "}
# Names of columns by which a table of the field is known: of user, item and time, ...
_INTERACTIONS = {
    "Amazon reviews of 2014 or 2018": "reviewerID asin unixReviewTime",
    "Amazon reviews of 2023": "user_id parent_asin timestamp",
    "MovieLens": "userId movieId timestamp",
    "Yelp reviews": "user_id business_id date",
    "Steam reviews": "username product_id date",
    "RecBole's names": "user_id item_id timestamp",
}
# ... and of item, title, brand, categories, description, and what stands between categories.
_ITEMS = {
    "Amazon metadata of 2014": "asin title brand categories description ,",
    "Amazon metadata of 2018": "asin title brand category description ,",
    "Amazon metadata of 2023": "parent_asin title store categories description ,",
    "MovieLens": "movieId title - genres - |",
    "Yelp businesses": "business_id name - categories - ,",
    "Steam games": "id app_name developer genres - ,",
    "RecBole's names": "item_id title brand class description _",
    "RecBole's movies": "item_id movie_title - class - _",
    "RecBole's products": "item_id title brand categories description _",
}


class Headerless(NamedTuple):
    """A format without header, known by the form of its lines; columns are numbered from 1."""

    name: str
    separator: str
    line: str
    columns: dict[str, str]
    categories: str = ","


HEADERLESS = (
    Headerless(
        "MovieLens 100k ratings",
        "\t",
        r"\d+\t\d+\t[1-5]\t\d{9,10}",
        {"user": "1", "item": "2", "time": "4"},
    ),
    Headerless(
        "MovieLens 1M ratings",
        "::",
        r"\d+::\d+::[\d.]+::\d{9,10}",
        {"user": "1", "item": "2", "time": "4"},
    ),
    Headerless(
        "MIND behaviors",
        "\t",
        r"\d+\tU\d+\t\d+/\d+/\d{4} [^\t]*\t[N\d ]*\t[N\d\- ]*",
        {"user": "2", "history": "4"},
    ),
    Headerless(
        "MovieLens 100k items",
        "|",
        r"\d+\|[^|]*\|(\d\d-[A-Z][a-z]{2}-\d{4})?\|.*",
        {"item": "1", "title": "2"},
    ),
    Headerless(
        "MovieLens 1M movies",
        "::",
        r"\d+::.*::[^:]*",
        {"item": "1", "title": "2", "categories": "3"},
        "|",
    ),
    Headerless(
        "MIND news",
        "\t",
        r"N\d+\t[a-z]+\t[a-z]+\t[^\t]+\t.*",
        {"item": "1", "categories": "2", "title": "4", "description": "5"},
    ),
)


@dataclass(frozen=True)
class TableLayout:
    """What the tables' columns are called, and how the files are written; each is an option.

    What is None is recognised. In a table without header, columns are called 1, 2, 3, and so on.

    Attributes:
        user: column of the interactions
        item: column of both tables
        time: column of the interactions
        title: column of the items; one of the four texts must exist
        brand: column of the items
        categories: column of the items
        description: column of the items
        history: column of the interactions with all of a user's items in one cell, in order; of
            several rows of a user, the longest counts, followed by its `item` if that is named
        sequences: each line of the interactions is a user and then all of their items, in order
        file_order: the order of the file is the order of time; no times are read
        time_format: of times, such as "%d.%m.%Y %H:%M"; or unix, for numbers that are no dates
        separator: between cells of the interactions: any text, tab, or blanks
        encoding: of the interactions: cp1252, gbk, or another that Python knows
        header: whether the first row of the interactions names the columns
        quote: character around cells of the interactions, or none where quotes are text
        items_item: column `item` of the item table, if it has another name there
        items_separator: the same for the item table
        items_encoding: the same for the item table
        items_header: the same for the item table
        items_quote: the same for the item table
        category_separator: between the categories in their one cell; by default a comma
        drop_bad_rows: leave out rows that cannot be read, and count them
        drop_repeats: leave out all but the first of rows with equal user, item and time
        min_interactions: leave out users and items with fewer, until each has as many (k-core)

    Raises:
        ValueError: for an impossible value, and a name that is empty or used twice.
    """

    user: str = "user"
    item: str = "item"
    time: str = "time"
    title: str = "title"
    brand: str = "brand"
    categories: str = "categories"
    description: str = "description"
    history: str | None = None
    sequences: bool = False
    file_order: bool = False
    time_format: str | None = None
    separator: str | None = None
    encoding: str | None = None
    header: bool | None = None
    quote: str | None = None
    items_item: str | None = None
    items_separator: str | None = None
    items_encoding: str | None = None
    items_header: bool | None = None
    items_quote: str | None = None
    category_separator: str | None = None
    drop_bad_rows: bool = False
    drop_repeats: bool = False
    min_interactions: int = 1

    def __post_init__(self) -> None:
        for own in ("", "items_"):
            name, text = f"{own}separator", getattr(self, f"{own}separator")
            valid = text is None or (text and not set(text) & set('"\r\n\0'))
            check(bool(valid), name, text, "a text such as ',', '::', tab or blanks")
            object.__setattr__(self, name, _NAMED.get(text, text))
            name, text = f"{own}quote", getattr(self, f"{own}quote")
            valid = text in (None, "none") or (len(text) == 1 and text.isprintable())
            check(valid, name, text, "one character, or none")
            name, text = f"{own}encoding", getattr(self, f"{own}encoding")
            try:
                "".encode(text or "utf-8")
            except (LookupError, ValueError):
                check(False, name, text, "an encoding that Python knows, such as cp1252")
        form = self.time_format
        check(form in (None, "unix") or "%" in str(form), "time_format", form, "like '%d.%m.%Y'")
        separator = self.category_separator
        check(separator != "", "category_separator", separator, "a text such as ',' or '|'")
        check_counts(self, "min_interactions")
        for items in (False, True):
            names = tuple(self.of(items).columns.values())
            if not all(names) or len(set(names)) < len(names):
                raise ValueError(
                    f"The columns of a table are named {', '.join(map(repr, names))}, but each "
                    "needs a name of its own."
                )

    def of(self, items: bool) -> FileLayout:
        """How one of the two tables is read; a column's number holds in its own table only."""
        if items:
            item = self.items_item or ("item" if self.item.isdigit() else self.item)
            columns = {"item": item, **{role: getattr(self, role) for role in TEXTS}}
            needed = ["item"]
        else:
            columns, needed = {"user": self.user, "item": self.item}, ["user", "item"]
            if self.history:
                columns, needed = {"user": self.user, "history": self.history}, ["user", "history"]
                columns |= {"item": self.item} if self.item != "item" else {}
            elif not self.file_order:
                columns["time"], needed = self.time, [*needed, "time"]
        fields = type(self).__dataclass_fields__
        renamed = {role: name for role, name in columns.items() if name != fields[role].default}
        needed += [role for role in renamed if role not in needed]
        own = "items_" if items else ""
        return FileLayout(
            items,
            columns,
            renamed,
            needed,
            separator=getattr(self, f"{own}separator"),
            encoding=getattr(self, f"{own}encoding"),
            quote=getattr(self, f"{own}quote"),
            header=getattr(self, f"{own}header"),
            between=self.category_separator,
        )


class FileLayout(NamedTuple):
    """How one of the tables is read.

    Attributes:
        items: whether it is the item table.
        columns: role (a field of `TableLayout`) → column.
        renamed: those columns that do not have the default name.
        needed: roles that the table must have.
        separator, encoding, quote, header: as in `TableLayout`.
        between: what stands between categories.
    """

    items: bool
    columns: dict[str, str]
    renamed: dict[str, str]
    needed: list[str]
    separator: str | None
    encoding: str | None
    quote: str | None
    header: bool | None
    between: str | None

    def option(self, name: str) -> str:
        """The option that says this of the table."""
        own = "items-" * (self.items and name not in TEXTS)
        return f"--no-{own}header" if name == "no-header" else f"--{own}{name}"

    def resolve(self, names: Sequence[str]) -> tuple[dict[str, str], list[str], str, str]:
        """Role → column, roles that are missing, and the known format with its categories."""
        known = [("", self.columns, ",")]
        for name, words in (_ITEMS if self.items else _INTERACTIONS).items():
            roles = ("item", *TEXTS, "between") if self.items else ("user", "item", "time")
            columns = dict(zip(roles, words.split(), strict=True))
            between = columns.pop("between", ",").replace("_", " ")
            columns = {role: columns[role] for role in self.columns.keys() & columns.keys()}
            known.append((name, {**self.columns, **columns, **self.renamed}, between))
        answers = []
        for name, columns, between in known:
            present = {role: column for role, column in columns.items() if column in names}
            missing = [role for role in self.needed if role not in present]
            if self.items and not missing and not set(TEXTS) & set(present):
                missing = ["title"]
            answers.append((present, missing, name, between))
        return next((answer for answer in answers if not answer[1]), answers[0])


def headerless(layout: FileLayout, lines: Sequence[str]) -> Headerless | None:
    """The known format without header that all these lines have."""
    if layout.header or layout.renamed.keys() & {"user", "item", "title"}:
        return None
    for known in HEADERLESS:
        fits = layout.separator in (None, known.separator)
        fits &= ("user" in known.columns) != layout.items
        if fits and all(re.fullmatch(known.line, line) for line in lines):
            return known
    return None
