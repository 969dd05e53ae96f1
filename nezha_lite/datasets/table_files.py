"""What a file is, by its first bytes: packed text, Parquet, Excel, or nothing that has rows."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nezha_lite.datasets.table_report import Unreadable, counted

_OTHER = {b"\x93NUMPY": "a NumPy array", b"\x89PNG": "a picture", b"%PDF": "a PDF"}
_OTHER |= {b"SQLite format 3": "an SQLite database", b"\x89HDF": "an HDF5 file"}
_OTHER |= {b"BZh": "packed by bzip2", b"\xfd7zXZ": "packed by xz", b"ARROW1": "an Arrow file"}
_TABLES = {b"PAR1": "Parquet", b"\xd0\xcf\x11\xe0": "Excel", b"PK\3\4": "zip"}
Opener = Callable[[], Any]  # a binary file


def recognised(path: Path) -> tuple[str, Opener]:
    """What a file is by its first bytes, and what opens it unpacked."""
    if path.exists() and not path.is_file():
        what = "a folder: name the file in it" if path.is_dir() else "no file with an end: name one"
        raise Unreadable(f"it is {what}")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise Unreadable("there is no such file: name one") from None
    except OSError as error:
        raise Unreadable(f"it cannot be opened ({error.strerror}): name another file") from None
    for mark, name in _OTHER.items():
        if start.startswith(mark):
            raise Unreadable(f"it is {name}: save it as CSV in UTF-8, JSON lines or Parquet")
    if start.startswith(b"\x1f\x8b"):
        return "gzip", partial(gzip.open, path, "rb")
    kind = _TABLES.get(start[:4], "")
    if kind != "zip":
        return kind, partial(path.open, "rb")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "xl/workbook.xml" in names:
        return "Excel", partial(path.open, "rb")
    names = [name for name in names if not name.startswith("__MACOSX") and name[-1:] != "/"]
    if len(names) != 1:
        raise Unreadable(f"it is a zip of {counted(len(names), 'file')}: unpack it, and name one")
    return kind, lambda: zipfile.ZipFile(path).open(names[0])
