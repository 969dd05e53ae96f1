"""Controls: codes that nothing was optimised for, to see what optimised ones are worth.

`LSH` keeps some likeness between items and costs nothing to fit; it is the baseline that TIGER
compares its RQ-VAE with (arXiv 2305.05065, sec. 4.3). `RandomCodes` keeps none at all: whatever a
recommender makes of such IDs, it learnt by heart.
"""

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from nezha_lite.semantic_ids.quantizers.base import QuantizerConfig
from nezha_lite.semantic_ids.quantizers.files import (
    StoredQuantizer,
    check_shape,
)
from nezha_lite.semantic_ids.quantizers.numerics import project
from nezha_lite.semantic_ids.quantizers.validation import (
    check_prefix,
    check_range,
    check_rows,
    check_vectors,
)


@dataclass(frozen=True)
class LSHConfig(QuantizerConfig):
    """How to draw an `LSH`. Raises ValueError unless every number of codes is a power of two."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for radix in self.radices:
            if radix & (radix - 1):
                raise ValueError(
                    f"codes is {radix}: lsh spells a code in bits, so a power of two is needed"
                )

    @property
    def bits(self) -> tuple[int, ...]:
        """Hyperplanes per level, log2 of its codes."""
        return tuple(radix.bit_length() - 1 for radix in self.radices)


class LSH(StoredQuantizer[LSHConfig]):
    """Locality-sensitive hashing: each bit of a code tells the side of one random hyperplane.

    The hyperplanes pass through the mean of the fitted vectors, since vectors that all point one
    way would mostly lie on one side of hyperplanes through the origin. No level depends on another.
    """

    kind: ClassVar[str] = "lsh"
    config_class = LSHConfig

    def __init__(self, config: LSHConfig | None = None) -> None:
        super().__init__(config)
        self._planes: tuple[Tensor, Tensor] | None = None

    @property
    def _fitted(self) -> tuple[Tensor, Tensor]:
        if self._planes is None:
            raise RuntimeError("this LSH has no hyperplanes yet: call fit or load first")
        return self._planes

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Draw the hyperplanes for `vectors` (N, D) and return self; at once, so without a bar.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
        vectors = check_rows(vectors)
        generator = torch.Generator().manual_seed(self.config.seed)
        shape = (sum(self.config.bits), vectors.shape[1])
        normals = torch.randn(shape, generator=generator, dtype=torch.float64)  # (bits, D)
        normals /= normals.norm(dim=1, keepdim=True)
        self._planes = (vectors.mean(0, dtype=torch.float64).float(), normals)
        return self

    def _margins(self, vectors: Tensor) -> Tensor:
        """Signed distances of `vectors` (N, D) to all hyperplanes: float32 (N, bits)."""
        mean, normals = self._fitted
        return project(check_vectors(vectors, len(mean)), mean, normals.T)

    def encode(self, vectors: Tensor) -> Tensor:
        """The sides of each level's hyperplanes as one number, first bit lowest: int64 (N, L)."""
        sides = self._margins(vectors) > 0
        codes = []
        for bits in sides.split(list(self.config.bits), dim=1):
            codes.append((bits * 2 ** torch.arange(bits.shape[1])).sum(1))
        return torch.stack(codes, dim=1)  # (N, L)

    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        """Sum of the distances to the hyperplanes on whose other side a code lies (multi-probe).

        float64 (N, C_{l+1}) whatever the codes of `prefix` (N, l) are; 0 for a vector's own code.
        """
        level = check_prefix(prefix, len(vectors), self.radices).shape[1]
        bits = self.config.bits
        margins = self._margins(vectors).double().split(list(bits), dim=1)[level]  # (N, bits)
        sides = torch.arange(self.radices[level])[:, None] >> torch.arange(bits[level]) & 1
        wrong = (margins > 0)[:, None] != sides.bool()  # (N, C, bits)
        return (margins.abs()[:, None] * wrong).sum(2)

    def state(self) -> dict[str, Tensor]:
        """The fitted mean and the hyperplanes' normals, by name."""
        mean, normals = self._fitted
        return {"mean": mean, "normals": normals}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state` gave; LookupError or ValueError if it is damaged."""
        mean, normals = tensors["mean"], tensors["normals"]
        check_shape("normals", normals, sum(self.config.bits), normals.shape[-1])
        check_shape("mean", mean, normals.shape[-1])
        self._planes = (mean, normals)


class RandomCodes(StoredQuantizer[QuantizerConfig]):
    """Codes drawn uniformly, from a hash of the vector's bytes keyed with the seed.

    So equal vectors share codes, every other likeness is lost, and an item that arrives later gets
    codes that any process would give it.
    """

    kind: ClassVar[str] = "random"
    config_class = QuantizerConfig

    def __init__(self, config: QuantizerConfig | None = None) -> None:
        super().__init__(config)
        self._width: int | None = None

    @property
    def _fitted(self) -> int:
        if self._width is None:
            raise RuntimeError("this RandomCodes knows no width yet: call fit or load first")
        return self._width

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Remember the width of `vectors` (N, D), all there is to learn, and return self.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
        self._width = check_rows(vectors).shape[1]
        return self

    def encode(self, vectors: Tensor) -> Tensor:
        """The hashed codes of `vectors` (N, D): int64 (N, L)."""
        # Adding 0 turns -0 into 0, which equals it and must share its bytes.
        rows = (check_vectors(vectors, self._fitted) + 0.0).numpy().astype("<f4", order="C")
        keys = [_hash_key(self.config.seed, level) for level in range(self.config.levels)]
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

    def state(self) -> dict[str, Tensor]:
        """The vectors' width."""
        return {"width": torch.tensor(self._fitted)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state` gave; LookupError or ValueError if it is damaged."""
        width = int(tensors["width"])
        check_range("width", width, 1)
        self._width = width


def _hash_key(seed: int, level: int) -> bytes:
    return f"{seed} {level}".encode()
