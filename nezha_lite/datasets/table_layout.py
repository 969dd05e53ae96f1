"""What tables look like: what their columns are called, and the formats known by themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nezha_lite.common.checks import check, check_counts

TEXTS = ("title", "brand", "categories", "description")
_EACH = ("separator", "quote", "encoding")
_NAMED = {"tab": "\t", "blank": " ", "blanks": " "}


class Format(NamedTuple):
    """A table of the field that is known by itself.

    Attributes:
        name: for people.
        columns: "role=column" words; texts that are not named have their roles' names. Without
            header, columns are numbered from 1.
        line: pattern of the lines where there is no header.
        separator: of those lines.
        between: what stands between categories.
    """

    name: str
    columns: str
    line: str = ""
    separator: str = ""
    between: str = ","

    @property
    def roles(self) -> dict[str, str]:
        """Role → column."""
        return dict(word.split("=") for word in self.columns.split())


FORMATS = (
    Format("Amazon reviews of 2014 or 2018", "user=reviewerID item=asin time=unixReviewTime"),
    Format("Amazon reviews of 2023", "user=user_id item=parent_asin time=timestamp"),
    Format("MovieLens", "user=userId item=movieId time=timestamp"),
    Format("Yelp reviews", "user=user_id item=business_id time=date"),
    Format("Steam reviews", "user=username item=product_id time=date"),
    Format("RecBole's names", "user=user_id item=item_id time=timestamp"),
    Format("Amazon metadata of 2014", "item=asin"),
    Format("Amazon metadata of 2018", "item=asin categories=category"),
    Format("Amazon metadata of 2023", "item=parent_asin brand=store"),
    Format("MovieLens", "item=movieId categories=genres", between="|"),
    Format("Yelp businesses", "item=business_id title=name"),
    Format("Steam games", "item=id title=app_name brand=developer categories=genres"),
    Format("RecBole's names", "item=item_id categories=class", between=" "),
    Format("RecBole's movies", "item=item_id title=movie_title categories=class", between=" "),
    Format("RecBole's products", "item=item_id", between=" "),
    Format("MovieLens 100k ratings", "user=1 item=2 time=4", r"\d+\t\d+\t[1-5]\t\d{9,10}", "\t"),
    Format("MovieLens 1M ratings", "user=1 item=2 time=4", r"\d+::\d+::[\d.]+::\d{9,10}", "::"),
    Format("MIND behaviors", "user=2 history=4", r"\d+\tU\d+\t[\d/]+ [^\t]*(\t[N\d\- ]*){2}", "\t"),
    Format("MovieLens 100k items", "item=1 title=2", r"\d+\|[^|]*\|(\d\d-\w{3}-\d{4})?\|.*", "|"),
    Format("MovieLens 1M movies", "item=1 title=2 categories=3", r"\d+::.*::[^:]*", "::", "|"),
    Format("MIND news", "item=1 categories=2 title=4 description=5", r"N\d+(\t[a-z]+){2}.+", "\t"),
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
            separator, quote, encoding = (getattr(self, own + name) for name in _EACH)
            valid = separator is None or (separator and not set(separator) & set('"\r\n\0'))
            must = "a text such as ',', '::', tab or blanks"
            check(bool(valid), f"{own}separator", separator, must)
            object.__setattr__(self, f"{own}separator", _NAMED.get(separator, separator))
            valid = quote in (None, "none") or (len(quote) == 1 and quote.isprintable())
            check(valid, f"{own}quote", quote, "one character, or none")
            try:
                "".encode(encoding or "utf-8")
            except (LookupError, ValueError):
                must = "an encoding that Python knows, such as cp1252"
                check(False, f"{own}encoding", encoding, must)
        form = self.time_format
        check(form in (None, "unix") or "%" in str(form), "time_format", form, "like '%d.%m.%Y'")
        between = self.category_separator
        check(between != "", "category_separator", between, "a text such as ',' or '|'")
        check_counts(self, "min_interactions")
        for items in (False, True):
            names = [*self.of(items).columns.values()]
            if not all(names) or len(set(names)) < len(names):
                raise ValueError(
                    f"The columns of a table are named {', '.join(map(repr, names))}, but each "
                    "needs a name of its own."
                )

    def of(self, items: bool) -> FileLayout:
        """How one of the two tables is read; a column's number holds in its own table only."""
        roles = ("user", "item", "time")[: 2 if self.file_order else 3]
        if self.history:
            roles = ("user", "history", "item")[: 2 if self.item == "item" else 3]
        columns = {role: getattr(self, role) for role in (("item", *TEXTS) if items else roles)}
        if items:
            columns["item"] = self.items_item or ("item" if self.item.isdigit() else self.item)
        return FileLayout(items, self, columns)


class FileLayout:
    """How one of the tables is read.

    Attributes:
        items: whether it is the item table.
        both: what is said of both tables.
        columns: role (a field of `TableLayout`) → column.
        renamed: those columns that do not have the default name.
        needed: roles that the table must have.
        separator, quote, encoding, header: as in `TableLayout`.
    """

    def __init__(self, items: bool, both: TableLayout, columns: dict[str, str]) -> None:
        self.items, self.both, self.columns = items, both, columns
        default = vars(TableLayout)
        self.renamed = {role: name for role, name in columns.items() if name != default[role]}
        self.needed = [*dict.fromkeys(["item", *self.renamed] if items else columns)]
        own = (getattr(both, "items_" * items + name) for name in (*_EACH, "header"))
        self.separator, self.quote, self.encoding, self.header = own

    def option(self, name: str) -> str:
        """The option that says this of the table."""
        own = "items-" * (self.items and name not in TEXTS)
        return f"--no-{own}header" if name == "no-header" else f"--{own}{name}"

    def headerless(self, lines: Sequence[str]) -> Format | None:
        """The known format without header that all these lines have."""
        if self.header or self.renamed.keys() & {"user", "item", "title"}:
            return None
        for form in self._formats(headers=False):
            fits = self.separator in (None, form.separator)
            if fits and all(re.fullmatch(form.line, line) for line in lines):
                return form
        return None

    def resolve(
        self, names: Sequence[str], known: Format | None
    ) -> tuple[dict[str, str], list[str], Format]:
        """Role → column, the roles that are missing, and the format.

        Args:
            names: of the table's columns.
            known: its format; None if it is to be known by these names.
        """
        answers = []
        for form in [known] if known else [Format("", ""), *self._formats(headers=True)]:
            said = {*self.columns, "history"}  # with --file-order there is no time
            roles = {role: name for role, name in form.roles.items() if role in said}
            columns = {**self.columns, **roles, **self.renamed}
            present = {role: column for role, column in columns.items() if column in names}
            needed = {**roles, **self.renamed} if known else self.needed
            missing = [role for role in needed if role not in present]
            if self.items and not missing and not present.keys() & {*TEXTS}:
                missing = ["title"]
            answers.append((present, missing, form))
        # The default names first, then the format that names most columns.
        return max(answers, key=lambda each: (not each[1], not each[2].name, len(each[0])))

    def _formats(self, headers: bool) -> list[Format]:
        """Of this table, with or without a header."""
        formats = (form for form in FORMATS if bool(form.line) != headers)
        return [form for form in formats if ("user=" in form.columns) != self.items]
