"""Users' lists as files: every question is asked of them later, without decoding again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from nezha_lite.common.files import atomic_write, damage_named, parse_json
from nezha_lite.decoding.item_lists import NOT_FOUND
from nezha_lite.evaluation.metrics import Evaluation

_COUNTS = ("ranks", "sid_ranks", "returned", "existing", "lengths")


@dataclass(frozen=True, eq=False)
class Stored:
    """What a decoder gave to U users, and how that came about."""

    evaluation: Evaluation
    about: Mapping[str, Any]


def save_lists(path: Path, evaluation: Evaluation, about: Mapping[str, Any]) -> None:
    """Write an evaluation as safetensors, whole or not at all, with `about` as JSON beside it."""
    arrays: dict[str, NDArray[Any]] = {
        "ranks": evaluation.ranks.astype(np.int32),
        "sid_ranks": evaluation.sid_ranks.astype(np.int32),
        "returned": evaluation.returned.astype(np.int32),
        "existing": evaluation.existing.astype(np.int32),
        "lists": _rectangle(evaluation.lists),
        "lengths": np.array([len(items) for items in evaluation.lists], dtype=np.int32),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    heading = {"about": json.dumps(about), "beam": str(evaluation.beam)}
    atomic_write(path, save(arrays, metadata=heading))


def load_lists(path: Path) -> Stored:
    """Read what `save_lists` wrote; ValueError names a damaged file and the remedy."""
    with damage_named(path, "is damaged, delete it to decode again"):
        with safe_open(path, framework="numpy") as file:
            heading = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about, beam = parse_json(heading["about"]), int(heading["beam"])
        if not isinstance(about, dict):
            raise ValueError("about holds no object")
        users = len(arrays["ranks"])
        shapes = dict.fromkeys(_COUNTS, (users,)) | {"lists": (users, *arrays["lists"].shape[1:2])}
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype != np.int32:
                found = f"{arrays[name].dtype} of shape {arrays[name].shape}"
                raise ValueError(f"{name} is {found}, but must be int32 of {users} users")
        lengths, longest = arrays["lengths"], arrays["lists"].shape[1]
        if ((lengths < 0) | (lengths > longest)).any():
            raise ValueError(f"lengths are not all in 0..{longest}")
        lists = [
            row[:length].tolist() for row, length in zip(arrays["lists"], lengths, strict=True)
        ]
        ranks, sid_ranks, returned, existing = (
            arrays[name].astype(np.int64) for name in _COUNTS[:4]
        )
    return Stored(Evaluation(ranks, sid_ranks, lists, returned, existing, beam), about)


def _rectangle(lists: list[list[int]]) -> NDArray[np.int32]:
    """Lists of different lengths → (U, longest) int32, filled up with NOT_FOUND."""
    filled = np.full((len(lists), max(map(len, lists), default=0)), NOT_FOUND, dtype=np.int32)
    for row, items in enumerate(lists):
        filled[row, : len(items)] = items
    return filled
