"""Measured numbers as files: one writer, one reader, one row per measurement.

Every number that a reader of the project sees lies in `data/results/<kind>-<dataset>-<what>.json`:
one object for one row, `{"rows": [...]}` for several. Notebooks, tables and tests read it from
there; no number is typed by hand.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch

from nezha_lite.common.checks import check
from nezha_lite.common.files import atomic_write, read_json

KINDS = ("quality", "latency", "training", "tokenizer", "reliability", "scale")
_SPREAD = {"std", "per_seed"}  # the fields that a file may leave out

# The JSON types of a row's fields; numbers are checked one by one.
_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("kind", "dataset", "device", "commit", "date"), (str,)),
    **dict.fromkeys(("decoder", "verifier"), (str, type(None))),
    **dict.fromkeys(("model", "metrics", "std", "per_seed", "settings", "versions"), (dict,)),
    "beam": (int, type(None)),
    "seeds": (list,),
}


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One measurement.

    `metrics` holds the mean over `seeds`; with several seeds, `std` and `per_seed` (in the order of
    `seeds`) hold their spread and values under the same names. `decoder`, `verifier` and `beam` are
    None where nothing is decoded. `seconds` is the time of the whole measurement.

    Raises ValueError for an impossible field, with its name, its value and what would be valid.
    """

    kind: str  # one of KINDS
    dataset: str
    model: Mapping[str, Any]  # {"preset": name, and its sizes}
    decoder: str | None = None
    verifier: str | None = None
    beam: int | None = None
    metrics: Mapping[str, float]
    std: Mapping[str, float] = field(default_factory=dict)
    per_seed: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str
    versions: Mapping[str, str]
    commit: str
    date: str  # UTC, ISO 8601
    seconds: float

    @classmethod
    def measured(
        cls,
        *,
        device: str | torch.device,
        started: float,
        metrics: Mapping[str, float],
        digits: int = 5,
        **fields: Any,
    ) -> ResultRow:
        """A row measured in this process just now.

        Args:
            device: what it was measured on; `provenance` describes it.
            started: `time.perf_counter()` when the measurement began.
            metrics: of the row.
            digits: to which `metrics` are rounded.
            fields: the other fields of the row.
        """
        rounded = {name: round(value, digits) for name, value in metrics.items()}
        seconds = round(time.perf_counter() - started, 2)
        return cls(**fields, metrics=rounded, seconds=seconds, **provenance(device))

    def __post_init__(self) -> None:
        check(self.kind in KINDS, "kind", self.kind, f"one of {', '.join(KINDS)}")
        check(bool(self.dataset), "dataset", self.dataset, "the name of the measured data")
        check(self.beam is None or self.beam >= 1, "beam", self.beam, "at least 1, or None")
        check(bool(self.metrics), "metrics", self.metrics, "one measured number or more")
        try:
            datetime.fromisoformat(self.date)
        except ValueError:
            check(False, "date", self.date, "ISO 8601 such as 2026-11-23T21:55:00+00:00")
        _check_number("seconds", self.seconds)
        for label, numbers in (("metrics", self.metrics), ("std", self.std)):
            for name, value in numbers.items():
                _check_number(f"{label}[{name!r}]", value)
        for label, spread in (("std", self.std), ("per_seed", self.per_seed)):
            one_of = f"one of the metrics {', '.join(self.metrics)}"
            for name in spread:
                check(name in self.metrics, f"a name in {label}", name, one_of)
        each = f"one value for each of the {len(self.seeds)} seeds"
        for name, values in self.per_seed.items():
            complete = isinstance(values, Sequence) and len(values) == len(self.seeds)
            check(complete, f"per_seed[{name!r}]", values, each)
            for value in values:
                _check_number(f"per_seed[{name!r}]", value)


