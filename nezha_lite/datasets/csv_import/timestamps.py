"""Times as tables write them, on one clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,30})?")
_EXPONENT = re.compile(r"[+-]?[0-9]+([.,][0-9]*)?[eE][+-]?[0-9]+")
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
VALID = "write unix seconds or milliseconds, or ISO 8601 such as 2024-01-31T18:05"


def read_time(text: str) -> tuple[int, str]:
    """Nanoseconds since 1970 in UTC, and the format's name.

    A number is unix time, in seconds below 10^11, in milliseconds below 10^14, and so on; anything
    else is ISO 8601, in UTC where it names no zone.

    Raises:
        ValueError: saying what would be valid, to be read after the value.
    """
    if not text:
        raise ValueError(f"is no time: {VALID}")
    if _EXPONENT.fullmatch(text):
        remedy = "give the column the format of whole numbers before saving it"
        raise ValueError(f"is a time that a spreadsheet has rounded: {remedy}")
    if _NUMBER.fullmatch(text):
        number = Decimal(text)
        for below, nanoseconds, unit in _UNITS:
            if abs(number) < below:
                return _within(int(number * nanoseconds)), unit
        raise ValueError(f"is too large for a time: {VALID}")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"is no time: {VALID}") from None
    zone = "without" if moment.tzinfo is None else "with"
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    return _within(1000 * microseconds), f"ISO 8601 {zone} a time zone"


def _within(nanoseconds: int) -> int:
    if not -_LIMIT <= nanoseconds < _LIMIT:
        raise ValueError(f"is outside the years 1678 to 2261: {VALID}")
    return nanoseconds
