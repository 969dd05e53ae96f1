"""What is wrong with a table is said with file, line, column, value and remedy."""

import re
from pathlib import Path

import pytest

from nezha_lite.datasets import TableLayout, TableReport, check_tables, read_tables
from nezha_lite.datasets.table_text import LONGEST_LINE
from tests.helpers.own_tables import GOOD, ITEMS, checked

TIME = (
    "write unix seconds or milliseconds, or ISO 8601 such as 2024-01-31T18:05, or give its form, "
    "such as --time-format '%d.%m.%Y %H:%M'"
)
EMPTY = "is empty: name one, delete the row, or leave such rows out by --drop-bad-rows"
UTF8 = "save the table as UTF-8, or name its encoding, such as --encoding cp1252"
QUOTED = 'quote cells that contain ",", and leave unknown ones empty'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(report: TableReport, with_items: bool = False) -> str:
    """What `read_tables` says of these tables."""
    with pytest.raises(ValueError, match=r"\.$") as raised:
        read_tables("orders.csv", "items.csv" if with_items else None)
    with pytest.raises(ValueError, match=re.escape(str(raised.value))):
        report.check()
    return str(raised.value)


def test_good_tables_have_no_problem() -> None:
    report = checked(GOOD + "ann,3,4\n", ITEMS)
    assert report.problems == ()
    assert (report.users, report.items, report.interactions) == (1, 3, 4)
    assert str(report).splitlines() == [
        "orders.csv: text separated by ',', with a header, utf-8; user from 'user', item from "
        "'item', time from 'time'; first row: ann, 1, 1. Times are unix seconds, the first is "
        "1970-01-01T00:00:01 UTC.",
        "items.csv: text separated by ',', with a header, utf-8; item from 'item', title from "
        "'title'; first row: 1, Mug.",
        "Readable: 4 interactions, 1 user, 3 items.",
        "Nothing is wrong.",
    ]


# ---- errors --------------------------------------------------------------------------------------

BAD_ORDERS: list[tuple[str | bytes, str]] = [
    ("", ": it holds no header: write the names of the columns on line 1"),
    ("\n\n,,\n", ": it holds no header: write the names of the columns on line 1"),
    ("user,item,time\n", ": it has no rows below its header: add some"),
    (
        "User,item,date\nann,1,1\n",
        ", line 1, column 'user': is missing, the header has 'User', 'item' and 'date': "
        "name it by --user (and 1 more error, listed by check_tables)",
    ),
    (
        "\nuser,item\nann,1\n",
        ", line 2, column 'time': is missing, the header has 'user' and 'item': name it by "
        "--time, or take the order of the file by --file-order",
    ),
    (
        "user/item/time\nann/1/1\n",
        ", line 1, column 'user': is missing, the header has 'user/item/time': name it by --user, "
        "or name the separator by --separator (and 2 more errors, listed by check_tables)",
    ),
    (
        "ann,1,1\nann,2,2\n",
        ", line 1: 'ann,1,1' looks like data, not like the names of columns: say --no-header and "
        "which is which, such as --user 1 --item 2 --time 3; or --sequences if each line is a "
        "user and their items",
    ),
    (
        "user,item,time,item\nann,1,1,2\n",
        ", line 1, column 'item': stands twice in the header: rename one",
    ),
    (GOOD + ",4,4\n", f", line 5, column 'user': '' {EMPTY}"),
    (GOOD + "ann,  ,4\n", f", line 5, column 'item': '' {EMPTY}"),
    (
        GOOD + "ann,4,\n",
        f", line 5, column 'time': '' is no time: {TIME}, or leave such rows out by "
        "--drop-bad-rows",
    ),
    (
        GOOD + "ann,4,31/01/24\n",
        ", line 5, column 'time': '31/01/24' may have the day or the month first: say "
        "--time-format '%d/%m/%Y' or '%m/%d/%Y', and the time of day such as %H:%M or %I:%M %p",
    ),
    (GOOD + "ann,4\n", f", line 5: 'ann,4' has 2 cells, but the header has 3: {QUOTED}"),
    (GOOD + "ann\n", f", line 5: 'ann' has 1 cell, but the header has 3: {QUOTED}"),
    (
        GOOD + "ann,Mug, red,4\n",
        f", line 5: 'ann,Mug, red,4' has 4 cells, but the header has 3: {QUOTED}",
    ),
    (
        GOOD + "ann,4\0,4\n",
        ", line 5: it holds a NUL byte, which no text does (UTF-16 looks like this): save the "
        "table as UTF-8, or name its encoding, such as --encoding utf-16-le",
    ),
    (
        GOOD.encode() + b"ann,caf\xe9,4\n",
        f", line 5: byte 0xe9 is not UTF-8: {UTF8}",
    ),
    (
        GOOD.encode() + b"ann,4,4\ncaf\xc3",
        f", line 6: byte 0xc3 is not UTF-8: {UTF8}",
    ),
    (
        GOOD + f'ann,"{"x" * 131_073}",4\n',
        ", line 5: a cell has more than 131,072 characters: shorten it, or close the quote that "
        "opens it",
    ),
    (
        GOOD + "x" * LONGEST_LINE,
        f", line 5: it has {LONGEST_LINE:,} characters or more: write one row on a line, as text",
    ),
    (
        GOOD + 'ann,"4,4\nann,5,5\n',
        ', line 5: a quote is opened here and never closed: close it, write "" for a quote in a '
        "cell, or say --quote none if quotes are text",
    ),
    (
        GOOD + 'ann,"5" nail",4\n',
        ', line 5: a quoted cell goes on after its end: write "" for a quote inside it, or say '
        "--quote none if quotes are text",
    ),
]


