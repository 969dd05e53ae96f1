"""A teacher from a file: the scores that another recommender gave."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.datasets import InteractionDataset
from nezha_lite.training.teacher_lists import Teacher

COLUMNS = ("user", "after", "item", "score")


class ScoresFileTeacher(Teacher):
    """The lists of a Parquet file, for `make_lists`.

    A row says how high an item is ranked for a user whose history ends with the item `after`. A
    prefix without rows has an empty list. Users and items have their names in the data set.

    Args:
        path: a Parquet file with the columns user, after, item and score; a score is a number of at
            least 0, such as a probability.
        dataset: the data set.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it is no Parquet file, lacks a column, names an unknown user or item, or has
            a score that is no number of at least 0.
    """

    def __init__(self, path: str | Path, dataset: InteractionDataset) -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path} of a teacher's scores.")
        digest = sha256(path.read_bytes()).hexdigest()[:16]
        self.name, self._n_items = f"{path.name} {digest}", dataset.n_items
        try:
            table = pl.read_parquet(path)
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
        missing = [name for name in COLUMNS if name not in table.columns]
        check(not missing, f"the columns of {path}", table.columns, f"with {', '.join(COLUMNS)}")
        user = _numbers(table["user"], dataset.users, "user")
        after = _numbers(table["after"], dataset.items, "item")
        items = _numbers(table["item"], dataset.items, "item")
        scores = table["score"].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        valid = np.isfinite(scores) & (scores >= 0)
        if not valid.all():
            row = int(valid.argmin())
            check(False, f"the score of row {row:,}", table["score"][row], "a number of at least 0")
        keys = user * self._n_items + after
        order = np.lexsort((-scores, keys))
        self._keys, self._items, self._scores = keys[order], items[order], scores[order]

    def lists(
        self, users: Sequence[int], histories: Sequence[Sequence[int]], length: int, unseen: bool
    ) -> tuple[Tensor, Tensor]:
        """See `Teacher.lists`."""
        items = torch.zeros(len(users), length, dtype=torch.int64)
        weights = torch.zeros(len(users), length)
        for row, (user, history) in enumerate(zip(users, histories, strict=True)):
            key = user * self._n_items + history[-1]
            start, end = np.searchsorted(self._keys, [key, key + 1])
            listed = np.arange(start, end)
            if unseen:
                listed = listed[~np.isin(self._items[start:end], history)]
            listed = listed[:length]
            items[row, : len(listed)] = torch.from_numpy(self._items[listed])
            weights[row, : len(listed)] = torch.from_numpy(self._scores[listed])
        return items, weights


def _numbers(column: pl.Series, names: Sequence[str], kind: str) -> np.ndarray:
    """Names in a column → their indices, int64."""
    table = pl.DataFrame({"name": names, "index": np.arange(len(names))})
    found = pl.DataFrame({"name": column.cast(pl.String)}).join(
        table, on="name", how="left", maintain_order="left"
    )["index"]
    if unknown := found.null_count():
        first = column[int(found.is_null().arg_max() or 0)]
        check(False, f"the first of {unknown:,} unknown {kind}s", first, "a name in the data set")
    return found.to_numpy()
