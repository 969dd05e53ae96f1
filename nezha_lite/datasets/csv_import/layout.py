"""What the columns of your tables are called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableLayout:
    """What the tables' columns are called, and how cells are separated.

    Attributes:
        user, item, time: columns of the interactions; `item` is one of the item table, too.
        title, brand, categories, description: columns of the item table. One of the four must be
            there, and one with another name than here must be.
        separator: between cells: one character, such as ";" or a tab.
        category_separator: between the categories in their one cell.

    Raises:
        ValueError: for a separator that cannot be one, and a name that is empty or used twice.
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
        if len(self.separator) != 1 or self.separator in '"\r\n\0 ':
            raise ValueError(
                f"separator is {self.separator!r}, but must be one character, such as ',' or ';'."
            )
        if not self.category_separator:
            raise ValueError("category_separator is empty, but must be a text such as ',' or '|'.")
        for names in ((self.user, self.item, self.time), (self.item, *self.texts.values())):
            for name in names:
                if not name or names.count(name) > 1:
                    raise ValueError(
                        f"The columns of a table are named {', '.join(map(repr, names))}, but each "
                        "needs a name of its own."
                    )

    @property
    def texts(self) -> dict[str, str]:
        """Field of `ItemText` → its column."""
        return {
            "title": self.title,
            "brand": self.brand,
            "categories": self.categories,
            "description": self.description,
        }

    def renamed_texts(self) -> list[str]:
        """Columns of the item table that have another name than by default."""
        defaults = TableLayout().texts
        return [name for key, name in self.texts.items() if name != defaults[key]]
