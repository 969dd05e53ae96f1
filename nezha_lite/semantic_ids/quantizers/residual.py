"""What all residual quantizers share: choosing codes on residuals, and putting them together.

Level 1 encodes a vector; level l encodes what is left of it after subtracting the codewords chosen
at levels 1..l-1. Distances are taken in float64.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nezha_lite.semantic_ids.quantizers.validation import check_known, check_prefix

_PAIRS_AT_ONCE = 2**23  # bounds the (rows, C) distance matrix to 64 MB, whatever the catalogue


def squared_distances(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Squared distance of each of `vectors` (N, D) to each row of `codebook` (C, D): (N, C)."""
    # Without the matrix-product shortcut each distance depends on its own pair only, so equal
    # vectors get equal codes in any batch and argmin's "first minimum" rule settles true ties.
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(vectors, codebook.to(vectors.dtype), compute_mode=exact).square_()


def nearest_codes(vectors: Tensor, codebook: Tensor, prices: Tensor | None = None) -> Tensor:
    """The code of least squared distance (plus its price) per row of `vectors`: int64 (N,)."""
    rows = max(1, _PAIRS_AT_ONCE // len(codebook))
    chosen = []
    for chunk in torch.split(vectors, rows):
        costs = squared_distances(chunk, codebook)
        chosen.append((costs if prices is None else costs + prices).argmin(1))
    return torch.cat(chosen)


def encode_residuals(
    vectors: Tensor, codebooks: Sequence[Tensor], prices: Sequence[Tensor] | None = None
) -> Tensor:
    """Greedy residual codes of `vectors` (N, D): int64 (N, L)."""
    parts = []
    for chunk in torch.split(vectors, 2**16):
        residual = chunk.double()
        codes = []
        for level, codebook in enumerate(codebooks):
            codes.append(nearest_codes(residual, codebook, prices[level] if prices else None))
            residual = residual - codebook[codes[-1]]
        parts.append(torch.stack(codes, dim=1))  # (rows, L)
    return torch.cat(parts)


def residual_costs(
    vectors: Tensor,
    prefix: Tensor,
    codebooks: Sequence[Tensor],
    radices: Sequence[int],
    prices: Sequence[Tensor] | None = None,
) -> Tensor:
    """Squared distance of what `prefix` (N, l) leaves of `vectors` to each codeword of level l + 1.

    float64 (N, C_{l+1}); inf for the codes that the level's codebook does not have.
    """
    prefix = check_prefix(prefix, len(vectors), [len(book) for book in codebooks])
    residual = vectors.double()
    for column, codebook in zip(prefix.unbind(1), codebooks, strict=False):
        residual = residual - codebook[column]
    level = prefix.shape[1]
    costs = squared_distances(residual, codebooks[level])
    if prices is not None:
        costs = costs + prices[level]
    return F.pad(costs, (0, radices[level] - costs.shape[1]), value=torch.inf)


def sum_codewords(codes: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Sum over levels of the chosen codebook rows: (N, D) for `codes` (N, l), 1 <= l <= L."""
    if codes.ndim != 2 or not 1 <= codes.shape[1] <= len(codebooks):
        shape = tuple(codes.shape)
        raise ValueError(f"codes has shape {shape}: (N, l) with l in 1..{len(codebooks)} needed")
    codes = check_known(codes, [len(book) for book in codebooks])
    chosen = [book[column] for column, book in zip(codes.unbind(1), codebooks, strict=False)]
    return torch.stack(chosen).sum(0)
