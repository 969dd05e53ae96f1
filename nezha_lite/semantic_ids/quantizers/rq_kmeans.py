"""RQ-KMeans: residual quantization with one k-means per level.

Level 1 clusters the vectors; level l clusters what is left of each vector after subtracting the
centroids chosen at levels 1..l-1. A code is the index of the nearest centroid.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from torch import Tensor

from nezha_lite.semantic_ids.quantizers.base import QuantizerConfig
from nezha_lite.semantic_ids.quantizers.files import (
    StoredQuantizer,
    codebooks_of,
    named_codebooks,
)
from nezha_lite.semantic_ids.quantizers.numerics import cluster
from nezha_lite.semantic_ids.quantizers.residual import (
    encode_residuals,
    nearest_codes,
    residual_costs,
    sum_codewords,
)
from nezha_lite.semantic_ids.quantizers.validation import check_range, check_rows, check_vectors


@dataclass(frozen=True)
class RQKMeansConfig(QuantizerConfig):
    """How to fit an `RQKMeans`.

    `iterations` bounds Lloyd's iterations, `restarts` the k-means++ starts of which the best is
    kept. Above `minibatch_above` rows, mini-batch k-means is used.
    Raises ValueError naming the field for values out of range.
    """

    iterations: int = 100
    restarts: int = 2
    minibatch_above: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("iterations", "restarts", "minibatch_above"):
            check_range(name, getattr(self, name), 1)


class RQKMeans(StoredQuantizer[RQKMeansConfig]):
    """Residual k-means over item vectors.

    When a level has no more distinct residuals than codes, each distinct residual becomes its own
    centroid and the codebook has that many rows: fewer than `radices[level]`, which shows how many
    codes are real. `radices` keeps the configured sizes. Same seed, same vectors: same codes.
    """

    kind: ClassVar[str] = "rq-kmeans"
    config_class = RQKMeansConfig

    def __init__(self, config: RQKMeansConfig | None = None) -> None:
        super().__init__(config)
        self._codebooks: tuple[Tensor, ...] | None = None

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
            # A vector that its centroid equals leaves rounding noise behind, which the next level
            # would spend codes on telling apart.
            residual[residual.abs() <= noise] = 0.0
            codebooks.append(codebook)
        self._codebooks = tuple(codebooks)
        return self

    def encode(self, vectors: Tensor) -> Tensor:
        """Greedy nearest centroid per level, ties to the lowest code: int64 (N, L) on the CPU."""
        return encode_residuals(check_vectors(vectors, self.codebooks[0].shape[1]), self.codebooks)

    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        """Squared distance of what `prefix` (N, l) leaves of `vectors` to each centroid after it.

        float64 (N, C_{l+1}), computed as `encode` does; inf for a code without a centroid.
        Raises ValueError for a wrong shape or a code that its codebook does not have.
        """
        vectors = check_vectors(vectors, self.codebooks[0].shape[1])
        return residual_costs(vectors, prefix, self.codebooks, self.radices)

    def decode(self, codes: Tensor) -> Tensor:
        """Sum of the chosen centroids: float32 (N, D) for `codes` (N, l), 1 <= l <= L.

        Raises ValueError for a wrong shape or a code that its codebook does not have.
        """
        return sum_codewords(codes, self.codebooks)

    def state(self) -> dict[str, Tensor]:
        """The codebooks, by name."""
        return named_codebooks(self.codebooks)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state` gave; LookupError or ValueError if it is damaged."""
        self._codebooks = codebooks_of(self.config, tensors)
