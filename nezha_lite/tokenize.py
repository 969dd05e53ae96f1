"""From a catalogue to its semantic IDs in one call: texts → vectors → codes → unique IDs."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from nezha_lite.collaborative import collaborative_vectors
from nezha_lite.datasets import InteractionDataset
from nezha_lite.quantizers import RQVAE, Quantizer, RQKMeans, RQKMeansConfig, RQVAEConfig
from nezha_lite.semantic_ids import SemanticIds, released_semantic_ids
from nezha_lite.text import encoder_vectors, tfidf_vectors

Collisions = Literal["extra-level", "shared"]
IdSource = Literal["auto", "released", "rq-kmeans", "rq-vae"]


def tokenize(
    dataset: InteractionDataset,
    quantizer: Quantizer | None = None,
    vectors: Tensor | None = None,
    collisions: Collisions = "extra-level",
) -> SemanticIds:
    """Build semantic IDs for a data set.

    Args:
        quantizer: an unfitted quantizer; the default is `RQKMeans` with 3 levels of 64 codes. It is
            fitted in place.
        vectors: (N, D) float32 item vectors; the default is `item_vectors(dataset)`.
        collisions: what becomes of items that share an ID. "extra-level" appends a code that tells
            them apart, so every ID is unique; "shared" leaves them, and a decoded ID expands to all
            its items, the more popular first.

    Raises:
        ValueError: if the number of vectors is not the data set's number of items.
    """
    if collisions not in ("extra-level", "shared"):
        raise ValueError(f"collisions is {collisions!r}, but must be 'extra-level' or 'shared'.")
    if vectors is None:
        vectors = item_vectors(dataset)
    if len(vectors) != dataset.n_items:
        raise ValueError(f"vectors has {len(vectors)} rows, but there are {dataset.n_items} items.")
    quantizer = quantizer or RQKMeans(RQKMeansConfig())
    codes = quantizer.fit(vectors).encode(vectors)
    semantic_ids = SemanticIds.from_codes(codes, quantizer.radices, dataset.items)
    return semantic_ids.with_extra_level() if collisions == "extra-level" else semantic_ids


def item_vectors(dataset: InteractionDataset, encoder: str | None = None) -> Tensor:
    """(N, D) float32 vectors of the items: from their texts, or else from who took what.

    Args:
        encoder: a Hugging Face text encoder by name or folder; by default TF-IDF + SVD.

    Raises:
        ValueError: if an encoder is asked for and there are no texts.
    """
    if dataset.texts is None:
        if encoder is not None:
            raise ValueError(f"Data set {dataset.name!r} has no item texts for {encoder} to read.")
        return collaborative_vectors(dataset.train_sequences(), dataset.n_items)
    sentences = [text.sentence() for text in dataset.texts]
    return encoder_vectors(sentences, encoder) if encoder else tfidf_vectors(sentences)


def build_semantic_ids(
    dataset: InteractionDataset,
    source: IdSource = "auto",
    levels: int = 3,
    codes: int = 64,
    collisions: Collisions = "extra-level",
    seed: int = 0,
    encoder: str | None = None,
) -> SemanticIds:
    """Semantic IDs by name, as the command line asks for them.

    Args:
        source: "released" takes the data set's own, "rq-kmeans" and "rq-vae" build them from the
            items' vectors; "auto" takes released ones where they exist, and RQ-KMeans elsewhere.
        levels, codes, seed: of IDs that are built; more codes than items are refused.
        encoder: see `item_vectors`.
        collisions: see `tokenize`.
    """
    if source not in get_args(IdSource):
        raise ValueError(f"source is {source!r}, but must be one of {get_args(IdSource)}.")
    if source == "released" or (source == "auto" and dataset.released_codes is not None):
        released = released_semantic_ids(dataset)
        return released.with_extra_level() if collisions == "extra-level" else released
    largest = max(64, dataset.n_items)
    if codes > largest:
        raise ValueError(
            f"codes is {codes}, but {dataset.n_items} items have use for at most {largest} a level."
        )
    quantizer: Quantizer = (
        RQVAE(RQVAEConfig(levels=levels, codes=codes, seed=seed))
        if source == "rq-vae"
        else RQKMeans(RQKMeansConfig(levels=levels, codes=codes, seed=seed))
    )
    return tokenize(dataset, quantizer, item_vectors(dataset, encoder), collisions)
