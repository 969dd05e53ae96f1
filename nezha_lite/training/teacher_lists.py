"""List distillation: what a teacher recommends after every training prefix, computed once.

The draft head writes a list, but each training prefix has one next item. A teacher's list says
which other items could have come next, and how likely each one is. The head is trained on it by
teacher forcing, on the hidden states that the batch has anyway.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

from nezha_lite.common.checks import check
from nezha_lite.common.files import damage_named, read_tensors, write_tensors
from nezha_lite.training.packing import TrainingRows

PART = 16_384  # training prefixes a file, until all are there
_BATCH = 256


class Teacher(Protocol):
    """Recommends a list of items for a history.

    Attributes:
        name: what it is, with the settings that decide its lists.
    """

    name: str

    def lists(
        self, users: Sequence[int], histories: Sequence[Sequence[int]], length: int, unseen: bool
    ) -> tuple[Tensor, Tensor]:
        """The best items of B training prefixes.

        Args:
            users: B indices of the users, for a teacher that must not know a user's own future.
            histories: B histories of item indices, oldest first, at least one item each.
            length: J, items a list.
            unseen: whether the history's items are left out.

        Returns:
            items (B, J) int64, best first; weights (B, J) float32, at least 0: 0 where the list is
            shorter. Where it is empty, the true next item alone is learnt.
        """


@dataclass(frozen=True, eq=False)
class TeacherLists:
    """A teacher's lists for T training prefixes, in the order of `TrainingRows`.

    Attributes:
        items: (T, J) int32, best first.
        weights: (T, J) float32, of sum 1.
        about: teacher, unseen, and the training prefixes as a hash.
    """

    items: Tensor
    weights: Tensor
    about: dict[str, Any]

    def cut(self, length: int) -> TeacherLists:
        """The first `length` items of each list, with weights of sum 1."""
        longest = self.items.shape[1]
        check(1 <= length <= longest, "list length", length, f"1 to {longest}, the lists' own")
        return TeacherLists(
            self.items[:, :length].contiguous(), _normalized(self.weights[:, :length]), self.about
        )

    def check(self, rows: TrainingRows, n_items: int) -> None:
        """Raise ValueError unless these lists are of these training prefixes and this catalogue."""
        same = self.about.get("prefixes") == rows.digest
        check(same, "teacher's prefixes", "others", "those of this data set, max_items and stride")
        largest = int(self.items.max())
        check(largest < n_items, "a teacher's item", largest, f"below {n_items}")

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        tensors = {"items": self.items, "weights": self.weights}
        write_tensors(path, tensors, {"about": json.dumps(self.about)})

    @classmethod
    def load(cls, path: str | Path) -> TeacherLists:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if the file is missing.
            ValueError: if it is damaged or holds something else.
        """
        with damage_named(path, "does not hold a teacher's lists; make them again"):
            tensors, metadata = read_tensors(path)
            items, weights = tensors["items"], tensors["weights"]
            shape, valid = tuple(items.shape), "(T, J), as that of weights"
            check(items.ndim == 2 and shape == tuple(weights.shape), "items' shape", shape, valid)
            check(items.numel() == 0 or int(items.min()) >= 0, "an item", int(items.min()), "0 up")
            sums = weights.sum(dim=1)
            check(bool(((sums - 1).abs() < 1e-3).all()), "a sum of weights", "not 1", "1")
            return cls(items, weights, json.loads(metadata["about"]))


def make_lists(
    teacher: Teacher,
    rows: TrainingRows,
    path: str | Path,
    length: int = 16,
    unseen: bool | None = None,
    progress: bool = True,
) -> TeacherLists:
    """The teacher's lists for all training prefixes, written to the file `path`.

    An interrupted call goes on from where it was: parts of 16,384 prefixes are kept beside `path`
    until all are there.

    Args:
        teacher: asked once for every prefix.
        rows: the training rows, whose order the lists have.
        path: of a .safetensors file. If it holds these lists already, they are read.
        length: J, items a list.
        unseen: leave the history's items out; None: where the training data seldom repeat one.
        progress: show a bar.

    Raises:
        ValueError: if `path` holds other lists, or the teacher's weights are not numbers.
    """
    path = Path(path)
    unseen = seldom_repeats(rows) if unseen is None else unseen
    about = {"teacher": teacher.name, "unseen": unseen, "prefixes": rows.digest}
    if path.is_file():
        lists = TeacherLists.load(path)
        same = lists.about == about and lists.items.shape[1] == length
        check(same, "teacher file", str(path), "a new name: it holds lists of other settings")
        return lists
    digest = sha256(json.dumps([about, length]).encode()).hexdigest()[:16]
    folder = path.with_name(f"{path.name}.{digest}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    prefixes, next_items, parts = rows.prefixes(), torch.tensor(rows.next_items), []
    with tqdm(total=rows.n_targets, desc="Teacher's lists", disable=not progress) as bar:
        for start in range(0, rows.n_targets, PART):
            some = list(islice(prefixes, PART))
            part = folder / f"{start}.safetensors"
            if not part.is_file():
                items, weights = _asked(teacher, some, length, unseen)
                empty = weights.sum(dim=1) == 0
                items[empty, 0] = next_items[start : start + PART][empty].int()
                weights[empty, 0] = 1
                write_tensors(part, {"items": items, "weights": weights})
            parts.append(read_tensors(part)[0])
            bar.update(len(some))
    joined = {name: torch.cat([part[name] for part in parts]) for name in ("items", "weights")}
    lists = TeacherLists(joined["items"], joined["weights"], about)
    lists.save(path)
    shutil.rmtree(folder)
    return lists


def seldom_repeats(rows: TrainingRows) -> bool:
    """Whether less than a hundredth of the training targets are in their own history."""
    targets = ((row.items[t], row.items[:t]) for row in rows.rows for t in row.targets)
    repeats = sum(target in history for target, history in targets)
    return repeats < 0.01 * rows.n_targets


def _asked(
    teacher: Teacher, prefixes: Sequence[tuple[int, Sequence[int]]], length: int, unseen: bool
) -> tuple[Tensor, Tensor]:
    """(M, J) int32 items and (M, J) float32 weights of sum 1, or all 0 for an empty list."""
    items, weights = [], []
    for start in range(0, len(prefixes), _BATCH):
        users, histories = zip(*prefixes[start : start + _BATCH], strict=True)
        best, weight = teacher.lists(users, histories, length, unseen)
        if not weight.isfinite().all() or (weight < 0).any():
            raise ValueError(f"The teacher {teacher.name!r} gave a weight that is no number ≥ 0.")
        items.append(best.int().cpu())
        weights.append(_normalized(weight.float().cpu()))
    return torch.cat(items), torch.cat(weights)


def _normalized(weights: Tensor) -> Tensor:
    """Weights of sum 1, but for lists whose weights are all 0."""
    sums = weights.sum(dim=1, keepdim=True)
    return weights / sums.clamp_min(torch.finfo(sums.dtype).tiny)
