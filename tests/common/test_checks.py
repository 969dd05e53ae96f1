"""One phrase for every value that cannot be."""

from dataclasses import dataclass
from typing import Any

import pytest

from nezha_lite.common.checks import check, check_counts, check_shares


@dataclass
class Config:
    value: Any


def test_a_valid_value_is_silent() -> None:
    check(True, "beam", 1, "at least 1")
    for value in (1, 10**30):
        check_counts(Config(value), "value")
    check_counts(Config(0), "value", low=0)
    for value in (0, 1, 0.5):
        check_shares(Config(value), "value")


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(ValueError, match=r"^items is \[0, 1, .*…, but must be few\.$") as caught:
        check(False, "items", list(range(1000)), "few")
    assert len(str(caught.value)) < 140


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, True, "1", None])
def test_what_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^value is .*, but must be a whole number of at least 1"):
        check_counts(Config(value), "value")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5", None])
def test_what_is_no_share_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^value is .*, but must be between 0 and 1\.$"):
        check_shares(Config(value), "value")