@pytest.mark.parametrize(("orders", "sentence"), BAD_ORDERS)
def test_errors_of_the_interactions(orders: str | bytes, sentence: str) -> None:
    assert refused(checked(orders)) == f"orders.csv{sentence}."


BAD_ITEMS: list[tuple[str, str]] = [
    ("", ": it holds no header: write the names of the columns on line 1"),
    ("item,title\n", ": it has no rows below its header: add some"),
    (
        "id,title\n1,Mug\n",
        ", line 1, column 'item': is missing, the header has 'id' and 'title': name it by "
        "--items-item",
    ),
    (
        "item,name\n1,Mug\n",
        ", line 1, column 'title': is missing, the header has 'item' and 'name': name it by "
        "--title",
    ),
    (ITEMS + " ,Lid\n", f", line 5, column 'item': '' {EMPTY}"),
    (
        ITEMS + "2,Lid\n",
        ", line 5, column 'item': '2' has two rows that differ: keep the right one",
    ),
]


@pytest.mark.parametrize(("items", "sentence"), BAD_ITEMS)
def test_errors_of_the_items(items: str, sentence: str) -> None:
    assert refused(checked(GOOD, items), with_items=True) == f"items.csv{sentence}."


def test_a_bad_byte_far_into_a_file_is_found() -> None:
    # Every length of what stands before, so that a character is also cut by a chunk's end.
    before = GOOD.encode() + b"ann,5,5\n" * 9000
    for filler in (b"", b"x", b"xx"):
        row = b"ann," + filler + "\u20ac\u00e9".encode() * 3000
        content = before + row + b"\xff,4\n"
        (problem,) = checked(content).errors
        assert problem.line == 9005
        assert "byte 0xff is not UTF-8" in problem.what


def test_the_line_of_a_bad_byte_is_counted_by_all_line_ends() -> None:
    mark = "\ufeff".encode()
    (problem,) = checked(mark + b"user,item,time\rann,1,1\rann,caf\xe9,2\r").errors
    assert (problem.line, problem.what[:13]) == (3, "byte 0xe9 is ")
    (problem,) = checked(b'user,item,time\nann,"1\n\xff",1\n').errors
    assert (problem.line, problem.what[:13]) == (3, "byte 0xff is ")


