"""Quantizers by name: all kinds, how to make one, how to load whichever a file holds."""

from pathlib import Path
from typing import Any

from nezha_lite.semantic_ids.quantizers.balanced_rq_kmeans import BalancedRQKMeans
from nezha_lite.semantic_ids.quantizers.base import Quantizer
from nezha_lite.semantic_ids.quantizers.baselines import LSH, RandomCodes
from nezha_lite.semantic_ids.quantizers.files import kind_of
from nezha_lite.semantic_ids.quantizers.opq import OPQ
from nezha_lite.semantic_ids.quantizers.rq_kmeans import RQKMeans
from nezha_lite.semantic_ids.quantizers.rq_vae import RQVAE

_KINDS: tuple[Any, ...] = (RQKMeans, BalancedRQKMeans, RQVAE, OPQ, LSH, RandomCodes)

QUANTIZERS: dict[str, type[Quantizer]] = {quantizer.kind: quantizer for quantizer in _KINDS}
"""Every quantizer class by its kind."""


def make_quantizer(
    kind: str, levels: int = 3, codes: int | tuple[int, ...] = 64, seed: int = 0
) -> Quantizer:
    """An unfitted quantizer of `kind` with that kind's defaults; `codes` may differ per level.

    Raises ValueError naming what is wrong: an unknown kind, or a number out of range.
    """
    if kind not in QUANTIZERS:
        raise ValueError(f"quantizer is {kind!r}: one of {_kinds()} is needed")
    quantizer: Any = QUANTIZERS[kind]
    unfitted: Quantizer = quantizer(quantizer.config_class(levels, codes, seed))
    return unfitted


def load_quantizer(path: str | Path) -> Quantizer:
    """The fitted quantizer in a file that any kind's `save` wrote.

    Raises FileNotFoundError; ValueError if the file holds no quantizer that is known here.
    """
    kind = kind_of(path)
    if kind not in QUANTIZERS:
        raise ValueError(f"{path} holds a quantizer of kind {kind!r}: {_kinds()} are valid")
    return QUANTIZERS[kind].load(path)


def _kinds() -> str:
    return ", ".join(repr(kind) for kind in QUANTIZERS)
