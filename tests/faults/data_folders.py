"""Folders of JSON files with one fault each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOOD: dict[str, Any] = {
    "inter": {"ann": [1, 2, 3], "bob": [2, 3, 1]},
    "item": {"1": {"title": "Mug"}, "2": {"title": "Pot"}, "3": {"title": "Pan"}},
    "index": {"1": ["<a_0>", "<b_1>"], "2": ["<a_1>", "<b_1>"], "3": ["<a_1>", "<b_0>"]},
}


def write(folder: Path, **parts: Any) -> Path:
    """The folder `shop` with GOOD's files, but for these; text and bytes are written as they are.

    A part that is None has no file.
    """
    shop = folder / "shop"
    shop.mkdir()
    for part, content in (GOOD | parts).items():
        if content is None:
            continue
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode()
        (shop / f"shop.{part}.json").write_bytes(content)
    return shop


def parts(**changed: Any) -> Callable[[Path], Path]:
    """Makes the folder with these files changed."""
    return lambda folder: write(folder, **changed)


def replaced(part: str, put: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Makes the folder with something else where this part's file should be."""

    def make(folder: Path) -> Path:
        shop = write(folder, **{part: None})
        put(shop / f"shop.{part}.json")
        return shop

    return make


def loop(path: Path) -> None:
    """A link that leads back to itself."""
    path.symlink_to(path.name)


def nowhere(path: Path) -> None:
    """A link to a file that is not there."""
    path.symlink_to("not-there")
