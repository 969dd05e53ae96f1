"""Item-kNN: people who took this also took that (Sarwar et al., WWW 2001).

Two items are near when the same users took both, and nearer when they took them in a row; a user's
list is what is near to the latest items of the history. No training, seconds of work, and hard to
beat on sparse data, so it stands beside every model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ItemKnnConfig:
    """Settings of `ItemKnn`; the defaults were best on validation users of Beauty and Toys.

    Attributes:
        neighbours: how many nearest items each item keeps.
        window: how many steps apart two items of a user may be to count as a pair.
        shrinkage: added to the counts' normaliser: pairs seen once or twice weigh less.
        decay: weight of the n-th last item of a history is decay^(n-1), in (0, 1].
    """

    neighbours: int = 200
    window: int = 10
    shrinkage: float = 100.0
    decay: float = 0.5

    def __post_init__(self) -> None:
        for name in ("neighbours", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1.")
        if not self.shrinkage >= 0:
            raise ValueError(f"shrinkage is {self.shrinkage}, but must not be negative.")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay}, but must be in (0, 1].")


class ItemKnn:
    """Nearest items by shrunk cosine of who took them together, a pair d steps apart counting 1/d.

    Args:
        sequences: users' items in time order; the training part only.
        n_items: N.
    """

    def __init__(
        self, sequences: Sequence[Sequence[int]], n_items: int, config: ItemKnnConfig | None = None
    ) -> None:
        self.config = config or ItemKnnConfig()
        self.n_items = n_items
        self.similarity = self._similarity(sequences)  # sparse (N, N): from a history's item, to

    def scores(self, histories: Sequence[Sequence[int]]) -> Tensor:
        """See `ItemScorer`: (B, N) float32, 0 for items near to none of the history."""
        from scipy.sparse import csr_matrix

        weights, items, users = [], [], []
        for user, history in enumerate(histories):
            for age, item in enumerate(reversed(history)):
                weights.append(self.config.decay**age)
                items.append(item)
                users.append(user)
        taken = csr_matrix((weights, (users, items)), shape=(len(histories), self.n_items))
        return torch.from_numpy((taken @ self.similarity).toarray()).float()

    def _similarity(self, sequences: Sequence[Sequence[int]]) -> Any:
        from scipy.sparse import csr_matrix

        taken = np.zeros(self.n_items)
        pairs: dict[tuple[int, int], float] = {}
        for sequence in sequences:
            for place, item in enumerate(sequence):
                taken[item] += 1
                for step, other in enumerate(sequence[place + 1 : place + 1 + self.config.window]):
                    if other != item:
                        for pair in ((item, other), (other, item)):
                            pairs[pair] = pairs.get(pair, 0.0) + 1.0 / (step + 1)
        ends = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
        counts = np.array(list(pairs.values()))
        norms = np.sqrt(taken[ends[:, 0]] * taken[ends[:, 1]]) + self.config.shrinkage
        near = csr_matrix((counts / norms, ends.T), shape=(self.n_items, self.n_items))
        return _keep_nearest(near, self.config.neighbours)


def _keep_nearest(near: Any, neighbours: int) -> Any:
    """Each row's largest entries; of equal ones the lower column."""
    from scipy.sparse import csr_matrix

    near.sort_indices()
    data, columns, rows = [], [], []
    for row in range(near.shape[0]):
        own = slice(near.indptr[row], near.indptr[row + 1])
        best = np.argsort(-near.data[own], kind="stable")[:neighbours]
        data.append(near.data[own][best])
        columns.append(near.indices[own][best])
        rows.append(np.full(len(best), row))
    places = (np.concatenate(rows), np.concatenate(columns))
    return csr_matrix((np.concatenate(data), places), shape=near.shape)
