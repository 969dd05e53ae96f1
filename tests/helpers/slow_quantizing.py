"""Clustered vectors, small quantizers, and codes and errors found the slow, obvious way."""

from dataclasses import replace

import torch
from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quantizers import RQVAE, Quantizer, RQVAEConfig, make_quantizer

SMALL_VAE = RQVAEConfig(levels=2, codes=(4, 6), hidden=(16,), latent=8, epochs=30, revive_every=5)


def clustered(n: int, width: int = 16, clusters: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(clusters, width, generator=generator)
    noise = 0.3 * torch.randn(n, width, generator=generator)
    return centres[torch.randint(clusters, (n,), generator=generator)] + noise


def error(vectors: Tensor, decoded: Tensor) -> float:
    return float((vectors - decoded).square().sum(1).mean())


def slow_codes(vectors: Tensor, codebooks: tuple[Tensor, ...]) -> Tensor:
    """Nearest codebook row of the residual, one pair at a time; first of equals."""
    rows = []
    for vector in vectors.double().numpy():
        left, codes = vector.copy(), []
        for book in codebooks:
            distances = [float(((left - row) ** 2).sum()) for row in book.double().numpy()]
            codes.append(distances.index(min(distances)))
            left = left - book[codes[-1]].double().numpy()
        rows.append(codes)
    return torch.tensor(rows)


def use(codes: Tensor, radices: tuple[int, ...]) -> list[float]:
    return SemanticIds.from_codes(codes, radices).codebook_use()


def small_quantizer(kind: str, radices: tuple[int, ...]) -> Quantizer:
    """A quantizer of `kind` that a test has the time to fit."""
    if kind == "rq-vae":
        return RQVAE(replace(SMALL_VAE, levels=len(radices), codes=radices))
    return make_quantizer(kind, len(radices), radices)


def greedy_codes(quantizer: Quantizer, vectors: Tensor) -> Tensor:
    """The cheapest code after the cheapest prefix, level by level; first of equals."""
    codes = torch.zeros(len(vectors), 0, dtype=torch.int64)
    for _ in quantizer.radices:
        costs = quantizer.level_costs(vectors, codes).tolist()
        cheapest = torch.tensor([row.index(min(row)) for row in costs])
        codes = torch.cat([codes, cheapest[:, None]], dim=1)
    return codes
