"""The texts of items, and what of them is worth reading."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from unicodedata import category

SHOWN_LETTERS = 200
_JOINERS = "\u200c\u200d"  # within letters of many scripts, and within emoji
# Exports write these for an unknown value: "Unknown", "brand_2237". As words they would make
# unrelated items similar.
_PLACEHOLDER = re.compile(
    r"unknown|untitled|unbranded|n/?a|nan|none|null|(title|brand|item|product)[\s_#-]+\d+", re.I
)


@dataclass(frozen=True)
class ItemText:
    """One item's text as written in the file; every field may be empty.

    >>> ItemText("Mug &amp; Pot", brand="Unknown", categories=("Home", "Kitchen")).sentence()
    'Mug & Pot. Home, Kitchen'
    """

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
    """One line with HTML entities resolved, also those escaped twice; "" for a placeholder."""
    line = " ".join(html.unescape(html.unescape(text)).split())
    return "" if _PLACEHOLDER.fullmatch(line) else line


def shown_text(text: str) -> str:
    """One plain line of at most 200 letters that is harmless wherever it is printed.

    Control characters, which a terminal would obey, are left out, and so are marks that change the
    direction of writing, which would disguise the text after them. Letters that are written from
    right to left remain.
    """
    line = plain_text(text[: 10 * SHOWN_LETTERS])
    hidden = ("Cc", "Cf", "Co", "Cs")
    shown = "".join(one for one in line if one in _JOINERS or category(one) not in hidden)
    return shown if len(shown) <= SHOWN_LETTERS else f"{shown[: SHOWN_LETTERS - 1]}…"
