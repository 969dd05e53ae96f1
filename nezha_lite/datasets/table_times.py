"""Times as tables write them, in nanoseconds since 1970: exact, and never guessed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,9})?")
# A spreadsheet writes 1.70412E+12 for whatever has more digits; a program writes all it has.
_ROUNDED = re.compile(r"[+-]?[0-9](\.[0-9]{0,5})?[eE]\+[0-9]+|[+-]?[0-9]+,[0-9]*[eE][+-]?[0-9]+")
_DATES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by their digits
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIMIT = 2**63
# Below this size (in its own unit) a number is taken for that unit. A present-day time has 10
# digits in seconds and three more in each finer unit, so that units cannot be confused after 1973.
_UNITS = (
    (10**11, 10**9, "unix seconds"),
    (10**14, 10**6, "unix milliseconds"),
    (10**17, 10**3, "unix microseconds"),
    (10**20, 1, "unix nanoseconds"),
)
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
        for below, nanoseconds, unit in _UNITS:
            if number.adjusted() < 20 and abs(number) < below:
                if form := _date_form(number):
                    remedy = f"say which by --time-format {form} or unix, or write 2024-01-31"
                    raise ValueError(f"could be a date without dashes or {unit}: {remedy}")
                return _within(int(number * nanoseconds)), unit
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
    form = _NAIVE if moment.tzinfo is None else _ZONED
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _within(1000 * ((moment - _EPOCH) // timedelta(microseconds=1))), form


def _date_form(number: Decimal) -> str | None:
    """How it reads as 20240131, with or without a time of day; 20240131.0 does, too."""
    if abs(number) < 10**7 or number != number.to_integral_value():
        return None
    form = _DATES.get(len(digits := str(int(number))), "no date")
    try:
        return form if 1900 <= datetime.strptime(digits, form).year < 2100 else None
    except ValueError:
        return None


def _within(nanoseconds: int) -> int:
    if not -_LIMIT <= nanoseconds < _LIMIT:
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
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        ns = column.cast(pl.Datetime(getattr(column.dtype, "time_unit", "us")))
        frame = ns.dt.epoch("ns").alias("ns").to_frame()
        wrong = pl.when(pl.col("ns").is_null()).then(pl.lit(f"is no time: {VALID}"))
        return frame.with_columns(form=pl.lit("moments"), what=wrong)
    if (
        column.dtype.is_float()
        and (integers := column.cast(pl.Int64, strict=False)).eq(column).all()
    ):
        column = integers
    texts = column.cast(pl.String).fill_null("").str.strip_chars().alias("text").to_frame()
    text = pl.col("text")
    if time_format and time_format != "unix":
        day = re.split(r"[ T,]*%[HIkl]", time_format, maxsplit=1)[0]
        moments = pl.coalesce(_epoch(text, form) for form in dict.fromkeys((time_format, day)))
        what = f"does not read as {time_format!r}: correct it, or --time-format"
        wrong = pl.when(moments.is_null()).then(pl.lit(what))
        return texts.select(ns=moments, form=pl.lit(time_format), what=wrong)
    # The usual forms as whole columns; what is left, each text once, one by one.
    declared = time_format == "unix"
    numbers = texts.select(
        _unix(text.cast(pl.Int64, strict=False), pl.lit(0), text, declared)
    ).unnest("unix")
    left = texts.filter(numbers["ns"].is_null()).unique()
    number = r"^([+-]?[0-9]{1,18})\.([0-9]{0,30})$"
    whole = text.str.extract(number, 1).cast(pl.Int64, strict=False)
    fraction = text.str.extract(number, 2).str.pad_end(9, "0").str.slice(0, 9).cast(pl.Int64)
    decimals = left.select("text", _unix(whole, fraction, text, declared)).unnest("unix")
    usual = left.filter(text.str.contains(_ISO)).select("text", *_iso(text))
    usual = pl.concat([decimals, usual]).filter(pl.col("ns").is_not_null())
    usual = usual.with_columns(what=pl.lit(None, pl.String))
    singles: list[tuple[str, int | None, str | None, str | None]] = []
    for value in left.join(usual, on="text", how="anti")["text"]:
        try:
            singles.append((value, *read_time(value), None))
        except ValueError as error:
            singles.append((value, None, None, str(error)))
    schema = {"text": pl.String, "ns": pl.Int64, "form": pl.String, "what": pl.String}
    others = pl.concat([usual, pl.DataFrame(singles, schema, orient="row")])
    others = texts.join(others, on="text", how="left", maintain_order="left")
    return others.select(
        pl.coalesce(numbers["ns"], "ns").alias("ns"),
        pl.coalesce(numbers["form"], "form").alias("form"),
        "what",
    )


def _epoch(text: pl.Expr, form: str) -> pl.Expr:
    return text.str.to_datetime(form, strict=False, time_unit="ns").dt.epoch("ns")


def _unix(whole: pl.Expr, fraction: pl.Expr, text: pl.Expr, declared: bool) -> pl.Expr:
    """A struct of ns and form, of numbers that are no dates; the fraction is in units of 10^-9."""
    size = whole.abs()
    scale, form = pl.lit(None, pl.Int64), pl.lit(None, pl.String)
    for below, nanoseconds, unit in reversed(_UNITS):
        fits = size < min(below, _LIMIT - 1)
        scale = pl.when(fits).then(nanoseconds).otherwise(scale)
        form = pl.when(fits).then(pl.lit(unit)).otherwise(form)
    usable = size.cast(pl.Float64) * scale < 9.2e18
    for digits in () if declared else _DATES:
        usable &= ~size.is_between(10 ** (digits - 1), 10**digits - 1)
    ns = size * scale + fraction * scale // 10**9
    ns = pl.when(text.str.starts_with("-")).then(-ns).otherwise(ns)
    return pl.struct(
        pl.when(usable).then(ns).alias("ns"), pl.when(usable).then(form).alias("form")
    ).alias("unix")


def _iso(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """ns and form of texts that match `_ISO`; null for the 30th of February."""
    full = text.str.replace(" ?UTC$|Z$", "+00:00").str.replace("^(.{10})$", "${1}T00:00")
    full = full.str.replace(" ", "T").str.replace(r"(T\d\d:\d\d)([+-]|$)", "${1}:00$2")
    zoned = full.str.contains("[+-]..:..$")
    full = pl.when(zoned).then(full).otherwise(full + "+00:00")
    form = pl.when(zoned).then(pl.lit(_ZONED)).otherwise(pl.lit(_NAIVE))
    return _epoch(full, "%Y-%m-%dT%H:%M:%S%.f%:z").alias("ns"), form.alias("form")
