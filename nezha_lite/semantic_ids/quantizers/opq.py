"""OPQ: product codes on optimally rotated vectors (Ge et al., CVPR 2013, sec. 3.1).

The rotated vector is cut into L equal parts, and each part gets a codebook of its own: level l is
part l. No level depends on another, so that a recommender may predict all of them at once, as RPG
does (arXiv 2506.05781); codes that begin alike are no more alike than codes that end alike.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nezha_lite.semantic_ids.quantizers.base import QuantizerConfig
from nezha_lite.semantic_ids.quantizers.files import (
    StoredQuantizer,
    check_shape,
    codebooks_of,
    named_codebooks,
)
from nezha_lite.semantic_ids.quantizers.numerics import cluster, means, project
from nezha_lite.semantic_ids.quantizers.residual import nearest_codes, squared_distances
from nezha_lite.semantic_ids.quantizers.validation import (
    check_known,
    check_prefix,
    check_range,
    check_rows,
    check_vectors,
)

if TYPE_CHECKING:
    from tqdm import tqdm


@dataclass(frozen=True)
class OPQConfig(QuantizerConfig):
    """How to fit an `OPQ`.

    `rounds` times, each codebook takes one of Lloyd's iterations and the rotation follows, on at
    most `sample` rows; the final codebooks take at most `iterations` of Lloyd's iterations, in
    mini-batches above `sample` rows.
    Raises ValueError naming the field for values out of range.
    """

    rounds: int = 20
    iterations: int = 100
    sample: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rounds", "iterations", "sample"):
            check_range(name, getattr(self, name), 1)


class OPQ(StoredQuantizer[OPQConfig]):
    """Optimised product quantization over item vectors.

    Vectors whose width L does not divide are padded with zeros before the rotation. Where a part
    has no more distinct values than codes, each gets its own, and the codebook has that many rows.
    """

    kind: ClassVar[str] = "opq"
    config_class = OPQConfig

    def __init__(self, config: OPQConfig | None = None) -> None:
        super().__init__(config)
        self._codebooks: tuple[Tensor, ...] | None = None
        self._mean = torch.empty(0)
        self._rotation = torch.empty(0, 0)

    @property
    def codebooks(self) -> tuple[Tensor, ...]:
        """Centroids per level: float32 (at most C_l, ceil(D / L)). RuntimeError before `fit`."""
        if self._codebooks is None:
            raise RuntimeError("this OPQ has no codebooks yet: call fit or load first")
        return self._codebooks

    @property
    def rotation(self) -> Tensor:
        """Orthonormal rows: float64 (D, L * ceil(D / L)). RuntimeError before `fit`."""
        return self._rotation if self.codebooks else torch.empty(0)

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Fit rotation and codebooks to `vectors` (N, D); `progress` shows a bar over the rounds.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
        from tqdm import tqdm

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
        best = float("inf")
        with tqdm(total=2 * config.rounds, desc="OPQ", unit="round", disable=not progress) as bar:
            for start in starts:
                error, turned, found = _alternate(centred, start, config, random, bar)
                if error < best:
                    best, rotation, books = error, turned, found
        self._mean, self._rotation = mean, rotation
        self._codebooks = tuple(
            cluster(
                part.double().numpy(),
                radix,
                random,
                config.iterations,
                minibatch_above=config.sample,
                start=book.double().numpy(),
            ).float()
            for part, radix, book in zip(
                project(vectors, mean, rotation).chunk(config.levels, dim=1),
                self.radices,
                books,
                strict=True,
            )
        )
        return self

    def _parts(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """The rotated parts of `vectors` (N, D): L of float32 (N, ceil(D / L))."""
        levels = len(self.codebooks)
        vectors = check_vectors(vectors, len(self._mean))
        return project(vectors, self._mean, self._rotation).chunk(levels, dim=1)

    def encode(self, vectors: Tensor) -> Tensor:
        """Nearest centroid of each part, ties to the lowest code: int64 (N, L) on the CPU."""
        pairs = zip(self._parts(vectors), self.codebooks, strict=True)
        return torch.stack([nearest_codes(part.double(), book) for part, book in pairs], dim=1)

    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        """Squared distance of part l + 1 of `vectors` to each of its centroids.

        float64 (N, C_{l+1}) whatever the codes of `prefix` (N, l) are; inf for a code without a
        centroid. Raises ValueError for a wrong shape or a code that its codebook does not have.
        """
        sizes = [len(book) for book in self.codebooks]
        level = check_prefix(prefix, len(vectors), sizes).shape[1]
        part = self._parts(vectors)[level].double()
        missing = self.radices[level] - sizes[level]
        return F.pad(squared_distances(part, self.codebooks[level]), (0, missing), value=torch.inf)

    def decode(self, codes: Tensor) -> Tensor:
        """The chosen centroids, rotated back: float32 (N, D) for `codes` (N, l), 1 <= l <= L.

        Parts without a code are taken at the mean of the fitted vectors.
        Raises ValueError for a wrong shape or a code that its codebook does not have.
        """
        books = self.codebooks
        if codes.ndim != 2 or not 1 <= codes.shape[1] <= len(books):
            shape = tuple(codes.shape)
            raise ValueError(f"codes has shape {shape}: (N, l) with l in 1..{len(books)} needed")
        codes = check_known(codes, [len(book) for book in books])
        chosen = [book[column] for book, column in zip(books, codes.unbind(1), strict=False)]
        rotated = torch.cat(chosen, dim=1).double()  # (N, l * D' / L)
        return (rotated @ self._rotation[:, : rotated.shape[1]].T + self._mean).float()

    def state(self) -> dict[str, Tensor]:
        """Codebooks, mean and rotation, by name."""
        books = named_codebooks(self.codebooks)
        return books | {"mean": self._mean, "rotation": self._rotation}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state` gave; LookupError or ValueError if it is damaged."""
        books = codebooks_of(self.config, tensors)
        mean, rotation = tensors["mean"], tensors["rotation"]
        parts, width = len(books), books[0].shape[1]
        check_shape("mean", mean, range(1, parts * width + 1))
        check_shape("rotation", rotation, len(mean), parts * width)
        self._codebooks, self._mean, self._rotation = books, mean, rotation


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
    """A first rotation (D, D'): principal axes, dealt out so that parts vary alike (sec. 3.2)."""
    width = centred.shape[1]
    share = -(-width // levels)
    values, axes = torch.linalg.eigh(centred.T @ centred)  # ascending
    parts: list[list[int]] = [[] for _ in range(levels)]
    logs = [0.0] * levels
    floor = float(values[-1].clamp(min=1e-300)) * 1e-12
    for axis in range(width - 1, -1, -1):
        # The next axis goes to the part of least volume (product of variances) with room left.
        part = min((p for p in range(levels) if len(parts[p]) < share), key=logs.__getitem__)
        parts[part].append(axis)
        logs[part] += float(values[axis].clamp(min=floor).log() - np.log(floor))
    columns = [
        F.pad(axes[:, part], (0, share - len(part))) for part in parts
    ]  # each (D, share); zero columns where the vectors are padded
    return torch.cat(columns, dim=1)


def _procrustes(centred: Tensor, quantized: Tensor) -> Tensor:
    """The rotation (D, D') with orthonormal rows that takes `centred` closest to `quantized`."""
    left, _, right = torch.linalg.svd(centred.T @ quantized, full_matrices=False)
    return left @ right
