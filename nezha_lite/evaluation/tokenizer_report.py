"""One tokenizer on one data set: fit it, and report what its semantic IDs are worth."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from nezha_lite.common.results import ResultRow
from nezha_lite.datasets import InteractionDataset
from nezha_lite.evaluation.run_folders import as_json
from nezha_lite.semantic_ids import SemanticIds, released_semantic_ids
from nezha_lite.semantic_ids.quality import IdQuality, id_quality, item_categories
from nezha_lite.semantic_ids.quality.problems import Problem
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer, TokenizerConfig, item_vectors
from nezha_lite.semantic_ids.vectors.collaborative import collaborative_vectors
from nezha_lite.semantic_ids.vectors.signal import text_weakness
from nezha_lite.semantic_ids.vectors.tfidf import item_sentences


@dataclass(frozen=True)
class TokenizerReport:
    """What `report_tokenizer` found.

    Attributes:
        quality: of the IDs as the quantizer gave them, before collisions are resolved.
        semantic_ids: after that.
        tokenizer: the fitted tokenizer; None for released IDs.
        row: the figures, ready for `results.write_results`.
    """

    quality: IdQuality
    semantic_ids: SemanticIds
    tokenizer: ItemTokenizer | None
    row: ResultRow


def report_tokenizer(
    dataset: InteractionDataset,
    config: TokenizerConfig | None,
    name: str | None = None,
    stability: bool = False,
    progress: bool = False,
    vectors: Tensor | None = None,
) -> TokenizerReport:
    """Fit a tokenizer and measure its IDs.

    Neighbours are looked up twice for every tokenizer, whatever its own vectors, so that rows
    compare: among the items' default vectors (their texts), and by behaviour
    (`behaviour_neighbours@l`); what the data set cannot tell is left out.

    Args:
        config: None measures the IDs released with the data set.
        name: what the row calls the tokenizer; by default its quantizer, or "released".
        stability: fit once more with the next seed and report how much stays the same.
        progress: show bars while fitting.
        vectors: (N, D), for the source "own" of item vectors.
    """
    started = time.perf_counter()
    tokenizer, plain, semantic_ids = fitted_ids(dataset, config, progress, vectors)
    other: SemanticIds | None = None
    if config and stability:
        next_seed = replace(config, seed=(config.seed + 1) % 2**32)
        _, other, _ = fitted_ids(dataset, next_seed, vectors=vectors)
    texts, behaviour = _reference_vectors(dataset)
    quality = id_quality(plain, texts, item_categories(dataset), other)
    if texts is not None and (sentence := text_weakness(dataset, texts)):
        issues = (*quality.issues, Problem("texts", None, sentence))
        quality = replace(quality, issues=issues)
    metrics = quality.metrics()
    if behaviour is not None:
        for level in id_quality(plain, behaviour).prefixes:
            if level.neighbours is not None:
                metrics[f"behaviour_neighbours@{level.level}"] = round(level.neighbours, 6)
    metrics["collision_rate_after"] = semantic_ids.collision_rate
    metrics["levels_after"] = semantic_ids.levels
    row = ResultRow.measured(
        device="cpu",
        started=started,
        digits=15,  # `IdQuality.metrics` has rounded to significant digits
        kind="tokenizer",
        dataset=dataset.name,
        model={},
        metrics=metrics,
        seeds=[config.seed] if config else [],
        settings={
            "ids": name or (config.quantizer if config else "released"),
            "vectors": "+".join(config.vectors.sources) if config else None,
            "config": as_json(config),
            "radices": list(plain.radices),
            "radices_after": list(semantic_ids.radices),
        },
    )
    return TokenizerReport(quality, semantic_ids, tokenizer, row)


def fitted_ids(
    dataset: InteractionDataset,
    config: TokenizerConfig | None,
    progress: bool = False,
    vectors: Tensor | None = None,
) -> tuple[ItemTokenizer | None, SemanticIds, SemanticIds]:
    """The tokenizer fitted to the data, and its IDs before and after collisions are resolved.

    Without a configuration: None, and twice the IDs released with the data set.
    """
    if config is None:
        released = released_semantic_ids(dataset)
        return None, released, released
    tokenizer = ItemTokenizer(config).fit(dataset, progress, vectors)
    return tokenizer, tokenizer.plain_ids, tokenizer.semantic_ids


def _reference_vectors(dataset: InteractionDataset) -> tuple[Tensor | None, Tensor | None]:
    """The items' vectors by text and by behaviour; None where there is nothing to tell them by."""
    sequences = dataset.train_sequences()
    behaviour = (
        collaborative_vectors(sequences, dataset.n_items)
        if ((np.diff(sequences.values) != 0) & (np.diff(sequences.rows) == 0)).any()
        else None
    )
    texts = item_vectors(dataset) if any(item_sentences(dataset.texts or ())) else None
    return texts, behaviour
