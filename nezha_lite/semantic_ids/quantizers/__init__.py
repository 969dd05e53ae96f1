"""Quantizers: item vectors in, one code per level out. Those codes are the semantic IDs.

All have one interface, `Quantizer`. Most quantize coarse to fine: each level encodes the residual
of the levels before it, so items that share a prefix are alike.
"""

from pathlib import Path

from nezha_lite.common.checks import check
from nezha_lite.semantic_ids.quantizers.balanced_rq_kmeans import (
    BalancedRQKMeans,
    BalancedRQKMeansConfig,
)
from nezha_lite.semantic_ids.quantizers.base import Quantizer, QuantizerConfig, read_quantizer
from nezha_lite.semantic_ids.quantizers.baselines import LSH, LSHConfig, RandomCodes
from nezha_lite.semantic_ids.quantizers.opq import OPQ, OPQConfig
from nezha_lite.semantic_ids.quantizers.rq_kmeans import RQKMeans, RQKMeansConfig
from nezha_lite.semantic_ids.quantizers.rq_vae import RQVAE, RQVAEConfig

__all__ = [
    "LSH",
    "OPQ",
    "QUANTIZERS",
    "RQVAE",
    "BalancedRQKMeans",
    "BalancedRQKMeansConfig",
    "LSHConfig",
    "OPQConfig",
    "Quantizer",
    "QuantizerConfig",
    "RQKMeans",
    "RQKMeansConfig",
    "RQVAEConfig",
    "RandomCodes",
    "load_quantizer",
    "make_quantizer",
]

QUANTIZERS: dict[str, type[Quantizer]] = {
    quantizer.kind: quantizer
    for quantizer in (RQKMeans, BalancedRQKMeans, RQVAE, OPQ, LSH, RandomCodes)
}
"""Every quantizer class by its kind."""


def make_quantizer(
    kind: str, levels: int = 3, codes: int | tuple[int, ...] = 64, seed: int = 0
) -> Quantizer:
    """An unfitted quantizer of `kind` with that kind's defaults; `codes` may differ per level.

    Raises ValueError naming what is wrong: an unknown kind, or a number out of range.
    """
    check(kind in QUANTIZERS, "quantizer", kind, f"one of {', '.join(map(repr, QUANTIZERS))}")
    quantizer = QUANTIZERS[kind]
    return quantizer(quantizer.config_class(levels, codes, seed))


def load_quantizer(path: str | Path) -> Quantizer:
    """The fitted quantizer in a file that any kind's `save` wrote.

    Raises FileNotFoundError; ValueError if the file holds no quantizer of a known kind.
    """
    kind = read_quantizer(path)[0].get("quantizer")
    check(kind in QUANTIZERS, f"The kind of quantizer in {path}", kind, f"one of {[*QUANTIZERS]}")
    return QUANTIZERS[str(kind)].load(path)
