"""Times as tables write them, in nanoseconds since 1970: exact, and never guessed."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,9})?")
# A spreadsheet writes 1.70412E+12 for whatever has more digits; a program writes all it has.
_ROUNDED = re.compile(r"[+-]?[0-9](\.[0-9]{0,5})?[eE]\+[0-9]+|[+-]?[0-9]+,[0-9]*[eE][+-]?[0-9]+")
_DATES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by their digits
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Below this size (in its own unit) a number is taken for that unit. A present-day time has 10
# digits in seconds and three more in each finer unit, so that units cannot be confused after 1973.
_UNITS = {
    10**11: "unix seconds",
    10**14: "unix milliseconds",
    10**17: "unix microseconds",
    10**20: "unix nanoseconds",
}
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
        for power, (below, unit) in enumerate(_UNITS.items()):
            if number.adjusted() < 20 and abs(number) < below:
                if form := _date_form(number):
                    remedy = f"say which by --time-format {form} or unix, or write 2024-01-31"
                    raise ValueError(f"could be a date without dashes or {unit}: {remedy}")
                return _within(int(number * 1000 ** (3 - power))), unit
        raise ValueError(f"is too large for a time: {VALID}")
    try:
        moment = datetime.fromisoformat(re.sub(" ?UTC$", "Z", text))
    except ValueError:
        what = f"is no time: {VALID}"
        if parts := re.match(r"\d\d?([/.-])\d\d?\1\d\d", text):
            day, month = (form.replace(" ", parts[1]) for form in ("%d %m %Y", "%m %d %Y"))
            what = (
                f"may have the day or the month first: say --time-format '{day}' or '{month}', "
                "and the time of day such as %H:%M or %I:%M %p"
            )
        elif not text:
            what += ", or leave such rows out by --drop-bad-rows"
        raise ValueError(what) from None
    form = _ZONED if moment.tzinfo else _NAIVE
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return _within(1000 * ((moment - _EPOCH) // timedelta(microseconds=1))), form


def _date_form(number: Decimal) -> str | None:
    """How it reads as 20240131, with or without a time of day; 20240131.0 does, too."""
    if 10**7 <= abs(number) < 10**14 and number == number.to_integral_value():
        form = _DATES.get(len(digits := str(int(number))), "no date")
        with suppress(ValueError):
            return form if 1900 <= datetime.strptime(digits, form).year < 2100 else None
    return None


def _within(nanoseconds: int) -> int:
    if not -(2**63) <= nanoseconds < 2**63:
        raise ValueError(f"is outside the years 1678 to 2261: {VALID}")
    return nanoseconds


def read_times(column: pl.Series, time_format: str | None = None) -> pl.DataFrame:
    """A whole column as `read_time` reads each text.

    Args:
        column: texts, numbers, or moments of time.
        time_format: of all its texts, as `strptime` has it (a text may also lack the time of day);
            or "unix", for numbers that are never dates.

    Returns:
        Columns ns (int64), form, and what: why it is no time (null where it is one).
    """
    form = time_format
    if column.dtype in (pl.Date, pl.Datetime):
        ns, form, wrong = column.cast(pl.Datetime("ns")).dt.epoch("ns"), "moments", None
    elif form and form != "unix":
        texts = column.cast(pl.String).str.strip_chars()
        day = re.split(r"[ T,]*%[HIkl]", form, maxsplit=1)[0]
        ns = _epoch(texts, form)
        ns = ns if day == form else ns.fill_null(_epoch(texts, day))
        wrong = f"does not read as {form!r}: correct it, or --time-format"
    else:
        return _usual_forms(column, declared=form == "unix")
    what = pl.when(pl.col("ns").is_null()).then(pl.lit(wrong or f"is no time: {VALID}"))
    return ns.to_frame("ns").with_columns(form=pl.lit(form), what=what)


def _usual_forms(column: pl.Series, declared: bool) -> pl.DataFrame:
    """Whole numbers and ISO 8601 as whole columns; what is left, each text once, one by one."""
    if column.dtype.is_float():
        integers = column.cast(pl.Int64, strict=False)
        column = integers if integers.eq(column).all() else column
    text = column.cast(pl.String).fill_null("").str.strip_chars().alias("text")
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count():
        whole = whole.fill_null(text.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False))
    size, scale, form = pl.col("size"), pl.lit(None, pl.Int64), pl.lit(None, pl.String)
    for power, (below, unit) in reversed([*enumerate(_UNITS.items())]):
        fits = size < min(below, 2**63 - 1)
        scale = pl.when(fits).then(1000 ** (3 - power)).otherwise(scale)
        form = pl.when(fits).then(pl.lit(unit)).otherwise(form)
    usable = (size * pl.col("scale").cast(pl.Float64)).is_between(0, 9.2e18)
    for digits in () if declared else _DATES:
        usable &= ~size.is_between(10 ** (digits - 1), 10**digits - 1)
    numbers = pl.DataFrame({"whole": whole, "size": whole.abs()})
    numbers = numbers.with_columns(scale=scale, form=form).with_columns(usable=usable)
    numbers = numbers.select(
        ns=pl.when("usable").then(pl.col("whole") * pl.col("scale")),
        form=pl.when("usable").then("form"),
        what=pl.lit(None, pl.String),
    )
    if not numbers["ns"].null_count():
        return numbers
    texts = text.to_frame()
    left = texts.filter(numbers["ns"].is_null()).unique()
    iso = left.filter(pl.col("text").str.contains(_ISO))
    iso = iso.with_columns(_iso(iso["text"]), what=pl.lit(None, pl.String)).drop_nulls("ns")
    singles = [(value, *_one(value)) for value in left.join(iso, on="text", how="anti")["text"]]
    others = pl.concat([iso, pl.DataFrame(singles, iso.schema, orient="row")])
    others = texts.join(others, on="text", how="left", maintain_order="left")
    return numbers.select(pl.coalesce(name, others[name]).alias(name) for name in numbers.columns)


def _one(text: str) -> tuple[int | None, str | None, str | None]:
    try:
        return *read_time(text), None
    except ValueError as error:
        return None, None, str(error)


def _epoch(texts: pl.Series, form: str) -> pl.Series:
    return texts.str.to_datetime(form, strict=False, time_unit="ns").dt.epoch("ns")


def _iso(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """ns and form of texts that match `_ISO`; null for the 30th of February."""
    full = texts.str.replace(" ?UTC$|Z$", "+00:00").str.replace("^(.{10})$", "${1}T00:00")
    full = full.str.replace(" ", "T").str.replace(r"(T\d\d:\d\d)([+-]|$)", "${1}:00$2")
    zoned = full.str.contains("[+-]..:..$")
    form = zoned.replace_strict({True: _ZONED, False: _NAIVE}, return_dtype=pl.String)
    full = full.zip_with(zoned, full + "+00:00")
    return _epoch(full, "%Y-%m-%dT%H:%M:%S%.f%:z").alias("ns"), form.alias("form")
