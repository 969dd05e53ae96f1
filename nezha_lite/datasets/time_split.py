"""The global time split: one moment for all users, after which nothing is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nezha_lite.datasets.table_times import nanoseconds

VALID = "a share in (0, 1) or a date such as 2024-01-31"


@dataclass(frozen=True)
class TimeSplit:
    """Two moments that divide all interactions into training, validation and test.

    >>> print(TimeSplit(validation_from=0, test_from=86_400 * 10**9))
    temporal, validation from 1970-01-01T00:00:00Z, test from 1970-01-02T00:00:00Z

    Attributes:
        validation_from, test_from: nanoseconds since 1970 in UTC. What happened in a moment itself
            belongs to the later part.
    """

    validation_from: int
    test_from: int

    @classmethod
    def of(cls, times: NDArray[np.int64], test_from: str | float) -> Self:
        """The split that tests on what happened from a date on, or on the last share of all.

        The validation period holds as many interactions as the test period, and ends where that
        begins. Equal times are never divided, so that a part may be larger than asked.

        Args:
            times: (I,) nanoseconds of all interactions, in any order.
            test_from: a share of the interactions, or a date in ISO 8601, in UTC without a zone.

        Raises:
            ValueError: if it is neither, or leaves nothing to test, to validate or to train on.
        """
        ordered = np.sort(times)
        share = _share(test_from)
        if share is None:
            test_cut = _nanoseconds(str(test_from))
        else:
            # The last one at least; the difference is rounded, as 1 - .9 is below .1.
            first = min(round((1 - share) * len(ordered)), len(ordered) - 1)
            test_cut = int(ordered[first]) if len(ordered) else 0
        before = int(np.searchsorted(ordered, test_cut))
        after = len(ordered) - before
        if not 0 < after <= before or ordered[before - after] == ordered[0]:
            period = " to ".join(map(_iso, ordered[[0, -1]])) if len(ordered) else "never"
            raise ValueError(
                f"test_from is {test_from}, but {after:,} of {len(ordered):,} interactions "
                f"({period}) are then for the test, as many before them for validation, and some "
                "must be left for training."
            )
        return cls(int(ordered[before - after]), test_cut)

    def __str__(self) -> str:
        moments = _iso(self.validation_from), _iso(self.test_from)
        return "temporal, validation from {}, test from {}".format(*moments)


def _share(test_from: str | float) -> float | None:
    """The share that is asked for, or None for a date; ValueError for any other number."""
    try:
        share = float(test_from)
    except ValueError:
        return None
    if not 0 < share < 1:
        raise ValueError(f"test_from is {test_from}, but must be {VALID}.")
    return share


def _nanoseconds(text: str) -> int:
    try:
        return nanoseconds(datetime.fromisoformat(text))
    except ValueError:
        raise ValueError(f"test_from is {text!r}, but must be {VALID}.") from None


def _iso(nanoseconds: int) -> str:
    return f"{np.datetime_as_string(np.datetime64(int(nanoseconds), 'ns'), unit='s')}Z"
