"""`nezha-lite train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from nezha_lite.cli.options import (
    ID_OPTIONS,
    Data,
    Preset,
    SplitBy,
    TestFrom,
    load_split,
    oom_hint,
    options_of,
    refuse,
    split_report,
    tokenizer_config,
)
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids.quality import id_quality
from nezha_lite.semantic_ids.tokenizer import TOKENIZERS, build_semantic_ids
from nezha_lite.training import PAPER_RECIPE, TrainingConfig
from nezha_lite.training import train as train_model

Recipe = Literal["scratch", "paper"]
# For a fresh model: one learning rate and the joint loss. The authors', for a pretrained backbone:
# the head's loss alone, and a rate for each part.
RECIPES: Mapping[Recipe, tuple[TrainingConfig, dict[str, Any]]] = {
    "scratch": (TrainingConfig(epochs=16), {"dropout": 0.1, "next_code_weight": 1.0}),
    "paper": (PAPER_RECIPE, {"dropout": 0.0, "next_code_weight": 0.0}),
}


@oom_hint("--batch-rows", "--max-items")
@options_of("shape", tokenizer_config, *ID_OPTIONS)
@options_of(
    "settings",
    RECIPES["scratch"][0],
    *("epochs", "batch_rows", "learning_rate", "embedding_lr", "transition_lr", "window_stride"),
    *("seed", "checkpoints", "validate"),
)
def train(
    dataset: Data,
    output: Path,
    shape: dict[str, Any],
    settings: dict[str, Any],
    preset: Preset = "tiny",
    backbone: str | None = None,
    ids: str = "auto",
    recipe: Recipe = "scratch",
    dropout: float | None = None,
    label_smoothing: float = 0.0,
    next_code_weight: float | None = None,
    max_items: int = 20,
    resume: bool = False,
    split: SplitBy = "leave-one-out",
    test_from: TestFrom = None,
) -> None:
    """Train a model with its draft head.

    Args:
        output: folder for the model; must not hold a run yet
        backbone: pretrained backbone instead: a folder or a hub name
        ids: auto (released ones where they exist), or as in `tokenize`, or a file or folder of IDs
        recipe: scratch (defaults as shown), or paper: the authors' settings, for `--backbone`
        dropout: embeddings, residuals and head
        label_smoothing: of all losses
        next_code_weight: weight of the autoregressive loss; 0: the head's alone
        max_items: longest history, in items
        resume: go on from the newest good checkpoint
    """
    data = load_split(dataset, split, test_from)
    if ids not in TOKENIZERS and ids not in ("auto", "released"):
        refuse(ids, [option for option in shape if option != "cache"])
    training, model_settings = RECIPES[recipe]
    config = replace(training, **settings)
    semantic_ids = build_semantic_ids(data, ids, tokenizer_config(data, **shape, seed=config.seed))
    model_settings = {
        **model_settings,
        **({} if dropout is None else {"dropout": dropout}),
        **({} if next_code_weight is None else {"next_code_weight": next_code_weight}),
        "max_items": max_items,
        "label_smoothing": label_smoothing,
        "seed": config.seed,
    }
    model = (
        NezhaModel.from_backbone(backbone, semantic_ids, **model_settings)
        if backbone
        else NezhaModel.from_preset(preset, semantic_ids, **model_settings)
    )
    print(f"{data.name}: {data.n_users:,} users, semantic IDs of radices {semantic_ids.radices}")
    print(split_report(data))
    for problem in id_quality(semantic_ids).problems():
        print(f"Note: {problem}")
    record = train_model(model, semantic_ids, data, output, config, resume)
    print(f"Trained in {record['seconds']:.0f} s; model, semantic IDs and log are in {output}.")
