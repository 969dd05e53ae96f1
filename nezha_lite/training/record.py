"""The record that a training leaves beside its model: settings, split, times and losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from nezha_lite.common.checks import check
from nezha_lite.common.files import damage_named, parse_json
from nezha_lite.datasets import InteractionDataset, TimeSplit

TRAINING_FILE = "training.json"


class TrainingRecord(TypedDict):
    """How a model was trained, as written beside it.

    `seconds` and `cpu_seconds` (of this process, all threads) count from the last resumption.
    `best_epoch` is the one whose weights were kept for their score; None without a score.
    `time_split` has the fields of a `TimeSplit`; None is leave-one-out.
    """

    dataset: str
    time_split: dict[str, int] | None
    config: dict[str, Any]
    processes: int
    seconds: float
    cpu_seconds: float
    resumed: bool
    best_epoch: float | None
    log: list[dict[str, float]]


def split_as_trained(dataset: InteractionDataset, folder: str | Path) -> InteractionDataset:
    """The data, split as it was for the run in `folder`; raises what `read_training_record` does.

    Under another split a model would be asked for what it was trained on.
    """
    cuts = read_training_record(folder).get("time_split")
    return replace(dataset, time_split=TimeSplit(**cuts) if cuts else None)


def read_training_record(folder: str | Path) -> TrainingRecord:
    """The record that `train` left in `folder`.

    Raises FileNotFoundError if there is none, ValueError if it is damaged.
    """
    path = Path(folder) / TRAINING_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {TRAINING_FILE}: it was not written by `train`.")
    with damage_named(path, "is damaged, train again"):
        record: TrainingRecord = parse_json(path.read_text(encoding="utf-8"))
        for name in ("epochs", "seed"):
            value = record["config"][name]
            check(type(value) is int, f"config.{name}", value, "a whole number")
    return record
