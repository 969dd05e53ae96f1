"""One tokenizer on one data set: fit it, and report what its semantic IDs are worth."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace

from torch import Tensor

from nezha_lite.common.results import ResultRow, provenance
from nezha_lite.datasets import InteractionDataset
from nezha_lite.semantic_ids import SemanticIds, released_semantic_ids
from nezha_lite.semantic_ids.quality import IdQuality, id_quality, item_categories
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer, TokenizerConfig, item_vectors
from nezha_lite.semantic_ids.vectors.collaborative import collaborative_vectors
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
    """
    started = time.perf_counter()
    other: SemanticIds | None = None
    if config is None:
        tokenizer = None
        plain = semantic_ids = released_semantic_ids(dataset)
    else:
        tokenizer = ItemTokenizer(config).fit(dataset, progress)
        plain, semantic_ids = tokenizer.plain_ids, tokenizer.semantic_ids
    if config is not None and stability:
        other = (
            ItemTokenizer(replace(config, seed=(config.seed + 1) % 2**32)).fit(dataset).plain_ids
        )
    texts, behaviour = _reference_vectors(dataset)
    quality = id_quality(plain, texts, item_categories(dataset), other)
    metrics = quality.metrics()
    if behaviour is not None:
        for level in id_quality(plain, behaviour).prefixes:
            if level.neighbours is not None:
                metrics[f"behaviour_neighbours@{level.level}"] = round(level.neighbours, 6)
    metrics["collision_rate_after"] = semantic_ids.collision_rate
    metrics["levels_after"] = semantic_ids.levels
    row = ResultRow(
        kind="tokenizer",
        dataset=dataset.name,
        model={},
        metrics=metrics,
        seeds=[] if config is None else [config.seed],
        settings={
            "ids": name or ("released" if config is None else config.quantizer),
            "vectors": None if config is None else "+".join(config.vectors.sources),
            "config": None if config is None else json.loads(json.dumps(asdict(config))),
            "radices": list(plain.radices),
            "radices_after": list(semantic_ids.radices),
        },
        **provenance("cpu"),
        seconds=round(time.perf_counter() - started, 1),
    )
    return TokenizerReport(quality, semantic_ids, tokenizer, row)


def _reference_vectors(dataset: InteractionDataset) -> tuple[Tensor | None, Tensor | None]:
    """The items' vectors by text and by behaviour; None where there is nothing to tell them by."""
    sequences = dataset.train_sequences()
    behaviour = (
        collaborative_vectors(sequences, dataset.n_items)
        if any(len({*sequence}) > 1 for sequence in sequences)
        else None
    )
    texts = item_vectors(dataset) if any(item_sentences(dataset.texts or ())) else None
    return texts, behaviour
