"""transformers' Trainer, validated by a score of ours after every epoch instead of a loss.

The Trainer keeps the best epoch's weights. Ours is the score, which measures recommendations and
not likelihood, and the patience: transformers' EarlyStoppingCallback counts anew in a resumed run,
ours reads the scores in the checkpoint's log. A run leaves only what it can be resumed from: no
unfinished checkpoint, and none with NaN in it.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils.data import Sampler, StackDataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerState

from nezha_lite.training.checkpoints import STATE_FILE, find_checkpoint, last_finished, saving

Score: TypeAlias = Callable[[], dict[str, float]]
"""Figures of the model as it is; the first decides which epoch is best, and higher is better."""

WATCHED = "eval_watched"  # the deciding figure in the Trainer's log
ROWS = "rows"  # in a batch: the indices of its training rows, (B,) int64


def trainer_arguments(
    folder: Path, progress: bool, by_score: bool, **settings: Any
) -> TrainingArguments:
    """The Trainer's arguments that all trainings share, overridden by `settings`."""
    best_by_score = {
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": WATCHED,
        "greater_is_better": True,
    }
    shared: dict[str, Any] = {
        "output_dir": str(folder),
        "max_grad_norm": 1.0,
        # Without it the Trainer refuses bf16, and several processes, on a CPU.
        "use_cpu": not torch.accelerator.is_available(),
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "logging_strategy": "epoch",
        "logging_nan_inf_filter": False,  # training stops at such a loss
        "remove_unused_columns": False,
        "report_to": [],
        "disable_tqdm": not progress,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    arguments = TrainingArguments(**shared | settings | (best_by_score if by_score else {}))
    # The Trainer would split a batch by rows (DataParallel), but a batch's slots count through all
    # of its rows. Several GPUs take one process each.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class ValidatedTrainer(Trainer):
    """A Trainer with quiet logs and, with a score, its validation after every epoch.

    Args:
        model: trained in place.
        rows: the training rows.
        score: called after every epoch with the model in evaluation mode; without it, evaluation
            is the loss on `eval_rows`.
        patience: epochs without a better score before training stops; None trains all epochs.
        collate: rows → a batch by name.
        users: the user of each row, for error messages.
        eval_rows: rows of the validation loss.
        sampler: the order of the rows; None is the Trainer's own shuffle.
        arguments: the Trainer's own, "args" among them (see `trainer_arguments`).
    """

    model: nn.Module

    def __init__(
        self,
        model: nn.Module,
        rows: Any,
        score: Score | None,
        patience: int | None,
        collate: Callable[[Sequence[Any]], Any],
        users: Sequence[str],
        eval_rows: Sequence[Any] = (),
        sampler: Sampler[int] | None = None,
        **arguments: Any,
    ) -> None:
        def collate_numbered(numbered: Sequence[tuple[int, Any]]) -> dict[str, Any]:
            numbers, batch = zip(*numbered, strict=True)
            return {**collate(batch), ROWS: torch.tensor(numbers)}

        super().__init__(
            model=model,
            train_dataset=_numbered(rows),
            # With a score the Trainer needs one too, but does not read it.
            eval_dataset=_numbered(eval_rows),
            data_collator=collate_numbered,
            **arguments,
        )
        self.users, self.folder, self.sampler = users, Path(self.args.output_dir or "."), sampler
        self.score, self.patience = score, patience if score is not None else None
        self.add_callback(_BestCheckpointHere())
        if self.args.disable_tqdm:
            self.remove_callback(PrinterCallback)

    def resume_point(self) -> str | None:
        """The newest checkpoint to resume from, for `train`; a warning names newer, damaged ones.

        Raises:
            ValueError: if there are checkpoints, but all are damaged or of another model.
        """
        checkpoint, refusals = find_checkpoint(
            self.folder, self.model, self.create_optimizer(), self.score is not None
        )
        if refusals and self.is_world_process_zero():
            resumes = f"resumes from {checkpoint.name}" if checkpoint else "starts again"
            warnings.warn(f"{'; '.join(refusals)}; training {resumes}.", stacklevel=3)
        return None if checkpoint is None else str(checkpoint)

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **named: Any
    ) -> Any:
        """Train, or resume from the folder of a checkpoint, unless patience had ended that run.

        Raises:
            FloatingPointError: if the loss or a weight becomes NaN or infinite, naming the step,
                the users of the batch, and the last good checkpoint.
            OSError: if a checkpoint cannot be written; the one before it is left as it was.
        """
        if isinstance(resume_from_checkpoint, str):
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint, STATE_FILE)))
            if out_of_patience(state, self.patience):
                self.args.num_train_epochs = round(state.epoch or 0)
        try:
            result = super().train(resume_from_checkpoint, *arguments, **named)
        finally:  # so that an error begins on a line of its own
            for callback in self.callback_handler.callbacks:
                if (bar := getattr(callback, "training_bar", None)) is not None:
                    bar.close()
        self._check_weights()
        return result

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **named: Any
    ) -> Any:
        """The Trainer's, but for naming the users of a batch; FloatingPointError as `train`."""
        batch = {name: value for name, value in inputs.items() if name != ROWS}
        output = super().compute_loss(model, batch, *arguments, **named)
        loss = output[0] if isinstance(output, tuple) else output
        if model.training and not torch.isfinite(loss).all():
            users = list(dict.fromkeys(self.users[row] for row in inputs[ROWS].tolist()))
            more = f" and {len(users) - 3} more" if len(users) > 3 else ""
            error = self._not_finite(
                f"The loss is {float(loss.detach())}",
                f", at users {', '.join(map(repr, users[:3]))}{more}",
            )
            error.add_note(f"All users of the batch: {', '.join(users)}")
            raise error
        return output

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """The score, or without one the loss on the evaluation rows.

        Raises:
            ValueError: if the deciding figure is not a finite number.
            FloatingPointError: as `train`.
        """
        self._check_weights()
        if self.score is None:
            return super().evaluate(*arguments, **named)
        self.model.eval()
        with torch.no_grad():
            figures = {name: float(value) for name, value in self.score().items()}
        self.model.train()
        name, deciding = next(iter(figures.items()))
        if not math.isfinite(deciding):
            raise ValueError(f"{name} is {deciding}: no epoch can be the best by it.")
        metrics = {f"eval_{name}": value for name, value in figures.items()} | {WATCHED: deciding}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        self.control.should_training_stop |= out_of_patience(self.state, self.patience)
        return metrics

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        return self.sampler or super()._get_train_sampler(train_dataset)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._check_weights()
        folder = self.folder / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            # The state file of an earlier, damaged checkpoint would mark this one as finished.
            (folder / STATE_FILE).unlink(missing_ok=True)
        last = last_finished(self.folder, self.state.global_step)
        remedy = f"resume from {last.name}" if last else "train again"
        try:
            with saving(folder, f"make room on the disk, then {remedy}"):
                super()._save_checkpoint(model, trial)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _check_weights(self) -> None:
        for name, weight in self.model.named_parameters():
            if not weight.isfinite().all():
                raise self._not_finite(f"{name} holds NaN or infinite weights")

    def _not_finite(self, what: str, where: str = "") -> FloatingPointError:
        last = last_finished(self.folder, self.state.global_step)
        step = self.state.global_step + bool(where)
        remains = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        return FloatingPointError(
            f"{what} in step {step:,} of {self.state.max_steps:,}{where}; {remains}. A lower "
            "learning rate may help."
        )


def _numbered(rows: Any) -> StackDataset[Any]:
    """Each row with its number."""
    numbers: Any = range(len(rows))
    return StackDataset(numbers, rows)


class _BestCheckpointHere(TrainerCallback):
    """The best checkpoint is in the run's folder now, even if the folder has been moved since."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any
    ) -> None:
        if step := state.best_global_step:
            folder = Path(args.output_dir or ".")
            state.best_model_checkpoint = str(folder / f"checkpoint-{step}")


def out_of_patience(state: TrainerState, patience: int | None) -> bool:
    """Whether the last `patience` scores did not exceed the best one before them."""
    scores = [entry[WATCHED] for entry in state.log_history if WATCHED in entry]
    if patience is None or not scores:
        return False
    return len(scores) - 1 - scores.index(max(scores)) >= patience


def best_epoch(state: TrainerState) -> float | None:
    """The epoch whose weights were kept; None without a score."""
    scored = [entry for entry in state.log_history if WATCHED in entry]
    best = (entry["epoch"] for entry in scored if entry["step"] == state.best_global_step)
    return next(best, None)
