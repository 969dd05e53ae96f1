"""What is odd about a table but does not hinder reading it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from nezha_lite.datasets import TableReport, read_tables
from nezha_lite.datasets.own_tables import LONG_HISTORY
from tests.helpers.own_tables import GOOD, ITEMS, checked


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def remarks(report: TableReport) -> list[str]:
    """All but the one on short histories, which tables as small as these deserve."""
    assert not report.errors
    return [str(remark) for remark in report.remarks if "fewer than 4" not in remark.what]


def orders(*rows: Sequence[object]) -> str:
    return "user,item,time\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


def test_items_that_one_table_lacks_are_remarked_on() -> None:
    assert remarks(checked(GOOD + "ann,4,4\nann,5,5\nann,4,6\n", ITEMS + "6,Lid\n")) == [
        "orders.csv, line 5, column 'item': '4' is not in the item table: it is read without a "
        "text. Also line 6 ('5').",
        "items.csv, line 5, column 'item': '6' is in no interaction: it can be recommended, but "
        "no user is known to have taken it.",
    ]
    dataset = read_tables("orders.csv", "items.csv")
    assert [dataset.title(item) for item in range(6)] == [
        "Mug",
        "Pot",
        "Pan",
        "item 4",
        "item 5",
        "Lid",
    ]


def test_an_item_row_that_is_repeated_is_remarked_on() -> None:
    assert remarks(checked(GOOD, ITEMS + "3,Pan\n")) == [
        "items.csv, line 5, column 'item': '3' has the same row twice: one is read."
    ]


def test_short_histories_are_remarked_on() -> None:
    report = checked(GOOD + "bob,1,1\ncid,1,1\nbob,2,2\ncid,2,2\ncid,3,3\nann,9,9\n")
    assert [str(remark) for remark in report.remarks] == [
        "orders.csv, line 5, column 'user': 'bob' has fewer than 4 interactions: training needs 4, "
        "as the last two are held out, and evaluation needs 3. Also line 6 ('cid')."
    ]
    assert len(read_tables("orders.csv").split("test")) == 2


@pytest.mark.parametrize("length", [LONG_HISTORY - 1, LONG_HISTORY])
def test_very_long_histories_are_remarked_on(length: int) -> None:
    report = checked(orders(*(("till", place, place) for place in range(length))))
    expected = (
        f"orders.csv, line 2, column 'user': 'till' has {LONG_HISTORY:,} interactions or more: "
        "make sure it is a person, not a robot."
    )
    assert remarks(report) == [expected] * (length == LONG_HISTORY)


def test_repeated_rows_and_equal_times_are_remarked_on() -> None:
    report = checked(GOOD + "ann,3,3\nann,4,3\nbob,1,1\nbob,2,2\nbob,1,3\n")
    assert remarks(report) == [
        "orders.csv, line 2, column 'user': 'ann' has interactions of equal time: they are kept "
        "in the order of the file, so that the order of 25.0% of all rows is unknown.",
        "orders.csv, line 5, column 'item': '3' is a repetition of this user's item and time: it "
        "is kept, unless --drop-repeats is said.",
    ]


def test_times_that_are_all_equal_are_remarked_on_once() -> None:
    report = checked(orders(("ann", 1, 7), ("ann", 2, 7), ("ann", 3, 7)))
    assert remarks(report) == [
        "orders.csv, line 2, column 'time': '7' is the time of every row: the order of the file "
        "is taken for the order of time."
    ]


def test_half_a_table_is_not_remarked_on() -> None:
    assert not checked(GOOD + "bob,1,x\ncid,1,1\n", ITEMS).remarks
    assert not checked(GOOD + "ann,4,4\n", "item,title\n1,Mug\n2\n").remarks
