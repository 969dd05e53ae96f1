"""Transformers' bars are off inside, and as before outside."""

import pytest
from transformers.utils import logging

from nezha_lite.common.progress import without_progress_bar


@pytest.mark.parametrize("enabled", [True, False])
def test_bars_are_off_inside_and_as_before_outside(enabled: bool) -> None:
    before = logging.is_progress_bar_enabled()
    switch = {True: logging.enable_progress_bar, False: logging.disable_progress_bar}
    switch[enabled]()
    try:
        with pytest.raises(KeyError, match="False"), without_progress_bar():
            raise KeyError(logging.is_progress_bar_enabled())
        assert logging.is_progress_bar_enabled() is enabled
    finally:
        switch[before]()
