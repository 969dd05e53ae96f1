"""Quantizers: item vectors in, one code per level out. Those codes are the semantic IDs.

Two are here, with one interface: residual k-means (`RQKMeans`, no neural network, seconds) and
the residual-quantized autoencoder of TIGER (`RQVAE`, trained). Both quantize coarse to fine: each
level encodes what the levels before it left over, so items that share a prefix are alike.
"""

from typing import Protocol, Self

from torch import Tensor

from nezha_lite.quantizers.rq_kmeans import RQKMeans, RQKMeansConfig
from nezha_lite.quantizers.rq_vae import RQVAE, RQVAEConfig

__all__ = ["RQVAE", "Quantizer", "RQKMeans", "RQKMeansConfig", "RQVAEConfig"]


class Quantizer(Protocol):
    """What a tokenizer needs of a quantizer. L levels, C_l codes at level l, D the input width."""

    @property
    def radices(self) -> tuple[int, ...]:
        """Codes per level as configured, (C_1, ..., C_L): the base of each digit of an item key."""
        ...

    @property
    def codebooks(self) -> tuple[Tensor, ...]:
        """One float32 codebook per level; RuntimeError before `fit` or `load`."""
        ...

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Learn the codebooks from `vectors` (N, D) and return self."""
        ...

    def encode(self, vectors: Tensor) -> Tensor:
        """The codes of `vectors` (N, D): int64 (N, L), level l in 0..C_l - 1."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """The vectors (N, D) that `codes` (N, l) stand for; l < L gives the coarser prefix."""
        ...
