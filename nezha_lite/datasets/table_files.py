"""What a file is, by its first bytes: packed text, Parquet, Excel, or nothing that has rows."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fastexcel
import polars as pl

from nezha_lite.datasets.table_problems import Findings, counted

_OTHER = {b"\x93NUMPY": "a NumPy array", b"\x89PNG": "a picture", b"%PDF": "a PDF"}
_OTHER |= {b"SQLite format 3": "an SQLite database", b"\x89HDF": "an HDF5 file"}
_OTHER |= {b"BZh": "packed by bzip2", b"\xfd7zXZ": "packed by xz", b"ARROW1": "an Arrow file"}
_DAMAGE = (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error)
Opener = Callable[[], Any]  # a binary file


class Unreadable(Exception):
    """A table cannot be read at all; the arguments are those of `Findings.error`."""


@contextmanager
def noted(findings: Findings) -> Iterator[None]:
    """Note what makes a table unreadable; without arguments, that has been done."""
    try:
        yield
    except Unreadable as stop:
        if stop.args:
            findings.error(*stop.args)
    except (*_DAMAGE, pl.exceptions.PolarsError, fastexcel.FastExcelError) as error:
        reason = " ".join(str(error).split())
        findings.error(f"it is damaged, or of another format than it seems ({reason:.100})")


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
    for mark, name in _OTHER.items():
        if start.startswith(mark):
            raise Unreadable(f"it is {name}: save it as CSV in UTF-8, JSON lines or Parquet")
    if start.startswith(b"PK\3\4"):
        return _unzipped(path)
    if start.startswith(b"\x1f\x8b"):
        return "gzip", partial(gzip.open, path, "rb")
    typed = {b"PAR1": "Parquet", b"\xd0\xcf\x11\xe0": "Excel"}
    return typed.get(start[:4], ""), partial(path.open, "rb")


def _unzipped(path: Path) -> tuple[str, Opener]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "xl/workbook.xml" in names:
        return "Excel", partial(path.open, "rb")
    names = [name for name in names if not name.startswith("__MACOSX") and name[-1:] != "/"]
    if len(names) != 1:
        raise Unreadable(f"it is a zip of {counted(len(names), 'file')}: unpack it, and name one")
    return "zip", lambda: zipfile.ZipFile(path).open(names[0])
