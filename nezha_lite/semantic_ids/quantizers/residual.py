"""What all residual quantizers share: how they choose codes, and how they decode them.

Level 1 encodes a vector; level l encodes the residual, which is what remains of the vector after
subtracting the codewords of levels 1..l-1. Distances are computed in float64.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nezha_lite.semantic_ids.quantizers.base import CodebookQuantizer, check_vectors

_PAIRS_AT_ONCE = 2**23  # bounds the (rows, C) distance matrix to 64 MB, whatever the catalogue
_ROWS_AT_ONCE = 2**16


class ResidualQuantizer(CodebookQuantizer):
    """Encodes greedily, level by level, and decodes to the sum of the codewords."""

    @property
    def prices(self) -> Sequence[Tensor | float]:
        """Per level, what is added to the squared distance of each code; here nothing."""
        return (0.0,) * self.config.levels

    def encode(self, vectors: Tensor) -> Tensor:
        """Per level the code of least squared distance plus price, ties to the lowest code.

        int64 (N, L) on the CPU.
        """
        return encode_residuals(self._inputs(vectors), self.codebooks, self.prices)

    def _inputs(self, vectors: Tensor) -> Tensor:
        """The vectors that level 1 quantizes: float32 (N, width of the codebooks)."""
        return check_vectors(vectors, self.codebooks[0].shape[1])

    def _level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        residual = self._inputs(vectors).double()
        for column, codebook in zip(prefix.unbind(1), self.codebooks, strict=False):
            residual = residual - codebook[column]
        level = prefix.shape[1]
        return squared_distances(residual, self.codebooks[level]) + self.prices[level]

    def _reconstruct(self, codewords: list[Tensor]) -> Tensor:
        return torch.stack(codewords).sum(0)


def encode_residuals(
    vectors: Tensor, codebooks: Sequence[Tensor], prices: Sequence[Tensor | float] | None = None
) -> Tensor:
    """Greedy residual codes of `vectors` (N, D): int64 (N, L).

    `codebooks` are L of (C_l, D), `prices` L numbers or (C_l,), by default 0.

    >>> coarse, fine = torch.tensor([[0.0], [10.0]]), torch.tensor([[-1.0], [0.0], [1.0]])
    >>> encode_residuals(torch.tensor([[9.2], [0.8]]), [coarse, fine])
    tensor([[1, 0],
            [0, 2]])
    """
    prices = prices or (0.0,) * len(codebooks)
    parts = []
    for chunk in torch.split(vectors, _ROWS_AT_ONCE):
        residual = chunk.double()
        codes = []
        for codebook, price in zip(codebooks, prices, strict=True):
            codes.append(nearest_codes(residual, codebook, price))
            residual = residual - codebook[codes[-1]]
        parts.append(torch.stack(codes, dim=1))  # (rows, L)
    return torch.cat(parts)


def nearest_codes(vectors: Tensor, codebook: Tensor, price: Tensor | float = 0.0) -> Tensor:
    """The code of least squared distance plus price per row of `vectors` (N, D): int64 (N,).

    >>> nearest_codes(torch.tensor([[0.4], [0.6]]), torch.tensor([[0.0], [1.0]]))
    tensor([0, 1])
    """
    chunks = torch.split(vectors, max(1, _PAIRS_AT_ONCE // len(codebook)))
    return torch.cat([squared_distances(chunk, codebook).add_(price).argmin(1) for chunk in chunks])


def squared_distances(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Squared distance of each of `vectors` (N, D) to each row of `codebook` (C, D): (N, C)."""
    # Without the matrix-product shortcut each distance depends on its own pair only, so equal
    # vectors get equal codes in any batch and argmin's "first minimum" rule settles true ties.
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(vectors, codebook.to(vectors.dtype), compute_mode=exact).square_()
