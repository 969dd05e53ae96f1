"""Times as tables write them, in nanoseconds since 1970: exact, and never guessed."""

from __future__ import annotations

import re
from bisect import bisect
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,9})?")
# A spreadsheet writes 1.70412E+12 for whatever has more digits; a program writes all it has.
_ROUNDED = re.compile(r"[+-]?[0-9](\.[0-9]{0,5})?[eE]\+[0-9]+|[+-]?[0-9]+,[0-9]*[eE][+-]?[0-9]+")
_DATES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by their digits
# Below this size (in its own unit) a number is taken for that unit. A present-day time has 10
# digits in seconds and three more in each finer unit, so that units cannot be confused after 1973.
_BELOW = (10**11, 10**14, 10**17, 10**20)
_UNITS = ("unix seconds", "unix milliseconds", "unix microseconds", "unix nanoseconds")
_NAIVE, _ZONED = "ISO 8601 without a time zone", "ISO 8601 with a time zone"
_ISO = (
    r"^(1[7-9]|2[01])\d\d-\d\d-\d\d([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?"
    r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d| ?UTC)?)?$"
)
VALID = (
    "write unix seconds or milliseconds, or ISO 8601 such as 2024-01-31T18:05, or give its form, "
    "such as --time-format '%d.%m.%Y %H:%M'"
)


def read_time(text: str) -> tuple[int, str]:
    """Nanoseconds since 1970 in UTC, and the format's name.

    A number is unix time, in seconds below 10^11, in milliseconds below 10^14, and so on; anything
    else is ISO 8601, in UTC where it names no zone. A number that can also be read as a date of
    the years 1900 to 2099 is refused.

    Raises:
        ValueError: saying what would be valid, to be read after the value.
    """
    if _ROUNDED.fullmatch(text):
        remedy = "give the column the format of whole numbers before saving it"
        raise ValueError(f"is a time that a spreadsheet has rounded: {remedy}")
    if _NUMBER.fullmatch(text):
        number = Decimal(text)
        unit = bisect(_BELOW, number.copy_abs())
        if unit == len(_UNITS):
            raise ValueError(f"is too large for a time: {VALID}")
        if form := _date_form(number):
            remedy = f"say which by --time-format {form} or unix, or write 2024-01-31"
            raise ValueError(f"could be a date without dashes or {_UNITS[unit]}: {remedy}")
        return _within(int(number * 1000 ** (3 - unit))), _UNITS[unit]
    try:
        moment = datetime.fromisoformat(re.sub(" ?UTC$", "Z", text))
    except ValueError:
        raise ValueError(_remedy(text)) from None
    return _within(nanoseconds(moment)), _ZONED if moment.tzinfo else _NAIVE


