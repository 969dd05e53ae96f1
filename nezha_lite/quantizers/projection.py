"""Linear maps whose outputs do not depend on which other rows are in the batch."""

import torch
from torch import Tensor


def project(vectors: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """`(vectors - mean) @ matrix` of (N, D), (D,) and float64 (D, E): float32 (N, E)."""
    # A matrix product adds in an order that depends on the batch's shape. Rounding the float64
    # product to float32 hides that, so that equal vectors get equal outputs in any company.
    parts = [(rows.double() - mean) @ matrix for rows in torch.split(vectors, 2**16)]
    return torch.cat([part.float() for part in parts])
