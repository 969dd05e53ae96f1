"""The groups of items that the first l codes make, and the pairs within them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nezha_lite.semantic_ids import SemanticIds

Groups = NDArray[np.int64]  # (N,): the number of each item's group, 0, 1, … without gaps


def prefix_groups(semantic_ids: SemanticIds, level: int) -> Groups:
    """Items are in one group when their first `level` codes agree: int64 (N,)."""
    keys = semantic_ids.keys_of(semantic_ids.codes[:, :level]).numpy()
    return numbered(keys)


def numbered(labels: NDArray[np.generic]) -> Groups:
    """Any labels (N,) as numbers 0, 1, … without gaps."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64).reshape(-1)


def sizes_of(groups: Groups) -> NDArray[np.int64]:
    """How many items each group has, in the order of the groups' numbers."""
    return np.bincount(groups).astype(np.int64)


def pairs_within(sizes: NDArray[np.int64]) -> int:
    """How many pairs of items lie in one group."""
    return int((sizes * (sizes - 1) // 2).sum())


def pairs_of(n_items: int) -> int:
    """How many pairs n items make."""
    return n_items * (n_items - 1) // 2
