"""Tables in CSV through the command line: what is wrong is said, and nothing is written.

What each sentence says is tested in test_table_problems.py; here are the promises around it, and
tables that are no tables.
"""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nezha_lite.datasets import read_tables
from tests.faults.data_folders import loop, nowhere
from tests.faults.promises import Fault, each, refused, refused_by_command, traced
from tests.helpers.shops import Run

pytestmark = pytest.mark.fault_class("data: tables in CSV")

HEADER = "user,item,time\n"
GOOD = HEADER + "ann,1,1\nann,2,2\nbob,1,3\nbob,2,4\n"
ITEMS = "item,title\n1,Mug\n2,Pot\n"
TIME = "is no time"


def table(content: str | bytes) -> Callable[[Path], object]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda path: path.write_bytes(raw)


def fault(name: str, content: str | bytes, *says: str) -> Fault:
    return Fault(name, table(content), says)


ORDERS = [
    fault("empty", "", "no header", "line 1"),
    fault("blanks and line ends", " \n\t\n\r\n", "no header"),
    fault("a header alone", HEADER, "no rows", "add some"),
    fault("no header", "ann,1,1\nbob,2,2\n", "line 1", "looks like data", "--no-header"),
    fault("slashes", GOOD.replace(",", "/"), "line 1", "is missing", "--separator"),
    fault("a JSON list of lists", "[[1, 2, 3]]", "damaged"),
    fault("JSON", '{"ann": [1, 2]}', "line 1", "is missing"),
    fault("a column twice", "user,item,time,user\na,1,1,b\n", "'user'", "twice", "rename one"),
    fault("columns in capitals", GOOD.replace("user", "USER"), "'user'", "is missing", "'USER'"),
    fault("a row too short", GOOD + "ann,3\n", "line 6", "2 cells", "header has 3"),
    fault("a row too long", GOOD + "ann,3,5,9\n", "line 6", "4 cells", "header has 3"),
    fault("cut in its last row", GOOD + "ann", "line 6", "1 cell", "header has 3"),
    fault("no user", GOOD + " ,3,5\n", "line 6", "'user'", "is empty"),
    fault("no item", GOOD + "ann,,5\n", "line 6", "'item'", "is empty"),
    fault("no time", GOOD + "ann,3,\n", "line 6", "'time'", "ISO 8601"),
    fault("a time in words", GOOD + "ann,3,today\n", "line 6", "'today'", "ISO 8601"),
    fault("a time that is NaN", GOOD + "ann,3,NaN\n", "line 6", "'NaN'", "ISO 8601"),
    fault("a time that is infinite", GOOD + "ann,3,inf\n", "line 6", "'inf'", "ISO 8601"),
    fault("a time in hex", GOOD + "ann,3,0x5F\n", "line 6", "'0x5F'", "ISO 8601"),
    fault("a time a spreadsheet rounded", GOOD + "ann,3,1.7E+09\n", "line 6", "'1.7E+09'"),
    fault("a time of 5000 digits", GOOD + f"ann,3,{'9' * 5000}\n", "line 6", "'999", TIME),
    fault("a time beyond all years", GOOD + f"ann,3,{10**22}\n", "line 6", "too large"),
    fault("the 13th month", GOOD + "ann,3,2024-13-01\n", "line 6", "'2024-13-01'", TIME),
    fault("the 30th of February", GOOD + "ann,3,2024-02-30\n", "line 6", "'2024-02-30'"),
    fault("the year 9999", GOOD + "ann,3,9999-12-31\n", "line 6", "1678 to 2261"),
    fault("the year 1", GOOD + "ann,3,0001-01-01T00:00+23:59\n", "line 6", "'0001-01-01"),
    fault("digits of another script", GOOD + "ann,3,\u0661\u0662\n", "line 6", TIME),
    fault("a NUL byte", GOOD + "ann,\0,5\n", "line 6", "NUL byte", "--encoding utf-16-le"),
    fault("NUL bytes at its end", GOOD.encode() + bytes(64), "line 6", "NUL byte"),
    fault("NUL bytes only", bytes(4096), "NUL byte"),
    fault("UTF-16 without its mark", GOOD.encode("utf-16-le"), "NUL byte", "UTF-8"),
    fault("Latin-1", GOOD.encode() + b"\xe9va,3,5\n", "line 6", "0xe9", "--encoding"),
    fault("Windows-1252", GOOD.encode() + b"ann,\x9399\x94,5\n", "line 6", "0x93", "UTF-8"),
    fault("Shift JIS", HEADER.encode() + "茶,1,1\n".encode("shift-jis"), "line 2", "UTF-8"),
    fault("cut in a character", GOOD.encode() + "ann,3€".encode()[:-1], "line 6", "UTF-8"),
    fault("a picture", b"\x89PNG\r\n\x1a\n" + bytes(64), "a picture", "UTF-8"),
    fault("a workbook", b"PK\3\4\x14\0\x06\0" + bytes(64), "damaged"),
    fault("a NumPy array", b"\x93NUMPY" + bytes(64), "a NumPy array", "Parquet"),
    fault("half a gzip", gzip.compress(GOOD.encode() * 99)[:80], "damaged"),
    fault("half a Parquet", b"PAR1" + bytes(64), "damaged"),
    fault("a quote never closed", GOOD + '"ann,3,5\n', "line 6", "never closed"),
    fault("text behind a quote", GOOD + '"ann"a,3,5\n', "line 6", "goes on after its end"),
    fault("a cell of a megabyte", GOOD + f"{'x' * 2**20},3,5\n", "line 6"),
    fault("a line without end", HEADER + "x" * (3 * 2**20), "line 2", "characters"),
    fault("a header of a million columns", "user," * 200_000 + "x\n", "line 1"),
]


