"""Times as tables write them: one clock, exact order, and refusals."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.datasets.table_times import read_time

SECOND = 10**9


@given(
    st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_a_moment_is_the_same_in_all_formats(moment: datetime, minutes: int) -> None:
    local = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    there = local.astimezone(UTC)
    since = there - datetime(1970, 1, 1, tzinfo=UTC)
    micro = (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds
    assert read_time(local.isoformat()) == (1000 * micro, "ISO 8601 with a time zone")
    naive = there.replace(tzinfo=None)
    assert read_time(naive.isoformat(" ")) == (1000 * micro, "ISO 8601 without a time zone")
    assert read_time(f"{micro // 10**6}.{micro % 10**6:06}") == (1000 * micro, "unix seconds")
    assert read_time(f"{micro // 1000}") == (micro // 1000 * 10**6, "unix milliseconds")
    assert read_time(f"{micro}") == (1000 * micro, "unix microseconds")
    assert read_time(f"{micro}001") == (1000 * micro + 1, "unix nanoseconds")


@given(st.lists(st.decimals(-9 * SECOND, 9 * SECOND, places=4), min_size=2, max_size=2))
def test_numbers_keep_their_order_exactly(numbers: list[object]) -> None:
    one, other = (read_time(str(number))[0] for number in numbers)
    exact = [Fraction(str(number)) for number in numbers]
    assert (one < other, one == other) == (exact[0] < exact[1], exact[0] == exact[1])


def test_dates_are_midnight() -> None:
    assert read_time("1970-01-02")[0] == 86_400 * SECOND
    assert read_time("1970-01-02T00:00Z")[0] == 86_400 * SECOND
    assert read_time("1970-W01-5")[0] == 86_400 * SECOND


def test_the_size_of_a_number_decides_its_unit_before_1970_too() -> None:
    assert read_time("-200000000000") == (-200 * 10**6 * SECOND, "unix milliseconds")
    assert read_time("-9000000000") == (-9 * SECOND**2, "unix seconds")
    assert read_time("-0.5") == (-SECOND // 2, "unix seconds")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("18991231", "unix seconds"),
        ("20240132", "unix seconds"),
        ("20241301", "unix seconds"),
        ("21000101", "unix seconds"),
        ("20240131.5", "unix seconds"),
        ("978300760", "unix seconds"),
        ("202401312405", "unix milliseconds"),
        ("2024-01-31", "ISO 8601 without a time zone"),
        ("20240131T1805", "ISO 8601 without a time zone"),
    ],
)
def test_what_is_no_date_of_our_time_is_a_number(text: str, unit: str) -> None:
    assert read_time(text)[1] == unit


@given(st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31)))
def test_any_date_without_dashes_is_refused(moment: datetime) -> None:
    for form in ("%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S"):
        with pytest.raises(ValueError, match="could be a date without dashes or unix"):
            read_time(moment.strftime(form))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no time: write unix seconds"),
        ("31/01/2024", "day or the month first: say --time-format '%d/%m/%Y' or"),
        ("yesterday", "is no time"),
        ("nan", "is no time"),
        ("inf", "is no time"),
        ("1 700", "is no time"),
        ("1,7", "is no time"),
        ("0x10", "is no time"),
        ("١٢", "is no time"),
        ("2024-02-30", "is no time"),
        ("1.70412E+12", "a spreadsheet has rounded: give the column"),
        ("1e999999999", "is too large"),
        ("1,7E9", "a spreadsheet has rounded"),
        ("9" * 31, "is no time"),
        ("1" + "0" * 20, "is too large"),
        ("99999999999", "outside the years 1678 to 2261"),
        ("9999-12-31", "outside the years"),
        ("0001-01-01T00:00+23:59", "outside the years"),
        ("9999-12-31T23:59-23:59", "outside the years"),
    ],
)
def test_what_is_no_time_is_refused_with_a_remedy(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("+", r"\+")):
        read_time(text)


@given(st.text(max_size=30))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert -(2**63) <= read_time(text)[0] < 2**63
