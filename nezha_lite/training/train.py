"""Training: the joint loss on packed prefixes, by transformers' Trainer.

The Trainer brings the progress bar, evaluation, checkpoints, resuming, bf16 and several processes
(`accelerate launch`). What is ours: which rows are batched together, and learning rates per part.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn
from torch.utils.data import Sampler
from transformers import TrainingArguments

from nezha_lite.common.files import atomic_write, parse_json
from nezha_lite.common.progress import without_progress_bar
from nezha_lite.datasets import InteractionDataset
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
from nezha_lite.training.checkpoints import saving
from nezha_lite.training.config import PAPER_RECIPE, TrainingConfig
from nezha_lite.training.packing import Collator, LengthGroupedOrder, TrainingRows
from nezha_lite.training.trainer import (
    Score,
    ValidatedTrainer,
    best_epoch,
    watching,
)

__all__ = [
    "PAPER_RECIPE",
    "SEMANTIC_IDS_FILE",
    "TRAINING_FILE",
    "TrainingConfig",
    "TrainingRecord",
    "parameter_groups",
    "read_training_record",
    "train",
]

TRAINING_FILE = "training.json"


def train(
    model: NezhaModel,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
    output: str | Path,
    config: TrainingConfig | None = None,
    resume: bool = False,
    progress: bool = True,
    score: Score | None = None,
) -> TrainingRecord:
    """Train `model` in place and leave it, with its semantic IDs, in the folder `output`.

    `output` ends up with config.json, model.safetensors, semantic_ids.safetensors and
    training.json; the run's checkpoints lie under `output/checkpoints`. The global random state is
    reseeded, as the Trainer does.

    Args:
        resume: go on from the newest checkpoint under `output`, if there is one. A warning names
            newer ones that are unfinished or damaged and are not used.
        progress: show the Trainer's progress bar.
        score: called after every epoch, with the model in evaluation mode, for figures of which the
            first is watched, such as NDCG on validation users: the weights left are those of the
            epoch where it was highest. All figures are in the record's log.

    Returns:
        Settings, times and losses, as also written to training.json.

    Raises:
        ValueError: if semantic IDs, model, data set and the run to resume do not fit together, or
            there is a score to watch but no checkpoints to go back to, a validation loss as well,
            or a score that is not finite; if all checkpoints of the run to resume are damaged.
        FileExistsError: if `output` already holds a model or checkpoints and `resume` is off:
            nothing is overwritten.
        FloatingPointError: if the loss becomes NaN or infinite, naming step, users and the last
            good checkpoint.
        OSError: if the disk is full; the checkpoints written before are whole.
    """
    config = config or TrainingConfig()
    if semantic_ids.n_items != dataset.n_items:
        raise ValueError(
            f"The semantic IDs name {semantic_ids.n_items} items, but data set {dataset.name!r} "
            f"has {dataset.n_items}."
        )
    if score and not config.checkpoints:
        raise ValueError("checkpoints is False, but the best epoch's weights are kept in one.")
    if score and config.validate:
        raise ValueError("validate is True, but a score is watched in place of the loss.")
    output = Path(output)
    checkpoints = output / "checkpoints"
    taken = ("checkpoints", "config.json", "model.safetensors", SEMANTIC_IDS_FILE, TRAINING_FILE)
    if not resume and any((output / name).exists() for name in taken):
        raise FileExistsError(
            f"{output} already holds a training run: resume it, or name another output folder."
        )
    max_items = model.config.max_items
    stride = min(config.window_stride, max_items)
    rows = TrainingRows(dataset.train_sequences(), max_items, stride, config.packed)
    collator = Collator(semantic_ids, model.vocabulary, model.reads_placeholders)
    trainer = _NezhaTrainer(
        model,
        rows,
        config,
        score,
        args=_arguments(config, checkpoints, progress, watch=score is not None),
        collate=collator,
        users=[dataset.users[user] for user in rows.users],
        eval_dataset=TrainingRows.of_split(dataset.split("validation"), max_items),
    )
    last = trainer.newest_checkpoint() if resume else None
    if trainer.is_world_process_zero():
        _claim(output, semantic_ids)
    started, started_cpu = time.perf_counter(), time.process_time()
    with without_progress_bar():  # the Trainer's own bar stays; each checkpoint's would pile up
        trainer.train(resume_from_checkpoint=last)
    model.eval()
    record = TrainingRecord(
        dataset=dataset.name,
        config=dataclasses.asdict(config),
        processes=trainer.args.world_size,
        seconds=round(time.perf_counter() - started, 1),
        cpu_seconds=round(time.process_time() - started_cpu, 1),
        resumed=last is not None,
        best_epoch=best_epoch(trainer.state),
        log=trainer.state.log_history,
    )
    if trainer.is_world_process_zero():
        with without_progress_bar(), saving(output, "make room on the disk, then resume"):
            model.save_pretrained(output)
        # Last, so that it stands for a whole folder.
        atomic_write(output / TRAINING_FILE, json.dumps(record, indent=1) + "\n")
    trainer.accelerator.wait_for_everyone()  # no process returns before the files are there
    return record


class TrainingRecord(TypedDict):
    """How a model came to be, as written beside it.

    `seconds` and `cpu_seconds` (of this process, all threads) count from the last resumption.
    `best_epoch` is the one whose weights were kept for their score; None where none was watched.
    """

    dataset: str
    config: dict[str, Any]
    processes: int
    seconds: float
    cpu_seconds: float
    resumed: bool
    best_epoch: float | None
    log: list[dict[str, float]]


def read_training_record(folder: str | Path) -> TrainingRecord:
    """The record that `train` left in `folder`.

    Raises FileNotFoundError if there is none, ValueError if it is damaged.
    """
    path = Path(folder) / TRAINING_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {TRAINING_FILE}: it was not written by `train`.")
    try:
        record: TrainingRecord = parse_json(path.read_text(encoding="utf-8"))
        for name in ("epochs", "seed"):
            if type(found := record["config"][name]) is not int:
                raise ValueError(f"config.{name} is {found!r:.40}, but must be a whole number")
    except KeyError as error:
        raise ValueError(f"{path} is damaged, train again: it has no {error}.") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, train again: {error}.") from error
    return record


class _NezhaTrainer(ValidatedTrainer):
    def __init__(
        self,
        model: NezhaModel,
        rows: TrainingRows,
        config: TrainingConfig,
        score: Score | None,
        **arguments: Any,
    ) -> None:
        super().__init__(model, rows, score, config.patience, **arguments)
        self.nezha, self.rows, self.config = model, rows, config

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if not self.config.grouped:
            return super()._get_train_sampler(train_dataset)
        levels, placeholders = self.nezha.head.levels, self.nezha.reads_placeholders
        lengths = [row.n_tokens(levels, placeholders) for row in self.rows.rows]
        return LengthGroupedOrder(lengths, self.config.batch_rows, self.config.seed)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            groups = parameter_groups(self.nezha, self.config)
            self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        return self.optimizer


def parameter_groups(model: NezhaModel, config: TrainingConfig) -> list[dict[str, Any]]:
    """AdamW's groups: a learning rate per part, weight decay on matrices only.

    Parts: the head's code embeddings, its transitions, and the rest (backbone and classifiers).
    """
    rates = {
        "head.embeddings.": config.learning_rate * config.embedding_lr,
        "head.cells.": config.learning_rate * config.transition_lr,
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rate = next((r for part, r in rates.items() if name.startswith(part)), config.learning_rate)
        decay = config.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _claim(output: Path, semantic_ids: SemanticIds) -> None:
    """Leave the semantic IDs in the output folder, where an interrupted run left the same ones."""
    path = output / SEMANTIC_IDS_FILE
    if path.is_file() and not torch.equal(SemanticIds.load(path).codes, semantic_ids.codes):
        raise ValueError(
            f"{output} holds a run with other semantic IDs: resume it with the same data set and "
            "tokenizer settings, or name another output folder."
        )
    output.mkdir(parents=True, exist_ok=True)
    semantic_ids.save(path)


def _arguments(
    config: TrainingConfig, folder: Path, progress: bool, watch: bool
) -> TrainingArguments:
    on_cuda = torch.cuda.is_available()
    # Older GPUs emulate bf16, which is slower than not using it.
    bf16 = on_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_rows,
        per_device_eval_batch_size=4 * config.batch_rows,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        max_grad_norm=1.0,
        seed=config.seed,
        # Said outright: the Trainer otherwise refuses bf16, and several processes, on a CPU.
        use_cpu=not torch.accelerator.is_available(),
        bf16=bf16 if config.bf16 is None else config.bf16,
        save_strategy="epoch" if config.checkpoints else "no",
        save_total_limit=2,
        **({"eval_strategy": "epoch" if config.validate else "no"} | watching(watch)),
        prediction_loss_only=True,
        logging_strategy="epoch",
        logging_nan_inf_filter=False,  # training stops at such a loss
        remove_unused_columns=False,
        label_names=["codes"],
        report_to=[],
        disable_tqdm=not progress,
        dataloader_pin_memory=on_cuda,
    )
    if arguments.n_gpu > 1:
        # The Trainer would split a batch by rows (DataParallel), but a batch's slots count through
        # all of its rows. Several GPUs take one process each.
        arguments._n_gpu = 1
    return arguments
