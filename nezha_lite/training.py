"""Training: the joint loss on packed prefixes, by transformers' Trainer.

The Trainer brings the progress bar, evaluation, checkpoints, resuming, bf16 and several processes
(`accelerate launch`). What is ours: which rows are batched together, and learning rates per part.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn
from torch.utils.data import Sampler
from transformers import (
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from nezha_lite.batching import LengthGroupedOrder
from nezha_lite.datasets import InteractionDataset
from nezha_lite.model import NezhaModel
from nezha_lite.packing import Collator, TrainingRows
from nezha_lite.progress import without_progress_bar
from nezha_lite.semantic_ids import SemanticIds

SEMANTIC_IDS_FILE = "semantic_ids.safetensors"
TRAINING_FILE = "training.json"


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. The defaults suit a model from scratch; `PAPER_RECIPE` is the authors'.

    Attributes:
        epochs: passes over all training targets.
        batch_rows: rows per step and process; a packed row is about one user.
        learning_rate: peak rate of AdamW, for the backbone and the head's classifiers.
        embedding_lr: multiplier for the head's code embeddings.
        transition_lr: multiplier for the head's transitions.
        weight_decay: AdamW's, on matrices but not on biases and norms.
        warmup: share of all steps in which the rate rises; afterwards it falls as a cosine.
        window_stride: how far the history window of a long user jumps (see `packing`).
        packed: packed prefixes, or one prefix per row.
        grouped: batch rows of similar length together, which saves padding.
        seed: of dropout and row order.
        bf16: bfloat16 autocast; None means "on GPUs that have it".
        checkpoints: write one after every epoch, so that the run can be resumed; two are kept.
        validate: compute the loss on the validation split after every epoch.
    """

    epochs: int = 20
    batch_rows: int = 64
    learning_rate: float = 2e-3
    embedding_lr: float = 1.0
    transition_lr: float = 1.0
    weight_decay: float = 0.05
    warmup: float = 0.05
    window_stride: int = 10
    packed: bool = True
    grouped: bool = True
    seed: int = 0
    bf16: bool | None = None
    checkpoints: bool = True
    validate: bool = False

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_rows", "learning_rate", "embedding_lr", "transition_lr")
        for name in (*positive, "window_stride"):
            if not 0 < getattr(self, name) < math.inf:  # nan fails every comparison
                raise ValueError(f"{name} is {getattr(self, name)}, but must be above 0.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}, but must not be negative.")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}, but must be in [0, 1).")


# The authors' released settings, for a pretrained backbone.
PAPER_RECIPE = TrainingConfig(
    learning_rate=1e-5, embedding_lr=100.0, transition_lr=10.0, window_stride=1
)


def train(
    model: NezhaModel,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
    output: str | Path,
    config: TrainingConfig | None = None,
    resume: bool = False,
    progress: bool = True,
) -> TrainingRecord:
    """Train `model` in place and leave it, with its semantic IDs, in the folder `output`.

    `output` ends up with config.json, model.safetensors, semantic_ids.safetensors and
    training.json; the run's checkpoints lie under `output/checkpoints`. The global random state is
    reseeded, as the Trainer does.

    Args:
        resume: go on from the newest checkpoint under `output`, if there is one.
        progress: show the Trainer's progress bar.

    Returns:
        Settings, times and losses, as also written to training.json.

    Raises:
        ValueError: if semantic IDs, model, data set and the run to resume do not fit together.
        FileExistsError: if `output` already holds a model or checkpoints and `resume` is off:
            nothing is overwritten.
    """
    config = config or TrainingConfig()
    if semantic_ids.n_items != dataset.n_items:
        raise ValueError(
            f"The semantic IDs name {semantic_ids.n_items} items, but data set {dataset.name!r} "
            f"has {dataset.n_items}."
        )
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
    collator = Collator(semantic_ids, model.vocabulary)
    trainer = _NezhaTrainer(
        model,
        rows,
        config,
        args=_arguments(config, checkpoints, progress),
        eval_dataset=TrainingRows.of_split(dataset.split("validation"), max_items),
        data_collator=collator,
    )
    if not progress:
        trainer.remove_callback(PrinterCallback)
    last = _last_checkpoint(checkpoints) if resume else None
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
        log=trainer.state.log_history,
    )
    if trainer.is_world_process_zero():
        with without_progress_bar():
            model.save_pretrained(output)
        unfinished = output / f".{TRAINING_FILE}.part"
        unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(unfinished, output / TRAINING_FILE)  # last, so that it stands for a whole folder
    trainer.accelerator.wait_for_everyone()  # no process returns before the files are there
    return record


class TrainingRecord(TypedDict):
    """How a model came to be, as written beside it.

    `seconds` and `cpu_seconds` (of this process, all threads) count from the last resumption.
    """

    dataset: str
    config: dict[str, Any]
    processes: int
    seconds: float
    cpu_seconds: float
    resumed: bool
    log: list[dict[str, float]]


def read_training_record(folder: str | Path) -> TrainingRecord:
    """The record that `train` left in `folder`; FileNotFoundError if there is none."""
    path = Path(folder) / TRAINING_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {TRAINING_FILE}: it was not written by `train`.")
    record: TrainingRecord = json.loads(path.read_text(encoding="utf-8"))
    return record


class _NezhaTrainer(Trainer):
    def __init__(
        self, model: NezhaModel, rows: TrainingRows, config: TrainingConfig, **arguments: Any
    ) -> None:
        super().__init__(model=model, train_dataset=rows, **arguments)
        self.nezha, self.rows, self.config = model, rows, config

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if not self.config.grouped:
            return super()._get_train_sampler(train_dataset)
        lengths = [row.n_tokens(self.nezha.head.levels) for row in self.rows.rows]
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


def _last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint: a run killed while saving leaves one without its last file."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    newest = max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)
    return None if newest is None else str(newest)


def _arguments(config: TrainingConfig, folder: Path, progress: bool) -> TrainingArguments:
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
        eval_strategy="epoch" if config.validate else "no",
        prediction_loss_only=True,
        logging_strategy="epoch",
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