def nanoseconds(moment: datetime) -> int:
    """Since 1970, in UTC where the moment names no zone."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return 1000 * (since // timedelta(microseconds=1))


def _date_form(number: Decimal) -> str | None:
    """How it reads as 20240131, with or without a time of day; 20240131.0 does, too."""
    digits = str(int(number))
    if (form := _DATES.get(len(digits))) and number == int(number):
        with suppress(ValueError):
            return form if 1900 <= datetime.strptime(digits, form).year < 2100 else None
    return None


def _remedy(text: str) -> str:
    if parts := re.match(r"\d\d?([/.-])\d\d?\1\d\d", text):
        day, month = (form.replace(" ", parts[1]) for form in ("%d %m %Y", "%m %d %Y"))
        return (
            f"may have the day or the month first: say --time-format '{day}' or '{month}', "
            "and the time of day such as %H:%M or %I:%M %p"
        )
    return f"is no time: {VALID}" + ", or leave such rows out by --drop-bad-rows" * (not text)


def _within(number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"is outside the years 1678 to 2261: {VALID}")
    return number


def read_times(column: pl.Series, time_format: str | None = None) -> pl.DataFrame:
    """A whole column as `read_time` reads each text.

    Args:
        column: texts, numbers, or moments of time.
        time_format: of all its texts, as `strptime` has it (a text may also lack the time of day);
            or "unix", for numbers that are never dates.

    Returns:
        Columns text, ns (int64), form, and what: why it is no time (null where it is one).
    """
    texts = column.cast(pl.String).fill_null("").str.strip_chars().alias("text")
    if column.dtype in (pl.Date, pl.Datetime):
        ns, form = column.cast(pl.Datetime("ns")).dt.epoch("ns"), "moments"
        wrong = f"is no time: {VALID}"
    elif time_format in (None, "unix"):
        return _usual_forms(texts, declared=time_format == "unix")
    else:
        form, wrong = time_format, f"does not read as {time_format!r}: correct it, or --time-format"
        day = re.split(r"[ T,]*%[HIkl]", time_format, maxsplit=1)[0]
        ns = _epoch(texts, time_format).fill_null(_epoch(texts, day))
    frame = texts.to_frame().with_columns(ns=ns, form=pl.lit(form))
    return frame.with_columns(what=pl.when(pl.col("ns").is_null()).then(pl.lit(wrong)))


def _usual_forms(texts: pl.Series, declared: bool) -> pl.DataFrame:
    """Whole numbers and ISO 8601 as whole columns; what is left, each text once, one by one."""
    whole = texts.cast(pl.Int64, strict=False)
    if whole.null_count():
        whole = whole.fill_null(texts.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False))
    size = pl.col("whole").abs()
    unit = pl.sum_horizontal(size >= below for below in _BELOW[:3])
    scale = pl.lit(1000, pl.Int64).pow(3 - unit)
    usable = (size >= 0) & (size <= (2**63 - 1) // scale)  # the smallest of all has no size
    for digits in () if declared else _DATES:
        usable &= ~size.is_between(10 ** (digits - 1), 10**digits - 1)
    read = texts.to_frame().with_columns(whole=whole, what=pl.lit(None, pl.String))
    read = read.select(
        "text",
        "what",
        ns=pl.when(usable).then(pl.col("whole") * scale),
        form=pl.when(usable).then(unit.replace_strict(dict(enumerate(_UNITS)))),
    )
    left = read.filter(pl.col("ns").is_null()).select(pl.col("text").unique())
    if left.height:
        iso = left.filter(pl.col("text").str.contains(_ISO)).with_columns(*_iso()).drop_nulls("ns")
        others = [(text, *_single(text)) for text in left.join(iso, on="text", how="anti")["text"]]
        schema = {"text": pl.String, "ns": pl.Int64, "form": pl.String, "what": pl.String}
        single = pl.DataFrame(others, schema, orient="row")
        read = read.update(pl.concat([iso, single], how="diagonal"), on="text")
    return read


def _single(text: str) -> tuple[int | None, str | None, str | None]:
    try:
        return *read_time(text), None
    except ValueError as error:
        return None, None, str(error)


def _epoch(texts: pl.Series, form: str) -> pl.Series:
    return texts.str.to_datetime(form, strict=False, time_unit="ns").dt.epoch("ns")


def _iso() -> tuple[pl.Expr, pl.Expr]:
    """ns and form of texts that match `_ISO`; null for the 30th of February."""
    full = pl.col("text").str.replace(" ?UTC$|Z$", "+00:00").str.replace("^(.{10})$", "${1}T00:00")
    full = full.str.replace(" ", "T").str.replace(r"(T\d\d:\d\d)([+-]|$)", "${1}:00$2")
    zoned = full.str.contains("[+-]..:..$")
    full = pl.when(zoned).then(full).otherwise(full + "+00:00")
    moment = full.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", strict=False, time_unit="ns")
    form = pl.when(zoned).then(pl.lit(_ZONED)).otherwise(pl.lit(_NAIVE))
    return moment.dt.epoch("ns").alias("ns"), form.alias("form")
