"""Files of a run's folder: its settings, which no other run may reuse, figures, users' lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from nezha_lite.common.files import (
    atomic_write,
    damage_named,
    parse_json,
    read_tensors,
    write_tensors,
)
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding.item_lists import NOT_FOUND
from nezha_lite.evaluation.metrics import Evaluation

ASKED_FILE = "asked.json"
_ABSENT = object()  # equal to no value of JSON


def claim(folder: Path, asked: Mapping[str, Any]) -> None:
    """Store the settings of this run in `folder`.

    Raises:
        ValueError: if the folder holds a run of other settings, naming those that differ.
    """
    if not check_claim(folder, asked):
        write_object(folder / ASKED_FILE, as_json(asked))


def check_claim(folder: Path, asked: Mapping[str, Any]) -> bool:
    """Whether `folder` is already this run's: False if no run has claimed it.

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


def _differing(stored: Any, asked: Any, name: str = "") -> Iterator[str]:
    """The dotted names of what differs, such as "config.training.epochs"."""
    if isinstance(stored, dict) and isinstance(asked, dict):
        for key in {*stored, *asked}:
            inner = f"{name}.{key}" if name else key
            yield from _differing(stored.get(key, _ABSENT), asked.get(key, _ABSENT), inner)
    elif stored != asked:
        yield name


def read_object(path: Path, *needed: str) -> dict[str, Any]:
    """A JSON object that is not empty and has what is needed.

    ValueError names a damaged file and the remedy.
    """
    with damage_named(path, "is damaged, delete its folder to run again"):
        content = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content:
            raise ValueError("it holds no settings or figures")
        if missing := [name for name in needed if name not in content]:
            raise ValueError(f"it has no {missing[0]!r}")
    return content


def write_object(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all; the folder is made when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(content, indent=1) + "\n")


def as_json(value: Any) -> Any:
    """The value as JSON gives it back: objects for dataclasses, lists for tuples.

    Settings then compare equal to stored ones.
    """
    return json.loads(json.dumps(value, default=asdict))


def fingerprint(dataset: InteractionDataset) -> dict[str, str]:
    """Name and content, so that two data sets are never taken for one."""
    content: list[Any] = [dataset.items, [*dataset.sequences], dataset.released_codes]
    content.append([vars(text) for text in dataset.texts or ()])
    if dataset.time_split is not None:
        content.append([dataset.split_method, [*(dataset.times or ())]])
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return {"name": dataset.name, "sha256": digest}


# ---- users' lists: every question is asked of them later, without decoding again ----------------

_COLUMNS = ("ranks", "sid_ranks", "returned", "existing")


@dataclass(frozen=True, eq=False)
class Stored:
    """What a decoder gave to U users, and how that came about."""

    evaluation: Evaluation
    about: Mapping[str, Any]


def save_lists(path: Path, evaluation: Evaluation, about: Mapping[str, Any]) -> None:
    """Write an evaluation as safetensors, whole or not at all, with `about` as JSON beside it."""
    columns = {name: getattr(evaluation, name) for name in _COLUMNS}
    columns["lengths"] = list(map(len, evaluation.lists))
    tensors = {name: torch.tensor(column, dtype=torch.int32) for name, column in columns.items()}
    rows = [torch.tensor(items, dtype=torch.int32) for items in evaluation.lists]
    tensors["lists"] = pad_sequence(rows, batch_first=True, padding_value=NOT_FOUND)  # (U, longest)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {"about": json.dumps(about), "beam": str(evaluation.beam)})


def load_lists(path: Path) -> Stored:
    """Read what `save_lists` wrote; ValueError names a damaged file and the remedy."""
    with damage_named(path, "is damaged, delete it to decode again"):
        tensors, heading = read_tensors(path)
        about, beam = parse_json(heading["about"]), int(heading["beam"])
        if not isinstance(about, dict):
            raise ValueError("about holds no object")
        users = len(tensors["ranks"])
        longest = tensors["lists"].shape[1:2]
        shapes = dict.fromkeys((*_COLUMNS, "lengths"), (users,)) | {"lists": (users, *longest)}
        for name, shape in shapes.items():
            if tensors[name].shape != shape or tensors[name].dtype != torch.int32:
                stored = f"{tensors[name].dtype} of shape {tuple(tensors[name].shape)}"
                raise ValueError(f"{name} is {stored}, but must be int32 of {users} users")
        lengths = tensors["lengths"].tolist()
        if not all(0 <= length <= longest[0] for length in lengths):
            raise ValueError(f"lengths are not all in 0..{longest[0]}")
        rows = zip(tensors["lists"].tolist(), lengths, strict=True)
        lists = [row[:length] for row, length in rows]
        columns = {name: tensors[name].numpy().astype(np.int64) for name in _COLUMNS}
    return Stored(Evaluation(lists=lists, beam=beam, **columns), about)
