"""Item vectors from behaviour alone, for catalogues without texts.

Items taken one after the other by the same users get similar vectors: positive pointwise mutual
information of item pairs within a few steps of each other, reduced by a truncated SVD.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def collaborative_vectors(
    sequences: Sequence[Sequence[int]], n_items: int, dim: int = 64, window: int = 3, seed: int = 0
) -> Tensor:
    """Vectors of all items from the training sequences.

    Args:
        sequences: users' items in time order; give the training part only.
        n_items: N; items that no sequence holds get a zero row.
        dim: width D; columns beyond the rank are zero.
        window: how many steps apart two items may be to count as a pair.
        seed: of the randomised SVD.

    Returns:
        (N, D) float32, rows of length 1 or 0.

    Raises:
        ValueError: if no sequence holds two items.
    """
    from scipy.sparse import coo_matrix
    from sklearn.utils.extmath import randomized_svd

    pairs: Counter[tuple[int, int]] = Counter()
    for sequence in sequences:
        for place, item in enumerate(sequence):
            for other in sequence[place + 1 : place + 1 + window]:
                pairs[item, other] += 1
                pairs[other, item] += 1
    if not pairs:
        raise ValueError("No training sequence holds two items, so nothing tells items apart.")
    rows, columns = np.array(list(pairs)).T
    counts = np.array(list(pairs.values()), dtype=np.float64)
    totals = np.bincount(rows, weights=counts, minlength=n_items)
    information = np.log(counts * counts.sum() / (totals[rows] * totals[columns]))
    positive = coo_matrix((np.maximum(information, 0), (rows, columns)), shape=(n_items, n_items))
    rank = min(dim, n_items)
    left, weights, _ = randomized_svd(positive.tocsr(), rank, random_state=seed)
    vectors = np.zeros((n_items, dim), dtype=np.float32)
    vectors[:, :rank] = left * np.sqrt(weights)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return torch.from_numpy(vectors / np.where(lengths > 1e-6, lengths, 1.0).astype(np.float32))