def _check_number(label: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    check(number and math.isfinite(cast(float, value)), label, value, "a finite number")


def over_seeds(
    metrics_of_seeds: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, float], dict[str, list[float]]]:
    """Turn one metrics mapping per seed into a row's `metrics`, `std` and `per_seed`.

    `std` is the sample standard deviation (n - 1); a single seed has no spread.

    Raises ValueError for no mapping, or mappings with different names.
    """
    check(bool(metrics_of_seeds), "metrics_of_seeds", metrics_of_seeds, "one mapping per seed")
    first, *others = metrics_of_seeds
    for metrics in others:
        same = set(metrics) == set(first)
        check(same, "the names of a seed's metrics", sorted(metrics), f"{sorted(first)}")
    per_seed = {name: [float(metrics[name]) for metrics in metrics_of_seeds] for name in first}
    if not others:
        return dict(first), {}, {}
    mean = {name: statistics.fmean(values) for name, values in per_seed.items()}
    std = {name: statistics.stdev(values) for name, values in per_seed.items()}
    return mean, std, per_seed


def write_results(path: str | Path, rows: Sequence[ResultRow]) -> None:
    """Write rows as JSON in one step; makes the folder if it is missing.

    Raises ValueError for no rows, or for `model` or `settings` that JSON cannot hold.
    """
    path = Path(path)
    check(bool(rows), "rows", rows, f"at least one measured row for {path.name}")
    # A single run has no spread: leaving the empty fields out keeps such files short.
    objects = [
        {name: value for name, value in asdict(row).items() if value or name not in _SPREAD}
        for row in rows
    ]
    content = objects[0] if len(objects) == 1 else {"rows": objects}
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be written as JSON: {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text)


def read_results(path: str | Path) -> list[ResultRow]:
    """Read the rows of one results file.

    Raises FileNotFoundError, or ValueError with the file's name if it holds anything but rows.
    """
    path = Path(path)
    content = read_json(path)
    objects = content["rows"] if isinstance(content, dict) and "rows" in content else [content]
    if not isinstance(objects, list) or not objects:
        raise ValueError(f'{path}: "rows" must be a list of at least one row')
    rows = []
    for number, entry in enumerate(objects, start=1):
        try:
            rows.append(_from_object(entry))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, row {number}: {error}") from None
    return rows


def provenance(device: str | torch.device) -> dict[str, Any]:
    """Name the hardware, the versions, the commit and the time (UTC) of a measurement.

    These are four fields of a row: `ResultRow(..., **provenance(device))`.
    """
    return {
        "device": _device_name(torch.device(device)),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "transformers": _version("transformers"),
            "nezha_lite": _version("nezha-lite"),
        },
        "commit": _commit(Path(__file__).resolve().parents[1]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _from_object(entry: object) -> ResultRow:
    if not isinstance(entry, dict):
        raise ValueError(f"a row must be an object, this is {type(entry).__name__}")
    for name, types in _TYPES.items():
        if name in entry:
            valid = " or ".join(kind.__name__ for kind in types)
            check(isinstance(entry[name], types), name, entry[name], valid)
    names = {each.name for each in fields(ResultRow)}
    for name in sorted(entry.keys() - names):
        raise ValueError(f"unknown field {name!r}")
    for name in sorted(names - entry.keys() - _SPREAD):
        raise ValueError(f"the field {name!r} is missing")
    return ResultRow(**cast(dict[str, Any], entry))


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux; elsewhere the standard library knows the name
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or sys.platform


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def _commit(package: Path) -> str:
    """The checkout's commit, "+changes" when the package differs from it, else "unknown"."""
    checkout = package.parent
    answer = _git(checkout, "rev-parse", "--show-toplevel", "HEAD")
    if answer is None:
        return "unknown"
    top, commit = answer.splitlines()
    # An installed copy may lie inside another project's checkout, whose commit is not ours.
    if Path(top).resolve() != checkout:
        return "unknown"
    # Only the package counts: measuring writes new result files, which change no number.
    changes = _git(checkout, "status", "--porcelain", "--", package.name)
    return commit if changes == "" else f"{commit}+changes"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            # A status that may write the index would leave a lock behind if it were killed.
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
