"""Item vectors from behaviour alone: which items follow each other closely.

The positive pointwise mutual information (PPMI) of item pairs, reduced by a truncated SVD.
Skip-gram with negative sampling, which learns item2vec (Barkan & Koenigstein 2016), implicitly
factorises the same matrix, shifted by the logarithm of the number of negatives (Levy & Goldberg,
NIPS 2014); factorising it outright is deterministic and needs no further library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.datasets import Sequences
from nezha_lite.semantic_ids.vectors.tfidf import NOISE, unit_rows


def collaborative_vectors(
    sequences: Sequence[Sequence[int]], n_items: int, dim: int = 64, window: int = 10, seed: int = 0
) -> Tensor:
    """Vectors of all items from the training sequences.

    A pair d steps apart counts 1/d, and the information of a pair that was counted c times is
    discounted by c / (c + 1): one user alone proves little (Pantel & Lin, KDD 2002). Rows are U S
    of the SVD, so their cosines are those of the PPMI rows, as far as D columns can hold them.

    Args:
        sequences: users' items in time order; give the training part only.
        n_items: N; items that no sequence holds beside another one get a zero row.
        dim: width D; columns beyond the rank are zero.
        window: how many steps apart two items may be to count as a pair.
        seed: of the randomised SVD.

    Returns:
        (N, D) float32, rows of length 1 or 0.

    Raises:
        ValueError: if no sequence holds two different items, an item is outside 0..N-1, or `dim`
            or `window` is not positive.
    """
    from sklearn.utils.extmath import randomized_svd

    check(dim >= 1, "dim", dim, "a positive number")
    check(window >= 1, "window", window, "a positive number")
    information = _positive_information(sequences, n_items, window)
    rank = min(dim, n_items)
    left, singular, _ = randomized_svd(information, rank, random_state=seed)
    vectors = np.zeros((n_items, dim))
    vectors[:, :rank] = left * np.where(singular > NOISE * singular[0], singular, 0.0)
    return unit_rows(vectors)


def _positive_information(sequences: Sequence[Sequence[int]], n_items: int, window: int) -> Any:
    """Discounted PPMI of all pairs of different items: sparse (N, N), symmetric."""
    from scipy.sparse import csr_matrix

    taken = Sequences.of(sequences)
    items, owners = taken.values, taken.rows
    wrong = items[(items < 0) | (items >= n_items)]
    if len(wrong):
        raise ValueError(f"sequences hold item {wrong[0]}, but there are {n_items} items")
    counts = csr_matrix((n_items, n_items))
    for step in range(1, min(window, len(items) - 1) + 1):
        earlier, later = items[:-step], items[step:]
        pairs = (owners[:-step] == owners[step:]) & (earlier != later)
        weights = np.full(int(pairs.sum()), 1.0 / step)
        counts += csr_matrix((weights, (earlier[pairs], later[pairs])), shape=counts.shape)
    counts = (counts + counts.T).tocoo()
    if not counts.nnz:
        raise ValueError("no training sequence holds two different items: nothing tells them apart")
    count = counts.data
    totals = np.bincount(counts.row, weights=count, minlength=n_items)  # (N,)
    expected = totals[counts.row] * totals[counts.col] / totals.sum()
    information = np.maximum(np.log(count / expected), 0.0) * count / (count + 1.0)
    return csr_matrix((information, (counts.row, counts.col)), shape=counts.shape)