def test_rows_above_a_bad_byte_are_checked() -> None:
    found = checked(GOOD.encode() + b"ann,4,soon\nann,\xff,5\n").errors
    assert [(problem.line, problem.column) for problem in found] == [(5, "time"), (6, None)]


def test_what_is_no_file_is_said() -> None:
    Path("folder").mkdir()
    (problem,) = check_tables("folder").errors
    assert str(problem) == "folder: it is a folder: name the file in it."
    (problem,) = check_tables("nothing.csv").errors
    assert str(problem) == "nothing.csv: there is no such file: name one."
    with pytest.raises(ValueError, match=r"^nothing\.csv: there is no such file"):
        read_tables("nothing.csv")


def test_a_renamed_column_must_be_there() -> None:
    checked(GOOD, ITEMS)
    layout = TableLayout(brand="maker")
    (problem,) = check_tables("orders.csv", "items.csv", layout).errors
    assert (problem.file, problem.line, problem.column) == ("items.csv", 1, "maker")


@pytest.mark.parametrize("time", ["20240131", "20240131.0", "202401311805", "20240131180500"])
def test_a_date_without_dashes_is_not_read_as_unix_time(time: str) -> None:
    """Read as unix seconds, 20240131 would lie in August 1970."""
    unit = "milliseconds" if len(time) > 10 else "seconds"
    form = {8: "%Y%m%d", 10: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}[len(time)]
    sentence = refused(checked(f"user,item,time\nann,1,{time}\n"))
    assert sentence == (
        f"orders.csv, line 2, column 'time': '{time}' could be a date without dashes or unix "
        f"{unit}: say which by --time-format {form} or unix, or write 2024-01-31."
    )


def test_times_of_several_formats_are_refused() -> None:
    """Each is a time, but some column of them may be wrong: of 1970 or in another zone."""
    times = ("2024-01-02", 1704067200, 1704067200001, "2024-01-01T02:00+01:00", "2024-01-03 18:05")
    rows = "".join(f"ann,{item},{time}\n" for item, time in enumerate(times))
    report = checked("user,item,time\n" + rows)
    assert [str(error) for error in report.errors] == [
        f"orders.csv, line {line}, column 'time': '{times[line - 2]}' is {form}, line 2 has "
        "ISO 8601 without a time zone: write all times of the column in one format."
        for line, form in (
            (3, "unix seconds"),
            (4, "unix milliseconds"),
            (5, "ISO 8601 with a time zone"),
        )
    ]
    assert "(and 2 more errors" in refused(report)


def test_all_errors_are_listed_at_once_and_the_first_is_raised() -> None:
    rows = ["ann,4,x", "ann,5,y", ",6,6", "ann,7", *(f"ann,8,z{n}" for n in range(9))]
    report = checked(GOOD + "\n".join(rows) + "\n", ITEMS + "2,Lid\n")
    found = [
        (problem.file, problem.line, problem.column, problem.value, problem.count)
        for problem in report.errors
    ]
    assert found == [
        ("orders.csv", 5, "time", "x", 11),
        ("orders.csv", 7, "user", "", 1),
        ("orders.csv", 8, None, "ann,7", 1),
        ("items.csv", 5, "item", "2", 1),
    ]
    assert report.interactions == 3
    assert str(report.errors[0]).endswith(
        "%H:%M'. Also line 6 ('y'), line 9 ('z0'), line 10 ('z1'), line 11 ('z2'), 6 more."
    )
    assert "(and 13 more errors, listed by check_tables)." in refused(report, with_items=True)
    assert str(report).splitlines()[2:] == [
        "Readable: 3 interactions, 1 user, 3 items.",
        "Errors, to be mended before the tables can be read:",
        *(f"- {problem}" for problem in report.errors),
    ]


def test_a_long_value_is_cut_short() -> None:
    (problem,) = checked(GOOD + f"ann,4,{'x' * 1000}\n").errors
    assert len(str(problem)) < 250
    assert problem.value == "x" * 1000
