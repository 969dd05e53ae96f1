"""Quantizers: item vectors in, one code per level out. Those codes are the semantic IDs.

All have one interface, `Quantizer`. Most quantize coarse to fine: each level encodes what the
levels before it left over, so items that share a prefix are alike.
"""

from nezha_lite.semantic_ids.quantizers.balanced_rq_kmeans import (
    BalancedRQKMeans,
    BalancedRQKMeansConfig,
)
from nezha_lite.semantic_ids.quantizers.base import Quantizer, QuantizerConfig
from nezha_lite.semantic_ids.quantizers.baselines import LSH, LSHConfig, RandomCodes
from nezha_lite.semantic_ids.quantizers.opq import OPQ, OPQConfig
from nezha_lite.semantic_ids.quantizers.registry import QUANTIZERS, load_quantizer, make_quantizer
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
