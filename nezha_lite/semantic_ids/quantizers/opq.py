"""OPQ: product codes on optimally rotated vectors (Ge et al., CVPR 2013, sec. 3.1).

The rotated vector is cut into L equal parts, and each part gets a codebook of its own: level l is
part l. No level depends on another, so that a recommender may predict all of them at once, as RPG
does (arXiv 2506.05781); codes that begin alike are no more alike than codes that end alike.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from nezha_lite.common.checks import Count
from nezha_lite.semantic_ids.quantizers.base import (
    CodebookQuantizer,
    QuantizerConfig,
    by_level,
    check_rows,
    check_shape,
    check_vectors,
)
from nezha_lite.semantic_ids.quantizers.numerics import cluster, means, project
from nezha_lite.semantic_ids.quantizers.residual import nearest_codes, squared_distances


@dataclass(frozen=True)
class OPQConfig(QuantizerConfig):
    """How to fit an `OPQ`.

    Attributes:
        rounds: so many times each codebook takes one of Lloyd's iterations and the rotation
            follows.
        iterations: at most so many of Lloyd's iterations for the final codebooks.
        sample: at most so many rows take part in the rounds; with more rows, the final codebooks
            are made by mini-batch k-means.

    Raises:
        ValueError: naming the field that is out of range.
    """

    rounds: Count = 20
    iterations: Count = 100
    sample: Count = 100_000


class OPQ(CodebookQuantizer):
    """Optimised product quantization over item vectors.

    Vectors whose width L does not divide are padded with zeros before the rotation. Where a part
    has no more distinct values than codes, each gets its own, and the codebook has that many rows.
    """

    kind = "opq"
    config_class = OPQConfig
    config: OPQConfig

    @property
    def rotation(self) -> Tensor:
        """Orthonormal rows: float64 (D, L * ceil(D / L)). RuntimeError before `fit`."""
        return self.state["rotation"]

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Fit rotation and codebooks to `vectors` (N, D); `progress` shows a bar over the rounds.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
        config = self.config
        vectors = check_rows(vectors)
        mean = vectors.mean(0, dtype=torch.float64).float()
        random = np.random.RandomState(config.seed)
        rows = vectors
        if len(vectors) > config.sample:
            rows = vectors[np.sort(random.choice(len(vectors), config.sample, replace=False))]
        centred = rows.double() - mean  # (n, D)
        # Alternating ends in the optimum nearest to its start, so it starts twice: from the
        # vectors as they are, so that rotating does not hurt, and from their principal axes.
        starts = (_pad(centred, config.levels), _allocate(centred, config.levels))
        with tqdm(total=2 * config.rounds, desc="OPQ", unit="round", disable=not progress) as bar:
            fits = [_alternate(centred, start, config, random, bar) for start in starts]
        _, rotation, books = min(fits, key=lambda fit: fit[0])
        parts = project(vectors, mean, rotation).chunk(config.levels, dim=1)
        codebooks = [
            cluster(
                part.double().numpy(),
                radix,
                random,
                config.iterations,
                minibatch_above=config.sample,
                start=book.double().numpy(),
            ).float()
            for part, radix, book in zip(parts, self.radices, books, strict=True)
        ]
        self._state = by_level("codebook", codebooks) | {"mean": mean, "rotation": rotation}
        return self

    def encode(self, vectors: Tensor) -> Tensor:
        """Nearest centroid of each part, ties to the lowest code: int64 (N, L) on the CPU."""
        pairs = zip(self._parts(vectors), self.codebooks, strict=True)
        return torch.stack([nearest_codes(part, book) for part, book in pairs], dim=1)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See `Quantizer.restore`."""
        super().restore(tensors)
        mean, width = tensors["mean"], self.config.levels * self.codebooks[0].shape[1]
        check_shape("mean", mean, range(1, width + 1))
        check_shape("rotation", tensors["rotation"], len(mean), width)

    def _parts(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """The rotated parts of `vectors` (N, D): L of float64 (N, ceil(D / L))."""
        mean, rotation = self.state["mean"], self.rotation
        rotated = project(check_vectors(vectors, len(mean)), mean, rotation).double()
        return rotated.chunk(self.config.levels, dim=1)

    def _level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        level = prefix.shape[1]  # the codes of the prefix do not matter
        return squared_distances(self._parts(vectors)[level], self.codebooks[level])

    def _reconstruct(self, codewords: list[Tensor]) -> Tensor:
        # Parts without a code are taken at the mean of the fitted vectors.
        rotated = torch.cat(codewords, dim=1).double()  # (N, l * ceil(D / L))
        return (rotated @ self.rotation[:, : rotated.shape[1]].T + self.state["mean"]).float()


def _alternate(
    centred: Tensor,
    rotation: Tensor,
    config: OPQConfig,
    random: np.random.RandomState,
    bar: "tqdm[Any]",
) -> tuple[float, Tensor, list[Tensor]]:
    """Codebooks and rotation in turn: squared error of the last codebooks, their rotation, them."""
    parts = (centred @ rotation).chunk(config.levels, dim=1)
    books = [
        cluster(part.numpy(), radix, random, 10, minibatch_above=config.sample).float()
        for part, radix in zip(parts, config.radices, strict=True)
    ]
    for _ in range(config.rounds):
        quantized = []
        for level, part in enumerate((centred @ rotation).chunk(config.levels, dim=1)):
            codes = nearest_codes(part, books[level])
            books[level] = means(part, codes, books[level])
            quantized.append(books[level][codes].double())
        target = torch.cat(quantized, dim=1)
        rotation = _procrustes(centred, target)
        bar.update()
    return float((centred @ rotation - target).square().sum()), rotation, books


def _pad(centred: Tensor, levels: int) -> Tensor:
    """The rotation (D, D') that does nothing but pad with zeros."""
    width = centred.shape[1]
    return torch.eye(width, -(-width // levels) * levels, dtype=centred.dtype)


def _allocate(centred: Tensor, levels: int) -> Tensor:
    """A first rotation (D, D'): principal axes, distributed so that parts vary alike (sec. 3.2)."""
    width = centred.shape[1]
    share = -(-width // levels)
    values, axes = torch.linalg.eigh(centred.T @ centred)  # ascending
    parts: list[list[int]] = [[] for _ in range(levels)]
    logs = [0.0] * levels
    lowest = float(values[-1].clamp(min=1e-300)) * 1e-12
    for axis in range(width - 1, -1, -1):
        # The next axis goes to the part of least volume (product of variances) that is not full.
        part = min((p for p in range(levels) if len(parts[p]) < share), key=logs.__getitem__)
        parts[part].append(axis)
        logs[part] += float(values[axis].clamp(min=lowest).log() - np.log(lowest))
    # Zero columns where the vectors are padded: each part is (D, share).
    return torch.cat([F.pad(axes[:, part], (0, share - len(part))) for part in parts], dim=1)


def _procrustes(centred: Tensor, quantized: Tensor) -> Tensor:
    """The rotation (D, D') with orthonormal rows that takes `centred` closest to `quantized`."""
    left, _, right = torch.linalg.svd(centred.T @ quantized, full_matrices=False)
    return left @ right
