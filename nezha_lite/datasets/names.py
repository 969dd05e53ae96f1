"""Names of users and items."""

from __future__ import annotations

from collections.abc import Iterable


def in_order(names: Iterable[str]) -> list[str]:
    """Names in numeric order if all are decimal integers, else in alphabetical order."""
    alphabetical = sorted(names)
    numbered = all(
        name.isdecimal() and name.isascii() and len(name) <= 4000 for name in alphabetical
    )
    return sorted(alphabetical, key=int) if numbered else alphabetical
