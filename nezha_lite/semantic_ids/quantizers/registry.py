"""Quantizers by name: all kinds, how to make one, how to load whichever a file holds."""

from pathlib import Path
from typing import Any

from nezha_lite.semantic_ids.quantizers.balanced_rq_kmeans import (
    BalancedRQKMeans,
    BalancedRQKMeansConfig,
)
from nezha_lite.semantic_ids.quantizers.base import Quantizer, QuantizerConfig
from nezha_lite.semantic_ids.quantizers.baselines import LSH, LSHConfig, RandomCodes
from nezha_lite.semantic_ids.quantizers.files import kind_of
from nezha_lite.semantic_ids.quantizers.opq import OPQ, OPQConfig
from nezha_lite.semantic_ids.quantizers.rq_kmeans import RQKMeans, RQKMeansConfig
from nezha_lite.semantic_ids.quantizers.rq_vae import RQVAE, RQVAEConfig

_CONFIGS: dict[Any, Any] = {
    RQKMeans: RQKMeansConfig,
    BalancedRQKMeans: BalancedRQKMeansConfig,
    RQVAE: RQVAEConfig,
    OPQ: OPQConfig,
    LSH: LSHConfig,
    RandomCodes: QuantizerConfig,
}

QUANTIZERS: dict[str, type[Quantizer]] = {quantizer.kind: quantizer for quantizer in _CONFIGS}
"""Every quantizer class by its kind."""


def make_quantizer(
    kind: str, levels: int = 3, codes: int | tuple[int, ...] = 64, seed: int = 0
) -> Quantizer:
    """An unfitted quantizer of `kind` with that kind's defaults; `codes` may differ per level.

    Raises ValueError naming what is wrong: an unknown kind, or a number out of range.
    """
    quantizer = _of_kind(kind)
    config = _CONFIGS[quantizer](levels=levels, codes=codes, seed=seed)
    made: Quantizer = quantizer(config)
    return made


def load_quantizer(path: str | Path) -> Quantizer:
    """The fitted quantizer in a file that any kind's `save` wrote.

    Raises FileNotFoundError; ValueError if the file holds no quantizer that is known here.
    """
    kind = kind_of(path)
    if kind not in QUANTIZERS:
        raise ValueError(f"{path} holds a quantizer of kind {kind!r}: {_known()} are known")
    return QUANTIZERS[kind].load(path)


def _of_kind(kind: str) -> Any:
    if kind not in QUANTIZERS:
        raise ValueError(f"quantizer is {kind!r}: one of {_known()} is needed")
    return QUANTIZERS[kind]


def _known() -> str:
    return ", ".join(repr(kind) for kind in QUANTIZERS)
