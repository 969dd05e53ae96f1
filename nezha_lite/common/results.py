"""Measured numbers as files: one writer, one reader, one row per measurement.

Every number that a reader of the project sees lies in `data/results/<kind>-<dataset>-<what>.json`:
one object for one row, `{"rows": [...]}` for several. Notebooks, tables and tests read it from
there; nobody types a number.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict, cast

import torch

from nezha_lite.common.files import atomic_write, read_json

KINDS = ("quality", "latency", "training", "tokenizer", "reliability")


# What JSON makes of a row's fields; numbers are looked at one by one.
_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("kind", "dataset", "device", "commit", "date"), (str,)),
    **dict.fromkeys(("decoder", "verifier"), (str, type(None))),
    **dict.fromkeys(("model", "metrics", "std", "per_seed", "settings", "versions"), (dict,)),
    "beam": (int, type(None)),
    "seeds": (list,),
}


class Provenance(TypedDict):
    """Where and when a row was measured; `ResultRow(..., **provenance(device))`."""

    device: str
    versions: dict[str, str]
    commit: str
    date: str


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One measurement.

    `metrics` holds the mean over `seeds`; with several seeds `std` and `per_seed` (in the order of
    `seeds`) stand beside it, under the same names. `decoder`, `verifier` and `beam` are None where
    nothing is decoded. `seconds` is what the whole measurement took.

    Raises ValueError when a field makes no sense, naming it, its value and what would be valid.
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
        cls, *, device: str | torch.device, started: float, digits: int = 5, **fields: Any
    ) -> ResultRow:
        """A row measured in this process just now.

        Args:
            device: what it was measured on; `provenance` describes it.
            started: `time.perf_counter()` when the measurement began.
            digits: to which `metrics` and `std` are rounded.
            fields: the other fields of the row.
        """
        for name in ("metrics", "std"):
            if name in fields:
                fields[name] = {key: round(value, digits) for key, value in fields[name].items()}
        seconds = round(time.perf_counter() - started, 2)
        return cls(**fields, seconds=seconds, **provenance(device))

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; valid kinds are {', '.join(KINDS)}")
        if not self.dataset:
            raise ValueError("dataset is empty; it must name the data that was measured")
        if self.beam is not None and self.beam < 1:
            raise ValueError(f"beam is {self.beam}; it must be at least 1, or None")
        if not self.metrics:
            raise ValueError("metrics is empty; a row needs at least one measured number")
        for name, value in self.metrics.items():
            _check_number(f"metrics[{name!r}]", value)
        _check_number("seconds", self.seconds)
        self._check_seeds()
        try:
            datetime.fromisoformat(self.date)
        except ValueError:
            raise ValueError(
                f"date is {self.date!r}; it must be an ISO date and time such as "
                "2026-11-23T21:55:00+00:00"
            ) from None

    def _check_seeds(self) -> None:
        for label, spread in (("std", self.std), ("per_seed", self.per_seed)):
            unknown = sorted(set(spread) - set(self.metrics))
            if unknown:
                raise ValueError(
                    f"{label} names {unknown[0]!r}, which is not among the metrics "
                    f"{', '.join(self.metrics)}"
                )
        for name, value in self.std.items():
            _check_number(f"std[{name!r}]", value)
        for name, values in self.per_seed.items():
            if not isinstance(values, Sequence) or len(values) != len(self.seeds):
                found = len(values) if isinstance(values, Sequence) else "no"
                raise ValueError(
                    f"per_seed[{name!r}] has {found} values; there must be one for each of "
                    f"the {len(self.seeds)} seeds"
                )
            for value in values:
                _check_number(f"per_seed[{name!r}]", value)


def over_seeds(
    per_seed: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, float], dict[str, list[float]]]:
    """Turn one metrics mapping per seed into a row's `metrics`, `std` and `per_seed`.

    `std` is the sample standard deviation (n - 1), so it needs at least two seeds.

    Raises ValueError for fewer than two mappings or mappings with different names.
    """
    if len(per_seed) < 2:
        raise ValueError(f"per_seed has {len(per_seed)} entries; a spread needs at least 2 seeds")
    names = list(per_seed[0])
    for metrics in per_seed:
        if set(metrics) != set(names):
            raise ValueError(
                f"per_seed mixes the metrics {sorted(metrics)} and {sorted(names)}; "
                "every seed must report the same"
            )
    values = {name: [float(metrics[name]) for metrics in per_seed] for name in names}
    mean = {name: math.fsum(row) / len(row) for name, row in values.items()}
    std = {
        name: math.sqrt(math.fsum((x - mean[name]) ** 2 for x in row) / (len(row) - 1))
        for name, row in values.items()
    }
    return mean, std, values


def write_results(path: str | Path, rows: Sequence[ResultRow]) -> None:
    """Write rows as JSON, whole or not at all; the folder is made when it is missing.

    Raises ValueError for no rows, or for `model` or `settings` that JSON cannot hold.
    """
    path = Path(path)
    if not rows:
        raise ValueError(f"rows is empty; {path.name} needs at least one measured row")
    objects = [_to_object(row) for row in rows]
    content = objects[0] if len(objects) == 1 else {"rows": objects}
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be written as JSON: {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text)


def read_results(path: str | Path) -> list[ResultRow]:
    """Read the rows of one results file.

    Raises FileNotFoundError, or ValueError naming the file when it holds anything but rows.
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


def provenance(device: str | torch.device) -> Provenance:
    """Name the hardware, the versions, the commit and the time (UTC) of a measurement."""
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


def _check_number(label: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{label} is {value!r}; it must be a finite number")


def _to_object(row: ResultRow) -> dict[str, Any]:
    # A single run has no spread: leaving the empty fields out keeps such files short.
    return {
        name: value
        for name, value in asdict(row).items()
        if not (name in ("std", "per_seed") and not value)
    }


def _from_object(entry: object) -> ResultRow:
    if not isinstance(entry, dict):
        raise ValueError(f"a row must be an object, this is {type(entry).__name__}")
    for name, types in _TYPES.items():
        if name in entry and not isinstance(entry[name], types):
            kinds = " or ".join(kind.__name__ for kind in types)
            raise ValueError(f"{name} is {entry[name]!r:.40}; it must be {kinds}")
    unknown = sorted(set(entry) - {known.name for known in fields(ResultRow)})
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}")
    missing = [known.name for known in fields(ResultRow) if known.name not in entry]
    missing = [name for name in missing if name not in ("std", "per_seed")]
    if missing:
        raise ValueError(f"the field {missing[0]!r} is missing")
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
    places = _git(checkout, "rev-parse", "--show-toplevel", "HEAD")
    if places is None:
        return "unknown"
    top, commit = places.splitlines()
    # An installed copy may lie inside somebody else's checkout, whose commit says nothing of ours.
    if Path(top).resolve() != checkout:
        return "unknown"
    # Only the package counts: measuring writes new result files, which change no number.
    changes = _git(checkout, "status", "--porcelain", "--", package.name)
    return commit if changes == "" else f"{commit}+changes"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
