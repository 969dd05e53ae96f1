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
    own_vectors,
    refuse,
    split_report,
    tokenizer_config,
)
from nezha_lite.cli.teach import teacher_lists
from nezha_lite.model import NezhaConfig, NezhaModel
from nezha_lite.semantic_ids.quality import id_quality
from nezha_lite.semantic_ids.tokenizer import TOKENIZERS, ids_and_tokenizer
from nezha_lite.training import PAPER_RECIPE, TrainingConfig
from nezha_lite.training import train as train_model
from nezha_lite.training.packing import training_rows

Recipe = Literal["scratch", "strong", "paper"]
# For a fresh model: one learning rate and the joint loss; with `strong`, item memory, candidate
# embeddings and a teacher's lists besides. The authors', for a pretrained backbone: the head's loss
# alone, and a rate for each part.
_JOINT = {"dropout": 0.1, "next_code_weight": 1.0}
_STRONG = {"dropout": 0.15, "item_memory": True, "candidate_embeddings": 1}
RECIPES: Mapping[Recipe, tuple[TrainingConfig, dict[str, Any]]] = {
    "scratch": (TrainingConfig(epochs=16), _JOINT),
    "strong": (TrainingConfig(epochs=10, learning_rate=4e-3), {**_JOINT, **_STRONG}),
    "paper": (PAPER_RECIPE, {"dropout": 0.0, "next_code_weight": 0.0}),
}


@oom_hint("--batch-rows", "--max-items")
@options_of("shape", tokenizer_config, *ID_OPTIONS)
@options_of(
    "model_settings",
    NezhaConfig(**RECIPES["scratch"][1]),
    *("dropout", "label_smoothing", "next_code_weight", "item_memory", "candidate_embeddings"),
    *("list_weight", "max_items"),
)
@options_of(
    "settings",
    RECIPES["scratch"][0],
    *("epochs", "batch_rows", "learning_rate", "embedding_lr", "transition_lr", "window_stride"),
    *("seed", "checkpoints", "validate", "id_weight_decay"),
)
def train(
    dataset: Data,
    output: Path,
    shape: dict[str, Any],
    model_settings: dict[str, Any],
    settings: dict[str, Any],
    preset: Preset = "tiny",
    backbone: str | None = None,
    untied: bool = False,
    ids: str = "auto",
    recipe: Recipe = "scratch",
    teacher: str | None = None,
    list_length: int = 8,
    resume: bool = False,
    split: SplitBy = "leave-one-out",
    test_from: TestFrom = None,
) -> None:
    """Train a model with its draft head.

    Args:
        output: folder for the model; must not hold a run yet
        backbone: pretrained backbone instead: a folder or a hub name
        untied: with a preset: the output layer has weights of its own, not the embeddings'
        ids: auto (released ones where they exist), or as in `tokenize`, or a file or folder of IDs
        recipe: scratch (defaults as shown); strong: 10 epochs with item memory, candidate
            embeddings and the lists of the teacher blend; paper: the authors' settings, for
            `--backbone`
        teacher: whose lists the head learns: sasrec, item-knn, blend, none, or a file of `teach`
        list_length: items of a teacher's list
        resume: go on from the newest good checkpoint
    """
    data = load_split(dataset, split, test_from)
    if backbone and untied:
        raise ValueError(
            f"--untied is for a --preset, but --backbone is {backbone!r}, whose configuration says "
            "whether its embeddings are tied."
        )
    from_file = ids not in TOKENIZERS and ids not in ("auto", "released")
    if from_file:
        unnamed = Path(ids).suffix in (".json", ".npy")  # these may leave names and radices open
        applicable = ("cache", "codes", "names") if unnamed else ("cache",)
        refuse(ids, [option for option in shape if option not in applicable])
    training, recipe_settings = RECIPES[recipe]
    config = replace(training, **settings)
    vectors = own_vectors(data, shape)
    outside: dict[str, Any] = {}
    if from_file:
        outside = {"names": shape.pop("names", None), "radices": shape.pop("codes", None)}
    shape_config = tokenizer_config(data, **shape, seed=config.seed)
    semantic_ids, tokenizer = ids_and_tokenizer(data, ids, shape_config, vectors, **outside)
    model_settings = recipe_settings | model_settings | {"seed": config.seed}
    model = (
        NezhaModel.from_backbone(backbone, semantic_ids, **model_settings)
        if backbone
        else NezhaModel.from_preset(preset, semantic_ids, tied=not untied, **model_settings)
    )
    print(f"{data.name}: {data.n_users:,} users, semantic IDs of radices {semantic_ids.radices}")
    if from_file:
        print("Where a file says no radices, they are the largest codes plus one, or --codes.")
    print(split_report(data))
    for problem in id_quality(semantic_ids).problems():
        print(f"Note: {problem}")
    named = teacher or ("blend" if recipe == "strong" else "none")
    lists = None
    if named != "none":
        rows = training_rows(data, config, model.config.max_items)
        lists = teacher_lists(data, named, output / "teacher", rows, list_length)
    record = train_model(
        model, semantic_ids, data, output, config, resume, lists=lists, tokenizer=tokenizer
    )
    print(f"Trained in {record['seconds']:.0f} s; model, semantic IDs and log are in {output}.")
