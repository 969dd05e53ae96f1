"""`nezha-lite data` and `nezha-lite train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nezha_lite.cli.options import (
    Cache,
    Codes,
    CollisionWay,
    Data,
    Encoder,
    Levels,
    Sources,
    lower,
    refuse,
    tokenizer_config,
)

if TYPE_CHECKING:
    from nezha_lite.training.config import TrainingConfig

Recipe = Literal["scratch", "paper"]


def _scratch() -> tuple[TrainingConfig, dict[str, Any]]:
    """For a fresh model: one learning rate, and the joint loss."""
    from nezha_lite.training.config import TrainingConfig

    return TrainingConfig(epochs=16), {"dropout": 0.1, "next_code_weight": 1.0}


def _paper() -> tuple[TrainingConfig, dict[str, Any]]:
    """The authors', for a pretrained backbone: the head's loss alone, and a rate for each part."""
    from nezha_lite.training.config import PAPER_RECIPE

    return PAPER_RECIPE, {"dropout": 0.0, "next_code_weight": 0.0}


RECIPES: Mapping[Recipe, Callable[[], tuple[TrainingConfig, dict[str, Any]]]] = {
    "scratch": _scratch,
    "paper": _paper,
}


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def data(dataset: Data) -> None:
    """Show what is in a data set; download it first where needed."""
    from nezha_lite.datasets import load_dataset
    from nezha_lite.semantic_ids import released_semantic_ids

    found = load_dataset(dataset)
    targets = sum(max(0, len(sequence) - 1) for sequence in found.train_sequences())
    print(
        f"{found.name}: {found.n_users:,} users, {found.n_items:,} items, "
        f"{found.n_interactions:,} interactions, {targets:,} training targets"
    )
    print(f"item texts: {'yes' if found.texts else 'no'}")
    if found.released_codes is None:
        source = "the texts" if found.texts else "who took what"
        print(f"released semantic IDs: none; `train` builds some from {source}")
    else:
        ids = released_semantic_ids(found)
        print(
            f"released semantic IDs: radices {ids.radices}, {ids.n_distinct:,} distinct, "
            f"collision rate {ids.collision_rate:.4f}"
        )


@lower("--batch-rows", "--max-items")
def train(
    dataset: Data,
    output: Annotated[Path, typer.Argument(help="folder for the model; must not hold a run yet")],
    preset: Annotated[str, typer.Option(help="backbone: tiny, small, qwen3-0.6b, …")] = "tiny",
    backbone: Annotated[
        str | None, typer.Option(help="pretrained backbone instead: a folder or a hub name")
    ] = None,
    ids: Annotated[
        str,
        typer.Option(
            help="auto (released ones where they exist), or as in `tokenize`, or a file or folder "
            "of IDs"
        ),
    ] = "auto",
    levels: Levels = None,
    codes: Codes = None,
    vectors: Sources = None,
    encoder: Encoder = None,
    cache: Cache = None,
    collisions: CollisionWay = None,
    recipe: Annotated[
        Recipe, typer.Option(help="what the options below are by default: see the README")
    ] = "scratch",
    epochs: Annotated[int | None, typer.Option(help="passes over the data")] = None,
    batch_rows: Annotated[int, typer.Option(help="rows (about users) a step")] = 64,
    learning_rate: Annotated[float | None, typer.Option(help="peak rate of AdamW")] = None,
    embedding_lr: Annotated[float | None, typer.Option(help="× for the head's embeddings")] = None,
    transition_lr: Annotated[
        float | None, typer.Option(help="× for the head's transitions")
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="embeddings, residuals and head")] = None,
    label_smoothing: Annotated[float, typer.Option(help="of all losses")] = 0.0,
    next_code_weight: Annotated[
        float | None, typer.Option(help="weight of the autoregressive loss; 0: the head's alone")
    ] = None,
    max_items: Annotated[int, typer.Option(help="longest history, in items")] = 20,
    window_stride: Annotated[
        int | None, typer.Option(help="items by which a long history's window jumps")
    ] = None,
    seed: Annotated[int, typer.Option(help="of weights, order and dropout")] = 0,
    checkpoints: Annotated[bool, typer.Option(help="write one after every epoch")] = True,
    validate: Annotated[bool, typer.Option(help="validation loss after every epoch")] = False,
    resume: Annotated[bool, typer.Option(help="go on from the newest good checkpoint")] = False,
) -> None:
    """Train a model with its draft head."""
    from nezha_lite.datasets import load_dataset
    from nezha_lite.model import NezhaModel
    from nezha_lite.semantic_ids.quality import id_quality
    from nezha_lite.semantic_ids.tokenizer import TOKENIZERS, build_semantic_ids
    from nezha_lite.training import train as train_model

    found = load_dataset(dataset)
    if ids not in TOKENIZERS and ids not in ("auto", "released"):
        refuse(ids, levels=levels, codes=codes, vectors=vectors, encoder=encoder)
        refuse(ids, collisions=collisions)
    built = tokenizer_config(found, levels, codes, vectors, encoder, collisions, seed, cache)
    semantic_ids = build_semantic_ids(found, ids, built)
    by_default, model_default = RECIPES[recipe]()
    asked = {"dropout": dropout, "next_code_weight": next_code_weight}
    settings = {
        **model_default,
        **_given(asked),
        "max_items": max_items,
        "label_smoothing": label_smoothing,
    }
    model = (
        NezhaModel.from_backbone(backbone, semantic_ids, seed=seed, **settings)
        if backbone
        else NezhaModel.from_preset(preset, semantic_ids, seed=seed, **settings)
    )
    rates = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "embedding_lr": embedding_lr,
        "transition_lr": transition_lr,
        "window_stride": window_stride,
    }
    config = replace(
        by_default,
        **_given(rates),
        batch_rows=batch_rows,
        seed=seed,
        checkpoints=checkpoints,
        validate=validate,
    )
    print(f"{found.name}: {found.n_users:,} users, semantic IDs of radices {semantic_ids.radices}")
    for problem in id_quality(semantic_ids).problems():
        print(f"Note: {problem}")
    record = train_model(model, semantic_ids, found, output, config, resume)
    print(f"Trained in {record['seconds']:.0f} s; model, semantic IDs and log are in {output}.")
