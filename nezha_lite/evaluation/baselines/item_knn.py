"""Item-kNN: users who took this item also took that one (Sarwar et al., WWW 2001).

Two items are similar when the same users took both, and more similar when they took them in a row.
A user's list holds what is similar to the latest items of the history. There is no training, only
seconds of counting, and the result is hard to beat on sparse data, so it stands beside every model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from nezha_lite.common.checks import Checked, Count, Valid
from nezha_lite.datasets import Sequences


@dataclass(frozen=True)
class ItemKnnConfig(Checked):
    """Settings of `ItemKnn`; the defaults were best on validation users of Beauty and Toys.

    Attributes:
        neighbours: how many similar items each item keeps.
        window: how many steps apart two items of a user may be to count as a pair.
        shrinkage: added to the normaliser of the counts: pairs seen once or twice weigh less.
        decay: the n-th last item of a history has the weight decay^(n-1); in (0, 1].
    """

    neighbours: Count = 200
    window: Count = 10
    shrinkage: Annotated[float, Valid(lambda value: value >= 0, "0 or more")] = 100.0
    decay: Annotated[float, Valid(lambda value: 0 < value <= 1, "in (0, 1]")] = 0.5


class ItemKnn:
    """Similar items by shrunk cosine of the users who took both; a pair d steps apart counts 1/d.

    Args:
        sequences: the users' items in time order; the training part only.
        n_items: N.

    Attributes:
        similarity: sparse (N, N) float64; a row holds the nearest items of one item.
    """

    def __init__(
        self, sequences: Sequence[Sequence[int]], n_items: int, config: ItemKnnConfig | None = None
    ) -> None:
        self.config = config or ItemKnnConfig()
        self.n_items = n_items
        self.similarity = self._similarity(sequences)

    def scores(self, histories: Sequence[Sequence[int]]) -> Tensor:
        """See `ItemScorer`: (B, N) float32; 0 for items similar to none of the history."""
        from scipy.sparse import csr_matrix

        taken = Sequences.of(histories)
        ages = taken.offsets[taken.rows + 1] - 1 - np.arange(len(taken.values))  # 0 is the latest
        weights = csr_matrix(
            (self.config.decay**ages, (taken.rows, taken.values)),
            shape=(len(histories), self.n_items),
        )
        return torch.from_numpy((weights @ self.similarity).astype(np.float32).toarray())

    def _similarity(self, sequences: Sequence[Sequence[int]]) -> Any:
        taken = Sequences.of(sequences)
        near = self._pair_counts(taken.values, taken.rows)
        occurrences = np.bincount(taken.values, minlength=self.n_items).astype(np.float64)
        rows = np.repeat(np.arange(self.n_items), np.diff(near.indptr))
        near.data /= np.sqrt(occurrences[rows] * occurrences[near.indices]) + self.config.shrinkage
        return _keep_nearest(near, self.config.neighbours)

    def _pair_counts(self, items: Any, users: Any) -> Any:
        """Sparse symmetric (N, N): the sum of 1/d over all pairs of different items d steps apart.

        The pairs of each distance are counted, which is exact, and the counts are weighted
        afterwards: items with the same counts have equal sums, whatever the order of the users.
        """
        from scipy.sparse import csr_matrix

        near = csr_matrix((self.n_items, self.n_items))
        for distance in range(1, min(self.config.window, len(items) - 1) + 1):
            first, second = items[:-distance], items[distance:]
            pair = (users[:-distance] == users[distance:]) & (first != second)
            if pair.any():
                ones = np.ones(np.count_nonzero(pair))
                counts = csr_matrix((ones, (first[pair], second[pair])), shape=near.shape)
                near = near + counts / distance
        return near + near.T


def _keep_nearest(near: Any, neighbours: int) -> Any:
    """Each row's largest entries; of equal ones the lower column."""
    near.sort_indices()
    keep = np.ones(near.nnz, dtype=bool)
    for row in np.flatnonzero(np.diff(near.indptr) > neighbours):
        start, end = near.indptr[row : row + 2]
        order = np.argsort(-near.data[start:end], kind="stable")
        keep[start + order[neighbours:]] = False
    near.data[~keep] = 0
    near.eliminate_zeros()
    return near
