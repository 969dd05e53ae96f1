"""Made-up rows of result files."""

from collections.abc import Mapping
from typing import Any

from nezha_lite.common.results import ResultRow


def row_of(metrics: Mapping[str, float], **fields: Any) -> ResultRow:
    """A row with these metrics; what is not said is the same in all of them."""
    said_of_all = {
        "kind": "latency",
        "dataset": "toy",
        "model": {},
        "device": "a machine",
        "versions": {},
        "commit": "unknown",
        "date": "2026-11-24",
        "seconds": 1.0,
    }
    return ResultRow(metrics=metrics, **{**said_of_all, **fields})
