"""Files of a data set that are no JSON, or not in UTF-8, or no files."""

import gzip
import json
import os
from pathlib import Path

import pytest

from nezha_lite.datasets import load_folder
from tests.faults.data_folders import GOOD, loop, nowhere, parts, replaced
from tests.faults.promises import Fault, each, refused, refused_by_command, traced
from tests.helpers.shops import Run

pytestmark = pytest.mark.fault_class("data: JSON that cannot be read")

PARTS = ("inter", "item", "index")
REMEDY = "must be a JSON object in UTF-8, but "
TEXT = {part: json.dumps(GOOD[part], indent=1) for part in PARTS}


def broken(part: str, name: str, content: str | bytes, *says: str) -> Fault:
    file = f"shop.{part}.json"
    return Fault(f"{part}: {name}", parts(**{part: content}), (file, *says))


def of(part: str) -> list[Fault]:
    text = TEXT[part]
    lines = text.splitlines()
    raw = text.encode()
    comma = text.replace(",\n", ",,\n", 1)
    return [
        broken(part, "empty", b"", REMEDY, "line 1 column 1"),
        broken(part, "only blanks", " \n\n ", REMEDY, "line 3 column 2"),
        *(
            broken(part, f"cut after line {line}", "\n".join(lines[:line]), REMEDY, "line")
            for line in (1, 2, len(lines) - 1)
        ),
        broken(part, "cut inside a name", text[: text.index('"') + 2], REMEDY, "line 2 column 2"),
        broken(part, "single quotes", text.replace('"', "'"), REMEDY, "line 2 column 2"),
        broken(part, "a comma twice", comma, REMEDY, "line "),
        broken(part, "a comment", "# mine\n" + text, REMEDY, "line 1 column 1"),
        broken(part, "two objects", text + text, REMEDY, "Extra data", f"line {len(lines)}"),
        broken(part, "one object a line", '{"1": 1}\n{"2": 1}', REMEDY, "line 2 column 1"),
        broken(part, "NUL bytes at its end", raw + b"\0\0", REMEDY, f"line {len(lines)}"),
        broken(part, "a NUL byte in a name", raw.replace(b'"', b'"\0', 1), REMEDY, "line 2"),
        broken(part, "NUL bytes only", b"\0" * 64, REMEDY, "line 1 column 1"),
        broken(part, "UTF-16", text.encode("utf-16"), REMEDY, "byte 0xff in position 0"),
        broken(part, "UTF-16 without its mark", text.encode("utf-16-le"), REMEDY, "line 1"),
        broken(part, "UTF-32", text.encode("utf-32"), REMEDY, "byte 0xff in position 0"),
        broken(part, "Latin-1", raw.replace(b'"', b'"\xe9', 1), REMEDY, "byte 0xe9"),
        broken(part, "compressed", gzip.compress(raw), REMEDY, "byte 0x8b in position 1"),
        broken(part, "an over-long UTF-8 form", b'{"\xc0\x80": 1}', REMEDY, "byte 0xc0"),
        broken(part, "a surrogate in UTF-8", b'{"\xed\xa0\x80": 1}', REMEDY, "byte 0xed"),
        broken(part, "half a surrogate pair", '{\n"\\ud83d": 1}', REMEDY, "line 2", "\\ud83d"),
        broken(part, "the other half", '{"x": "\\\\ \\uDE00"}', REMEDY, "line 1", "\\uDE00"),
        broken(part, "too deep lists", '{"1": ' + "[" * 99_999, REMEDY, "nested too deeply"),
        broken(part, "too deep objects", '{"1":' * 99_999, REMEDY, "nested too deeply"),
        broken(part, "a number of 5000 digits", f'{{"1": {"9" * 5000}}}', REMEDY, "4,300 digits"),
        *(
            broken(part, f"{top} instead of an object", top, "must be a JSON object")
            for top in ("null", "3", '"text"', "[]", "NaN")
        ),
        broken(part, "a name twice", '{"1": [], "1": []}', REMEDY, "'1' occurs 2 times"),
    ]


FAULTS = [fault for part in PARTS for fault in of(part)]


@each(FAULTS)
def test_what_is_no_json_is_refused(fault: Fault, tmp_path: Path, cli: Run) -> None:
    shop = fault.make(tmp_path)
    refused(lambda: load_folder(shop), fault.says, tmp_path)
    refused_by_command(cli, ("data", shop), fault.says, tmp_path)


@each(
    [
        Fault(f"{part}: {name}", replaced(part, put), (f"shop.{part}.json", "is not a file", words))
        for part in PARTS
        for name, put, words in (
            ("a folder", Path.mkdir, "delete"),
            ("a link to nothing", nowhere, "delete"),
            ("a link to itself", loop, "delete"),
            ("a pipe without a writer", os.mkfifo, "delete"),
            ("a device without end", lambda path: path.symlink_to("/dev/zero"), "delete"),
        )
    ]
)
def test_what_is_no_file_is_refused_at_once(fault: Fault, tmp_path: Path, cli: Run) -> None:
    shop = fault.make(tmp_path)
    refused(lambda: load_folder(shop), fault.says, tmp_path)
    refused_by_command(cli, ("data", shop), fault.says, tmp_path)


def folder_that_is(put: object) -> object:
    def make(folder: Path) -> Path:
        put(folder / "shop")  # type: ignore[operator]
        return folder / "shop"

    return make


@each(
    [
        Fault("the folder is a file", folder_that_is(Path.touch), ("shop is a file",)),
        Fault("the folder is missing", lambda folder: folder / "shop", ("shop",)),
        Fault("the folder is a link to nothing", folder_that_is(nowhere), ("shop",)),
        Fault("the folder is a link to itself", folder_that_is(loop), ("shop",)),
        Fault("the folder is empty", folder_that_is(Path.mkdir), ("must hold shop.inter.json",)),
        Fault("no histories", parts(inter=None), ("must hold shop.inter.json", "0 files")),
        Fault("a name of 300 letters", lambda folder: folder / ("x" * 300), ("xxx", "too long")),
    ]
)
def test_folders_that_are_none_are_refused(
    fault: Fault, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = fault.make(tmp_path)
    refused(lambda: load_folder(shop), fault.says, tmp_path)
    refused_by_command(cli, ("data", shop), fault.says, tmp_path)
    traced(monkeypatch, ("data", shop))