@each(
    [
        fault("semicolons", GOOD.replace(",", ";")),
        fault("tabs", GOOD.replace(",", "\t")),
        fault("bars", GOOD.replace(",", "|")),
        fault("blanks between cells", GOOD.replace(",", "  ")),
        fault("UTF-16", GOOD.encode("utf-16")),
        fault("UTF-32", GOOD.encode("utf-32")),
        fault("gzip", gzip.compress(GOOD.encode())),
    ]
)
def test_what_a_table_is_written_in_is_recognised(fault: Fault, tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(GOOD)
    fault.make(tmp_path / "orders.csv")
    assert read_tables(tmp_path / "orders.csv", name="good") == read_tables(tmp_path / "good.csv")


def imported(folder: Path) -> tuple[object, ...]:
    return ("import", folder / "orders.csv", folder / "out")


def refused_report(cli: Run, command: tuple[object, ...], says: tuple[str, ...]) -> None:
    """The report goes to stdout; its first error, as one sentence, to stderr."""
    answer = cli(*command)
    assert answer.status == 2
    (line,) = answer.err.splitlines()
    for words in says:
        assert words in line
    assert line.removeprefix("nezha-lite: ")[:60] in answer.out
    assert "Traceback" not in answer.err


@each(ORDERS)
def test_bad_interactions_are_refused(fault: Fault, tmp_path: Path, cli: Run) -> None:
    fault.make(tmp_path / "orders.csv")
    says = ("orders.csv", *(words for words in fault.says if words != "line 1"))
    refused(lambda: read_tables(tmp_path / "orders.csv"), says, tmp_path)
    refused_report(cli, imported(tmp_path), says)
    assert [path.name for path in tmp_path.iterdir()] == ["orders.csv"]


@each(
    [
        fault("empty", "", "no header"),
        fault("a header alone", "item,title\n", "no rows"),
        fault("another separator", ITEMS.replace(",", "/"), "--items-separator"),
        fault("other items", "item,title\nx,Mug\n", "is in the item table", "--items-item"),
        fault("no item column", ITEMS.replace("item", "sku"), "'item'", "'sku'"),
        fault("no text column", ITEMS.replace("title", "label"), "'title'", "'label'"),
        fault("an item without name", ITEMS + ",Pan\n", "line 4", "'item'", "is empty"),
        fault("an item twice", ITEMS + "2,Pan\n", "line 4", "'2'", "two rows that differ"),
        fault("a row too long", ITEMS + "3,Pan,big\n", "line 4", "3 cells"),
        fault("a NUL byte", ITEMS + "3,\0\n", "line 4", "NUL byte"),
        fault("Latin-1", ITEMS.encode() + b"3,Po\xealon\n", "line 4", "0xea"),
        fault("a quote never closed", ITEMS + '3,"5 inch pan\n', "line 4", "never closed"),
    ]
)
def test_bad_item_tables_are_refused(fault: Fault, tmp_path: Path, cli: Run) -> None:
    orders, items = tmp_path / "orders.csv", tmp_path / "items.csv"
    orders.write_text(GOOD)
    fault.make(items)
    says = ("items.csv", *fault.says)
    refused(lambda: read_tables(orders, items), says, tmp_path)
    refused_report(cli, ("import", orders, items, tmp_path / "out"), says)
    assert not (tmp_path / "out").exists()


@each(
    [
        Fault("missing", lambda path: None, ("no such file",)),
        Fault("a folder", Path.mkdir, ("it is a folder",)),
        Fault("a link to nothing", nowhere, ("no such file",)),
        Fault("a link to itself", loop, ("cannot be opened",)),
        Fault("a device without end", lambda path: path.symlink_to("/dev/zero"), ("orders.csv",)),
    ]
)
def test_what_is_no_table_is_refused(
    fault: Fault, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.make(tmp_path / "orders.csv")
    says = ("orders.csv", *fault.says)
    refused(lambda: read_tables(tmp_path / "orders.csv"), says, tmp_path)
    refused_report(cli, imported(tmp_path), says)
    traced(monkeypatch, imported(tmp_path))


def test_an_older_data_set_is_not_touched(tmp_path: Path, cli: Run) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)
    assert cli(*imported(tmp_path)).status == 0
    says = ("out.inter.json already exists", "name another folder")
    answer = cli(*imported(tmp_path))
    (line,) = answer.err.splitlines()
    assert re.search(".*".join(map(re.escape, says)), line)
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    (tmp_path / "out" / "out.index.json").write_text("{}")
    answer = cli(*imported(tmp_path))
    assert "out.index.json already exists" in answer.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["out.index.json"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, cli: Run) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.iterdir())
    for folder, words in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "in", "file")):
        answer = cli("import", tmp_path / "orders.csv", folder)
        assert answer.status == 2
        (line,) = answer.err.splitlines()
        assert words in line
        assert sorted(tmp_path.iterdir()) == before


def test_bad_options_are_refused_before_reading(tmp_path: Path, cli: Run) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)
    for options, says in (
        (("--encoding", "x"), ("'x'",)),
        (("--time-format", "iso"), ("'iso'",)),
        (("--separator", ""), ("''",)),
        (("--separator", "\n"), (r"'\n'",)),
        (("--separator", '"'), ("'\"'",)),
        (("--user", ""), ("''",)),
        (("--user", "item"), ("'item'",)),
    ):
        refused_by_command(cli, (*imported(tmp_path), *options), says, tmp_path)
