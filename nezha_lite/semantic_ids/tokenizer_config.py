"""How to make semantic IDs: one configuration, and the tokenizers that have a name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import get_args

from nezha_lite.datasets import InteractionDataset
from nezha_lite.semantic_ids.collisions import Collisions
from nezha_lite.semantic_ids.quantizers import QUANTIZERS, make_quantizer
from nezha_lite.semantic_ids.vectors.item_texts import item_sentences
from nezha_lite.semantic_ids.vectors.item_vectors import VectorConfig


@dataclass(frozen=True)
class TokenizerConfig:
    """How to make semantic IDs.

    Attributes:
        quantizer: one of `quantizers.QUANTIZERS`.
        levels: L, before an extra level is added.
        codes: codes per level, one number for all or one per level.
        vectors: what the items' vectors are made of.
        collisions: what becomes of items that share an ID, see `collisions.resolve`. Who keeps a
            code in "next-best" goes by popularity; an "extra-level" numbers in catalogue order, so
            that IDs stay the same while the interactions grow.
        seed: of the quantizer.

    Raises:
        ValueError: naming the field that is out of range.
    """

    quantizer: str = "rq-kmeans"
    levels: int = 3
    codes: int | tuple[int, ...] = 64
    vectors: VectorConfig = field(default_factory=VectorConfig)
    collisions: Collisions = "extra-level"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.collisions not in get_args(Collisions):
            raise ValueError(
                f"collisions is {self.collisions!r}, but must be one of {get_args(Collisions)}."
            )
        make_quantizer(self.quantizer, self.levels, self.codes, self.seed)  # checks the rest


_BEHAVIOUR = VectorConfig(sources=("collaborative",))
# Behaviour counts four times as much as the texts: what people take together is what is predicted.
_BOTH = VectorConfig(sources=("tfidf", "collaborative"), weights=(1.0, 4.0))
TOKENIZERS: dict[str, TokenizerConfig] = {
    **{quantizer: TokenizerConfig(quantizer) for quantizer in QUANTIZERS},
    "rq-kmeans-both": TokenizerConfig("rq-kmeans", vectors=_BOTH),
    "rq-vae-both": TokenizerConfig("rq-vae", vectors=_BOTH),
    "rq-kmeans-behaviour": TokenizerConfig("rq-kmeans", vectors=_BEHAVIOUR),
}
"""By name: the quantizer and, where that is not the texts alone, what its vectors know."""


def named(name: str, shape: TokenizerConfig) -> TokenizerConfig:
    """The tokenizer of this name with everything else as in `shape`.

    The name decides the quantizer, and the vectors if it says more than a quantizer's name.

    Raises:
        ValueError: if there is no tokenizer of that name.
    """
    if name not in TOKENIZERS:
        raise ValueError(f"tokenizer is {name!r}, but must be one of {sorted(TOKENIZERS)}.")
    meant = TOKENIZERS[name]
    vectors = shape.vectors if name in QUANTIZERS else meant.vectors
    return replace(shape, quantizer=meant.quantizer, vectors=vectors)


def default_vectors(dataset: InteractionDataset) -> VectorConfig:
    """TF-IDF where there are words; without any, what users' behaviour tells."""
    words = any(item_sentences(dataset.texts or ()))
    return VectorConfig(sources=("tfidf",) if words else ("collaborative",))
