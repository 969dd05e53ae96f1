"""RQ-KMeans: residual quantization with one k-means per level.

Level 1 clusters the vectors; level l clusters what is left of each vector after subtracting the
centroids chosen at levels 1..l-1. A code is the index of the nearest centroid.
"""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from nezha_lite.quantizers.residual import (
    check_codes,
    check_range,
    check_vectors,
    encode_residuals,
    load_quantizer,
    nearest_codes,
    save_quantizer,
    spread_codes,
    sum_codewords,
)


@dataclass(frozen=True)
class RQKMeansConfig:
    """How to fit an `RQKMeans`.

    `codes` is one number for all levels or one per level; 1 is allowed and makes a level that
    tells no items apart. `iterations` bounds Lloyd's iterations, `restarts` the k-means++ starts
    of which the best is kept. Above `minibatch_above` rows, mini-batch k-means is used.
    Raises ValueError naming the field for values out of range.
    """

    levels: int = 3
    codes: int | tuple[int, ...] = 64
    seed: int = 0
    iterations: int = 100
    restarts: int = 2
    minibatch_above: int = 100_000

    def __post_init__(self) -> None:
        check_codes(self.levels, self.codes)
        check_range("seed", self.seed, 0, 2**32 - 1)
        for name in ("iterations", "restarts", "minibatch_above"):
            check_range(name, getattr(self, name), 1)

    @property
    def radices(self) -> tuple[int, ...]:
        """Codes per level, (C_1, ..., C_L)."""
        return spread_codes(self.levels, self.codes)


class RQKMeans:
    """Residual k-means over item vectors.

    When a level has no more distinct residuals than codes, each distinct residual becomes its own
    centroid and the codebook has that many rows: fewer than `radices[level]`, which shows how many
    codes are real. `radices` keeps the configured sizes. Same seed, same vectors: same codes.
    """

    def __init__(self, config: RQKMeansConfig | None = None) -> None:
        self.config = config or RQKMeansConfig()
        self._codebooks: tuple[Tensor, ...] | None = None

    @property
    def radices(self) -> tuple[int, ...]:
        """Codes per level as configured, (C_1, ..., C_L)."""
        return self.config.radices

    @property
    def codebooks(self) -> tuple[Tensor, ...]:
        """Centroids per level: float32 (at most C_l, D) each. RuntimeError before `fit`."""
        if self._codebooks is None:
            raise RuntimeError("this RQKMeans has no codebooks yet: call fit or load first")
        return self._codebooks

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Fit the codebooks to `vectors` (N, D), level by level, on the CPU; returns self.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
        from tqdm import tqdm

        residual = check_vectors(vectors).double()  # (N, D)
        if not len(residual):
            raise ValueError("vectors has no rows: fitting needs at least one vector")
        noise = 1e-6 * residual.abs().max()
        random = np.random.RandomState(self.config.seed)
        codebooks = []
        for radix in tqdm(self.radices, desc="RQ-KMeans", unit="level", disable=not progress):
            codebook = _cluster(residual.numpy(), radix, self.config, random).float()  # (C, D)
            residual = residual - codebook[nearest_codes(residual, codebook)]
            # A vector that its centroid equals leaves rounding noise behind, which the next level
            # would spend codes on telling apart.
            residual = residual.where(residual.abs() > noise, 0.0)
            codebooks.append(codebook)
        self._codebooks = tuple(codebooks)
        return self

    def encode(self, vectors: Tensor) -> Tensor:
        """Greedy nearest centroid per level, ties to the lowest code: int64 (N, L) on the CPU."""
        return encode_residuals(check_vectors(vectors, self.codebooks[0].shape[1]), self.codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Sum of the chosen centroids: float32 (N, D) for `codes` (N, l), 1 <= l <= L.

        Raises ValueError for a wrong shape or a code that its codebook does not have.
        """
        return sum_codewords(codes, self.codebooks)

    def save(self, path: str | Path) -> None:
        """Write codebooks and config to one safetensors file; an old one is replaced whole."""
        tensors = {f"codebook.{level}": book for level, book in enumerate(self.codebooks)}
        save_quantizer(path, "rq-kmeans", asdict(self.config), tensors)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. ValueError if the file holds no RQ-KMeans quantizer."""
        fields, tensors = load_quantizer(path, "rq-kmeans")
        quantizer = cls(RQKMeansConfig(**fields))
        names = [f"codebook.{level}" for level in range(quantizer.config.levels)]
        quantizer._codebooks = tuple(tensors[name] for name in names)
        return quantizer


def _cluster(
    residual: np.ndarray, codes: int, config: RQKMeansConfig, random: np.random.RandomState
) -> Tensor:
    """At most `codes` centroids (C, D) of `residual` (N, D), every one of them in use."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    distinct = np.unique(residual, axis=0)
    if len(distinct) <= codes:
        return torch.from_numpy(distinct)
    settings: dict[str, Any] = {
        "n_clusters": codes,
        "n_init": config.restarts,
        "max_iter": config.iterations,
        "random_state": random,
    }
    if len(residual) > config.minibatch_above:
        kmeans = MiniBatchKMeans(batch_size=max(4096, 4 * codes), **settings)
    else:
        kmeans = KMeans(**settings)
    # One thread: with several, the order in which partial sums are added varies between runs.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Near-equal rows can merge into fewer clusters; the codebook's size tells, no warning does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = kmeans.fit(residual).labels_
    return torch.from_numpy(kmeans.cluster_centers_[np.unique(labels)])
