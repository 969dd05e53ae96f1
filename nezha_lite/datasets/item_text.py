"""What a shop says about an item, and what of it is worth reading."""

import html
import re
from dataclasses import dataclass
from unicodedata import category

# What exports write where they know nothing: "Unknown", "brand_2237". As words, these would tie
# unrelated items together.
SHOWN_LETTERS = 200
_JOINERS = "\u200c\u200d"  # within letters of many scripts, and within emoji
_PLACEHOLDER = re.compile(
    r"unknown|untitled|unbranded|n/?a|nan|none|null|(title|brand|item|product)[\s_#-]+\d+", re.I
)


@dataclass(frozen=True)
class ItemText:
    """What a shop says about one item, as written in the file; every field may be empty."""

    title: str
    brand: str = ""
    categories: tuple[str, ...] = ()
    description: str = ""

    def sentence(self) -> str:
        """One cleaned line for a text encoder: "title, brand. categories. description"."""
        heading = ", ".join(filter(None, map(plain_text, (self.title, self.brand))))
        path = ", ".join(filter(None, map(plain_text, self.categories)))
        return ". ".join(filter(None, (heading, path, plain_text(self.description))))


def plain_text(text: str) -> str:
    """One line without HTML entities, escaped once or twice; "" for a placeholder."""
    line = " ".join(html.unescape(html.unescape(text)).split())
    return "" if _PLACEHOLDER.fullmatch(line) else line


def shown_text(text: str) -> str:
    """One line for a reader: plain, at most 200 letters, and inert wherever it is printed.

    Control characters would command a terminal, and marks that turn the direction of writing would
    make what follows look like something else: both are left out. Letters that are written from
    right to left stay.
    """
    line = plain_text(text[: 10 * SHOWN_LETTERS])
    kept = "".join(
        letter
        for letter in line
        if letter in _JOINERS or category(letter) not in ("Cc", "Cf", "Co", "Cs")
    )
    return kept if len(kept) <= SHOWN_LETTERS else f"{kept[: SHOWN_LETTERS - 1]}…"
