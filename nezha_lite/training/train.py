"""Training: the joint loss on packed prefixes, by transformers' Trainer.

The Trainer does the progress bar, evaluation, checkpoints, resuming, bf16 and several processes
(`accelerate launch`). Ours are the rows that are batched together and the learning rates per part.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nezha_lite.common.files import atomic_write
from nezha_lite.common.progress import without_progress_bar
from nezha_lite.datasets import InteractionDataset
from nezha_lite.model import NezhaModel
from nezha_lite.model.loading import MODEL_FILES
from nezha_lite.model.prefix_embedding import prefix_numbers
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer
from nezha_lite.training.checkpoints import saving
from nezha_lite.training.config import TrainingConfig
from nezha_lite.training.packing import Collator, LengthGroupedOrder, evaluation_rows, training_rows
from nezha_lite.training.record import TRAINING_FILE, TrainingRecord
from nezha_lite.training.teacher_lists import TeacherLists

if TYPE_CHECKING:  # loads transformers' Trainer, which only `train` needs
    from nezha_lite.training.trainer import Score, ValidatedTrainer

TOKENIZER_FOLDER = "tokenizer"  # by which new items get IDs
OUTPUT_FILES = ("checkpoints", *MODEL_FILES, SEMANTIC_IDS_FILE, TRAINING_FILE)


def train(
    model: NezhaModel,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
    output: str | Path,
    config: TrainingConfig | None = None,
    resume: bool = False,
    progress: bool = True,
    score: Score | None = None,
    lists: TeacherLists | None = None,
    tokenizer: ItemTokenizer | None = None,
) -> TrainingRecord:
    """Train `model` in place and write it, with its semantic IDs, to the folder `output`.

    `output` ends up with config.json, model.safetensors, semantic_ids.safetensors and
    training.json; the run's checkpoints are under `output/checkpoints`. The global random state is
    reseeded, as the Trainer does. `score` is called after every epoch, with the model in evaluation
    mode, for figures of which the first decides, such as NDCG on validation users: the weights kept
    are those of the epoch where it was highest. All figures are in the record's log.

    Args:
        resume: from the newest checkpoint under `output`, if there is one. A warning names newer
            ones that are unfinished or damaged and therefore not used.
        progress: show the Trainer's progress bar.
        lists: a teacher's lists for the training prefixes, which the draft head learns as well.
        tokenizer: made the semantic IDs; kept in `output/tokenizer`, to give new items IDs later.

    Returns:
        Settings, times and losses, as also written to training.json.

    Raises:
        ValueError: if semantic IDs, model, data set and the run to resume do not fit together; if
            there is a score but no checkpoints to keep the best epoch in, a validation loss as
            well, or a score that is not finite; if all checkpoints of the run are damaged.
        FileExistsError: if `output` already holds a model or checkpoints and `resume` is off:
            nothing is overwritten.
        FloatingPointError: if the loss becomes NaN or infinite, naming step, users and the last
            good checkpoint.
        OSError: if the disk is full; the checkpoints written before are whole.
    """
    from nezha_lite.training.trainer import best_epoch

    config, output = config or TrainingConfig(), Path(output)
    _check_ids(model, semantic_ids)
    if semantic_ids.n_items != dataset.n_items:
        raise ValueError(
            f"The semantic IDs name {semantic_ids.n_items} items, but data set {dataset.name!r} "
            f"has {dataset.n_items}."
        )
    if score and not config.checkpoints:
        raise ValueError("checkpoints is False, but the best epoch's weights are kept in one.")
    if score and config.validate:
        raise ValueError("validate is True, but a score is watched in place of the loss.")
    if not resume and any((output / name).exists() for name in OUTPUT_FILES):
        raise FileExistsError(
            f"{output} already holds a training run: resume it, or name another output folder."
        )
    trainer = _make_trainer(model, semantic_ids, dataset, output, config, progress, score, lists)
    checkpoint = trainer.resume_point() if resume else None
    if trainer.is_world_process_zero():
        _save_ids(output, semantic_ids)
        if tokenizer is not None:
            tokenizer.save(output / TOKENIZER_FOLDER)
    started, started_cpu = time.perf_counter(), time.process_time()
    with without_progress_bar():  # the Trainer's own bar stays; each checkpoint's would pile up
        trainer.train(resume_from_checkpoint=checkpoint)
    model.eval()
    record = TrainingRecord(
        dataset=dataset.name,
        time_split=asdict(dataset.time_split) if dataset.time_split else None,
        config=asdict(config),
        processes=trainer.args.world_size,
        seconds=round(time.perf_counter() - started, 1),
        cpu_seconds=round(time.process_time() - started_cpu, 1),
        resumed=checkpoint is not None,
        best_epoch=best_epoch(trainer.state),
        log=trainer.state.log_history,
    )
    weights = trainer.accelerator.get_state_dict(trainer.model)  # whole, if FSDP has divided them
    if trainer.is_world_process_zero():
        with without_progress_bar(), saving(output, "make room on the disk, then resume"):
            model.save_pretrained(output, state_dict=weights)
        # Last: this file means that the folder is complete.
        atomic_write(output / TRAINING_FILE, json.dumps(record, indent=1) + "\n")
    trainer.accelerator.wait_for_everyone()  # no process returns before the files are there
    return record


def _check_ids(model: NezhaModel, semantic_ids: SemanticIds) -> None:
    """ValueError if an ID has no embedding in a model that has embeddings of IDs."""
    for embedding in model.prefix_embeddings:
        numbers = prefix_numbers(semantic_ids, embedding.level).to(embedding.numbers.device)
        if not torch.equal(numbers, embedding.numbers):
            raise ValueError(
                "The model has embeddings of other IDs than these: train it with the semantic IDs "
                "that it was made with, or make a new one."
            )


def _make_trainer(
    model: NezhaModel,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
    output: Path,
    config: TrainingConfig,
    progress: bool,
    score: Score | None,
    lists: TeacherLists | None,
) -> ValidatedTrainer:
    from nezha_lite.training.trainer import ValidatedTrainer, trainer_arguments

    max_items, placeholders = model.config.max_items, model.reads_placeholders
    rows = training_rows(dataset, config, max_items)
    if lists is not None:
        lists.check(rows, dataset.n_items)
    lengths = rows.n_tokens(model.head.levels, placeholders)
    validation = evaluation_rows(dataset.split("validation"), max_items) if config.validate else ()
    order = LengthGroupedOrder(lengths, config.batch_rows, config.seed)
    optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, 0.98))
    on_cuda = torch.cuda.is_available()
    # Older GPUs emulate bf16, which is slower than not using it.
    bf16 = on_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    arguments = trainer_arguments(
        output / "checkpoints",
        progress,
        by_score=score is not None,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_rows,
        per_device_eval_batch_size=4 * config.batch_rows,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        seed=config.seed,
        bf16=bf16 if config.bf16 is None else config.bf16,
        save_strategy="epoch" if config.checkpoints else "no",
        eval_strategy="epoch" if config.validate else "no",
        prediction_loss_only=True,
        label_names=["codes"],
    )
    trainer = ValidatedTrainer(
        model,
        rows,
        score,
        config.patience,
        args=arguments,
        collate=Collator(semantic_ids, model.vocabulary, placeholders, lists),
        users=[dataset.users[user] for user in rows.users],
        eval_rows=validation,
        sampler=order if config.grouped else None,
    )
    trainer.optimizer = optimizer  # not an argument, which the Trainer refuses with FSDP
    return trainer


def parameter_groups(model: NezhaModel, config: TrainingConfig) -> list[dict[str, Any]]:
    """AdamW's groups: a learning rate per part, weight decay on matrices only.

    Parts: the head's code embeddings, its transitions, and the rest (backbone and classifiers). The
    embeddings of whole IDs have a weight decay of their own.
    """
    rates = {
        "head.embeddings.": config.learning_rate * config.embedding_lr,
        "head.cells.": config.learning_rate * config.transition_lr,
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rate = next((r for part, r in rates.items() if name.startswith(part)), config.learning_rate)
        of_ids = name.startswith(("memory.", "head.candidates."))
        decay = config.id_weight_decay if of_ids else config.weight_decay
        decay = decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _save_ids(output: Path, semantic_ids: SemanticIds) -> None:
    """Write the semantic IDs, which must equal those of an interrupted run in this folder."""
    path = output / SEMANTIC_IDS_FILE
    if path.is_file() and not torch.equal(SemanticIds.load(path).codes, semantic_ids.codes):
        raise ValueError(
            f"{output} holds a run with other semantic IDs: resume it with the same data set and "
            "tokenizer settings, or name another output folder."
        )
    output.mkdir(parents=True, exist_ok=True)
    semantic_ids.save(path)
