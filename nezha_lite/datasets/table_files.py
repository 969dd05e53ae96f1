"""What a file is, by its first bytes: packed text, Parquet, Excel, or nothing that has rows."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fastexcel
import polars as pl

from nezha_lite.datasets.table_problems import counted

_PACKED: dict[bytes, tuple[str, Callable[..., Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ": ("xz", lzma.open),
}
_OTHER = {b"\x93NUMPY": "a NumPy array", b"\x89PNG": "a picture", b"%PDF": "a PDF"}
_OTHER |= {b"SQLite format 3": "an SQLite database", b"\x89HDF": "an HDF5 file"}
DAMAGE: tuple[type[Exception], ...] = (
    EOFError,
    OSError,
    ValueError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)
DAMAGE += (pl.exceptions.PolarsError, fastexcel.FastExcelError)
Opener = Callable[[], Any]  # a binary file


class Unreadable(Exception):
    """A table cannot be read at all; the arguments are those of `Findings.error`."""


def recognised(path: Path) -> tuple[str, Opener]:
    """What a file is by its first bytes, and what opens it unpacked."""
    if path.is_dir():
        raise Unreadable("it is a folder: name the file in it")
    if path.exists() and not path.is_file():
        raise Unreadable("it is not a file that can be read: name one")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise Unreadable("there is no such file: name one") from None
    except OSError as error:
        raise Unreadable(f"it cannot be opened ({error.strerror}): name another file") from None
    if start.startswith((b"PAR1", b"ARROW1")):
        return "Parquet" if start.startswith(b"PAR1") else "Arrow", partial(path.open, "rb")
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        return "Excel", partial(path.open, "rb")
    if start.startswith(b"PK\3\4"):
        return _unzipped(path)
    for mark, (name, opener) in _PACKED.items():
        if start.startswith(mark):
            return name, partial(opener, path, "rb")
    for mark, name in _OTHER.items():
        if start.startswith(mark):
            raise Unreadable(f"it is {name}: save it as CSV in UTF-8, JSON lines or Parquet")
    return "", partial(path.open, "rb")


def _unzipped(path: Path) -> tuple[str, Opener]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    if "xl/workbook.xml" in names:
        return "Excel", partial(path.open, "rb")
    names = [name for name in names if not name.startswith("__MACOSX")]
    if len(names) != 1:
        raise Unreadable(f"it is a zip of {counted(len(names), 'file')}: unpack it, and name one")
    return "zip", lambda: zipfile.ZipFile(path).open(names[0])


def frame_of(kind: str, open_file: Opener) -> pl.DataFrame:
    """The rows of a file that holds typed columns."""
    with open_file() as file:
        if kind == "Excel":
            return pl.read_excel(file.read(), infer_schema_length=None)
        return pl.read_parquet(file) if kind == "Parquet" else pl.read_ipc(file)
