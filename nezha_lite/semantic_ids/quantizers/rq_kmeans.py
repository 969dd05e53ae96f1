"""RQ-KMeans: residual quantization with one k-means per level.

Level 1 clusters the vectors; level l clusters their residuals, which remain after subtracting the
centroids of levels 1..l-1. A code is the index of the nearest centroid.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Tensor
from tqdm import tqdm

from nezha_lite.common.checks import Count
from nezha_lite.semantic_ids.quantizers.base import QuantizerConfig, by_level, check_rows
from nezha_lite.semantic_ids.quantizers.numerics import cluster
from nezha_lite.semantic_ids.quantizers.residual import ResidualQuantizer, nearest_codes


@dataclass(frozen=True)
class RQKMeansConfig(QuantizerConfig):
    """How to fit an `RQKMeans`.

    Attributes:
        iterations: at most so many of Lloyd's iterations.
        restarts: k-means++ starts, of which the best is used.
        minibatch_above: with more rows than this, mini-batch k-means is used.

    Raises:
        ValueError: naming the field that is out of range.
    """

    iterations: Count = 100
    restarts: Count = 2
    minibatch_above: Count = 100_000


class RQKMeans(ResidualQuantizer):
    """Residual k-means over item vectors.

    When a level has no more distinct residuals than codes, each distinct residual becomes its own
    centroid and the codebook has that many rows: fewer than `radices[level]`, which shows how many
    codes are real. `radices` keeps the configured sizes. Same seed, same vectors: same codes.

    >>> import torch
    >>> vectors = torch.tensor([[0.0, 0.0], [0.0, 1.0], [8.0, 0.0], [8.0, 1.0]])
    >>> quantizer = RQKMeans(RQKMeansConfig(levels=2, codes=2)).fit(vectors)
    >>> codes = quantizer.encode(vectors)
    >>> bool(codes[0, 0] == codes[1, 0]), bool(codes[0, 0] == codes[2, 0])  # level 1: left or right
    (True, False)
    >>> quantizer.decode(codes).allclose(vectors)
    True
    """

    kind = "rq-kmeans"
    config_class = RQKMeansConfig
    config: RQKMeansConfig

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Fit the codebooks to `vectors` (N, D), level by level, on the CPU; returns self.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
        config = self.config
        residual = check_rows(vectors).double()  # (N, D)
        noise = 1e-6 * residual.abs().max()
        random = np.random.RandomState(config.seed)
        codebooks = []
        for radix in tqdm(self.radices, desc="RQ-KMeans", unit="level", disable=not progress):
            codebook = cluster(
                residual.numpy(),
                radix,
                random,
                config.iterations,
                config.restarts,
                config.minibatch_above,
            ).float()  # (C, D)
            residual -= codebook[nearest_codes(residual, codebook)]
            # A vector that equals its centroid leaves rounding noise, and the next level would
            # spend codes on telling that apart.
            residual[residual.abs() <= noise] = 0.0
            codebooks.append(codebook)
        self._state = by_level("codebook", codebooks)
        return self
