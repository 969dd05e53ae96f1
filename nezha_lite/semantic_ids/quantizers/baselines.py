"""Controls: codes without any optimisation, to compare optimised ones with.

`LSH` keeps some likeness between items and costs nothing to fit; it is the baseline that TIGER
compares its RQ-VAE with (arXiv 2305.05065, sec. 4.3). `RandomCodes` keeps none at all: a
recommender can only memorise such IDs.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.semantic_ids.quantizers.base import (
    Quantizer,
    QuantizerConfig,
    check_prefix,
    check_rows,
    check_shape,
    check_vectors,
)
from nezha_lite.semantic_ids.quantizers.numerics import project


@dataclass(frozen=True)
class LSHConfig(QuantizerConfig):
    """How to draw an `LSH`. Raises ValueError unless every number of codes is a power of two."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for radix in self.radices:
            check(radix.bit_count() == 1, "codes", radix, "a power of two, as lsh codes are bits")

    @property
    def bits(self) -> tuple[int, ...]:
        """Hyperplanes per level, log2 of its codes."""
        return tuple(radix.bit_length() - 1 for radix in self.radices)


class LSH(Quantizer):
    """Locality-sensitive hashing: each bit of a code tells the side of one random hyperplane.

    The hyperplanes pass through the mean of the fitted vectors, since vectors that all point one
    way would mostly lie on one side of hyperplanes through the origin. No level depends on another.
    """

    kind = "lsh"
    config_class = LSHConfig
    config: LSHConfig

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Draw the hyperplanes for `vectors` (N, D) and return self; at once, so without a bar.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
        vectors = check_rows(vectors)
        generator = torch.Generator().manual_seed(self.config.seed)
        shape = (sum(self.config.bits), vectors.shape[1])
        normals = torch.randn(shape, generator=generator, dtype=torch.float64)  # (bits, D)
        normals /= normals.norm(dim=1, keepdim=True)
        self._state = {"mean": vectors.mean(0, dtype=torch.float64).float(), "normals": normals}
        return self

    def encode(self, vectors: Tensor) -> Tensor:
        """The sides of each level's hyperplanes as one number, first bit lowest: int64 (N, L)."""
        sides = [margins > 0 for margins in self._margins(vectors)]  # L of (N, bits)
        return torch.stack([(bits * 2 ** torch.arange(bits.shape[1])).sum(1) for bits in sides], 1)

    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        """Sum of the distances to the hyperplanes on whose other side a code lies (multi-probe).

        float64 (N, C_{l+1}) whatever the codes of `prefix` (N, l) are; 0 for a vector's own code.
        """
        level = check_prefix(prefix, len(vectors), self.radices).shape[1]
        margins = self._margins(vectors)[level].double()  # (N, bits)
        sides = torch.arange(self.radices[level])[:, None] >> torch.arange(margins.shape[1]) & 1
        wrong = (margins > 0)[:, None] != sides.bool()  # (N, C, bits)
        return (margins.abs()[:, None] * wrong).sum(2)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See `Quantizer.restore`."""
        width = tensors["normals"].shape[-1]
        check_shape("normals", tensors["normals"], sum(self.config.bits), width)
        check_shape("mean", tensors["mean"], width)
        super().restore(tensors)

    def _margins(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """Signed distances of `vectors` (N, D) to each level's hyperplanes: float32 (N, bits)."""
        mean, normals = self.state["mean"], self.state["normals"]
        margins = project(check_vectors(vectors, len(mean)), mean, normals.T)
        return margins.split(list(self.config.bits), dim=1)


class RandomCodes(Quantizer):
    """Codes drawn uniformly, from a hash of the vector's bytes keyed with the seed.

    So equal vectors share codes, every other likeness is lost, and an item that arrives later gets
    codes that any process would give it.
    """

    kind = "random"

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Remember the width of `vectors` (N, D), all there is to learn, and return self.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
        self._state = {"width": torch.tensor(check_rows(vectors).shape[1])}
        return self

    def encode(self, vectors: Tensor) -> Tensor:
        """The hashed codes of `vectors` (N, D): int64 (N, L)."""
        # Adding 0 turns -0 into 0, which equals it and must share its bytes.
        vectors = check_vectors(vectors, int(self.state["width"]))
        rows = (vectors + 0.0).numpy().astype("<f4", order="C")
        keys = [f"{self.config.seed} {level}".encode() for level in range(self.config.levels)]
        codes = torch.empty(len(rows), len(keys), dtype=torch.int64)
        for row, content in enumerate(map(bytes, rows)):
            for level, (key, radix) in enumerate(zip(keys, self.radices, strict=True)):
                digest = hashlib.blake2b(content, digest_size=8, key=key).digest()
                codes[row, level] = int.from_bytes(digest, "little") % radix
        return codes

    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        """How many codes to count up, cyclically, from a vector's own: linear probing.

        float64 (N, C_{l+1}) whatever the codes of `prefix` (N, l) are; 0 for a vector's own code.
        """
        level = check_prefix(prefix, len(vectors), self.radices).shape[1]
        radix = self.radices[level]
        return ((torch.arange(radix) - self.encode(vectors)[:, level, None]) % radix).double()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See `Quantizer.restore`."""
        width = int(tensors["width"])
        check(width >= 1, "width", width, "at least 1")
        super().restore(tensors)
