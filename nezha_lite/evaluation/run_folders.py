"""A run's folder knows what was asked of it, so that it is never taken for another run's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nezha_lite.common.files import atomic_write, parse_json
from nezha_lite.datasets import InteractionDataset

ASKED_FILE = "asked.json"


def claim(folder: Path, asked: Mapping[str, Any]) -> None:
    """Note in `folder` what is asked of this run.

    Raises:
        ValueError: if the folder holds a run of which something else was asked, naming what.
    """
    if not check_claim(folder, asked):
        write_object(folder / ASKED_FILE, as_json(asked))


def check_claim(folder: Path, asked: Mapping[str, Any]) -> bool:
    """Whether `folder` is already this run's: False if it is nobody's.

    Raises:
        ValueError: as `claim`.
    """
    path = folder / ASKED_FILE
    if not path.is_file():
        return False
    if differing := sorted(_differing(read_object(path), as_json(asked))):
        raise ValueError(
            f"{folder} holds a run of other data or settings ({', '.join(differing)}): name "
            "another output folder, or delete it."
        )
    return True


def _differing(found: Any, wanted: Any, name: str = "") -> Iterator[str]:
    """The dotted names of what differs, such as "config.training.epochs"."""
    if not (isinstance(found, dict) and isinstance(wanted, dict)):
        if found != wanted:
            yield name
        return
    for key in {*found, *wanted}:
        inner = f"{name}.{key}" if name else key
        if key in found and key in wanted:
            yield from _differing(found[key], wanted[key], inner)
        else:
            yield inner


def read_object(path: Path, *needed: str) -> dict[str, Any]:
    """A JSON object that is not empty and has what is needed.

    ValueError names a damaged file and the remedy.
    """
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not found:
            raise ValueError("it holds no settings or figures")
        if missing := [name for name in needed if name not in found]:
            raise ValueError(f"it has no {missing[0]!r}")
    except ValueError as error:
        raise ValueError(f"{path} is damaged, delete its folder to run again: {error}") from error
    return found


def write_object(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all; the folder is made when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(content, indent=1) + "\n")


def as_json(value: Any) -> Any:
    """What JSON makes of it (lists for tuples), so that settings compare equal to stored ones."""
    return json.loads(json.dumps(value))


def fingerprint(dataset: InteractionDataset) -> dict[str, str]:
    """Name and content, so that two data sets are never taken for one."""
    content = [dataset.items, dataset.sequences, dataset.released_codes]
    texts = [asdict(text) for text in dataset.texts or ()]
    digest = hashlib.sha256(json.dumps([*content, texts]).encode()).hexdigest()
    return {"name": dataset.name, "sha256": digest}
