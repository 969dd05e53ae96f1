"""One k-means that handles duplicates, fewer rows than codes and many rows; means; projections."""

import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor


def cluster(
    rows: np.ndarray,
    codes: int,
    random: np.random.RandomState,
    iterations: int = 100,
    restarts: int = 1,
    minibatch_above: int = 100_000,
    start: np.ndarray | None = None,
) -> Tensor:
    """At most `codes` centroids (C, D) of `rows` (N, D) float64, every one of them in use.

    With no more distinct rows than codes, each distinct row is a centroid. `start` (C, D) gives the
    first centroids in place of k-means++ with `restarts` tries.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if (distinct := _distinct_rows(rows, codes)) is not None:
        return torch.from_numpy(distinct)
    algorithm, scale = KMeans, 1.0
    if len(rows) > minibatch_above:
        algorithm = partial(MiniBatchKMeans, batch_size=max(4096, 4 * codes))
        # float32 halves the memory; a common scale keeps its squares in range.
        scale = float(np.abs(rows).max())
        rows = (rows / scale).astype(np.float32)
    init: Any = "k-means++"
    if start is not None and len(start) == codes:
        init = np.asarray(start / scale, rows.dtype)
    kmeans = algorithm(codes, init=init, n_init=restarts, max_iter=iterations, random_state=random)
    # One thread: with several, the order in which partial sums are added varies between runs.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Near-equal rows can merge into fewer clusters; the codebook's size tells, no warning does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = kmeans.fit(rows).labels_
    return torch.from_numpy(kmeans.cluster_centers_[np.unique(labels)].astype(np.float64) * scale)


def _distinct_rows(rows: np.ndarray, limit: int) -> np.ndarray | None:
    """The distinct rows of `rows` (N, D), sorted, if there are at most `limit`; otherwise None."""
    # Sorting a million rows costs more than clustering them; a few thousand usually tell.
    distinct = rows[:0]
    step = 4 * limit + 1024
    for first in range(0, len(rows), step):
        distinct = np.unique(np.concatenate([distinct, rows[first : first + step]]), axis=0)
        if len(distinct) > limit:
            return None
    return distinct


def means(rows: Tensor, codes: Tensor, book: Tensor) -> Tensor:
    """Mean of the `rows` (M, D) of each code: float32 (C, D); `book`'s row where there is none."""
    counts = torch.bincount(codes, minlength=len(book))[:, None]
    sums = torch.zeros(book.shape, dtype=torch.float64).index_add_(0, codes, rows)
    return torch.where(counts > 0, sums / counts.clamp(min=1), book.double()).float()


def project(vectors: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """`(vectors - mean) @ matrix` of (N, D), (D,) and float64 (D, E): float32 (N, E)."""
    # A matrix product adds in an order that depends on the batch's shape. Rounding the float64
    # product to float32 hides that, so that equal vectors get equal outputs in any batch.
    parts = [(rows.double() - mean) @ matrix for rows in torch.split(vectors, 2**16)]
    return torch.cat([part.float() for part in parts])
