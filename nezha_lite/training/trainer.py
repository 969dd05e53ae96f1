"""transformers' Trainer, watching a score of ours after every epoch instead of a loss.

The best epoch's weights are kept by the Trainer. What is ours is what "better" means, which is
recommendations, not likelihood, and a patience that an interruption does not renew; and that
nothing is left behind which cannot be gone on from: no half checkpoint, and no NaN in one.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)
from transformers.trainer_callback import TrainerState

from nezha_lite.training.checkpoints import STATE_FILE, last_finished, newest_checkpoint, saving

Score: TypeAlias = Callable[[], dict[str, float]]
"""Figures of the model as it is, the first of which is watched; higher is better."""

WATCHED = "eval_watched"
ROWS = "rows"  # of a batch: which training rows it is made of, (B,) int64


class ValidatedTrainer(Trainer):
    """A Trainer with quiet logs and, where a score is given, an eye on it.

    Args:
        model: trained in place.
        rows: the training rows.
        score: called after every epoch with the model in evaluation mode; None is the plain
            Trainer, whose evaluation is the loss.
        patience: epochs without a better score before training stops; None goes on to the end.
        collate: rows → a batch by name.
        users: whose each row is, to say where a loss went wrong.
        arguments: the Trainer's own, "args" among them (see `watching`).
    """

    def __init__(
        self,
        model: nn.Module,
        rows: Dataset[Any],
        score: Score | None,
        patience: int | None,
        collate: Callable[[Sequence[Any]], Any],
        users: Sequence[str],
        **arguments: Any,
    ) -> None:
        if score is not None:
            arguments["eval_dataset"] = rows  # the Trainer insists on one; it is not read
        elif arguments.get("eval_dataset") is not None:
            arguments["eval_dataset"] = _Numbered(arguments["eval_dataset"])
        super().__init__(
            model=model,
            train_dataset=_Numbered(rows),
            data_collator=lambda numbered: _collate(numbered, collate),
            **arguments,
        )
        self.users, self.folder = users, Path(self.args.output_dir or ".")
        self.score, self.patience = score, patience if score is not None else None
        if score is not None:
            self.add_callback(_Watcher(self.patience))
        if self.args.disable_tqdm:
            self.remove_callback(PrinterCallback)

    def newest_checkpoint(self) -> str | None:
        """The newest checkpoint to go on from, for `train`; a warning names newer, damaged ones.

        Raises:
            ValueError: if all there are are damaged or of another model.
        """
        assert isinstance(self.model, nn.Module)
        found = newest_checkpoint(
            self.folder, self.model, self.create_optimizer(), self.score is not None
        )
        if found.refused and self.is_world_process_zero():
            warnings.warn(found.sentence(), stacklevel=3)
        return None if found.checkpoint is None else str(found.checkpoint)

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **named: Any
    ) -> Any:
        """Train, or go on from the folder of a checkpoint; what patience has ended does not go on.

        Raises:
            FloatingPointError: if the loss or a weight becomes NaN or infinite, naming the step,
                the users of the batch, and the last good checkpoint.
            OSError: if a checkpoint cannot be written; the one before it is left as it was.
        """
        if isinstance(resume_from_checkpoint, str) and self.score is not None:
            folder = Path(resume_from_checkpoint)
            state = TrainerState.load_from_json(str(folder / STATE_FILE))
            if _is_over(state, self.patience):
                self.args.num_train_epochs = round(state.epoch or 0)
        try:
            result = super().train(resume_from_checkpoint, *arguments, **named)
        finally:  # an error begins a line of its own
            for callback in self.callback_handler.callbacks:
                if (bar := getattr(callback, "training_bar", None)) is not None:
                    bar.close()
        self._check_weights()
        return result

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **named: Any
    ) -> Any:
        """The Trainer's, of a batch whose rows are known; FloatingPointError as `train`."""
        rows = inputs[ROWS]
        batch = {name: value for name, value in inputs.items() if name != ROWS}
        answer = super().compute_loss(model, batch, *arguments, **named)
        loss = answer[0] if isinstance(answer, tuple) else answer
        if model.training and not torch.isfinite(loss).all():
            figure = float(loss.detach())
            whose = list(dict.fromkeys(self.users[row] for row in rows.tolist()))
            more = f" and {len(whose) - 3} more" if len(whose) > 3 else ""
            users = ", ".join(map(repr, whose[:3]))
            error = self._not_finite(f"The loss is {figure}", f", at users {users}{more}")
            error.add_note(f"All users of the batch: {', '.join(whose)}")
            raise error
        return answer

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._check_weights()
        folder = self.folder / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            # What an earlier, damaged one has left there is not to be taken for this one's.
            (folder / STATE_FILE).unlink(missing_ok=True)
        before = last_finished(self.folder, self.state.global_step)
        goes_on = f"resume from {before.name}" if before else "train again"
        try:
            with saving(folder, f"make room on the disk, then {goes_on}"):
                super()._save_checkpoint(model, trial)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _check_weights(self) -> None:
        assert isinstance(self.model, nn.Module)
        for name, weight in self.model.named_parameters():
            if not weight.isfinite().all():
                raise self._not_finite(f"{name} holds NaN or infinite weights")

    def _not_finite(self, what: str, where: str = "") -> FloatingPointError:
        last = last_finished(self.folder, self.state.global_step)
        step = self.state.global_step + bool(where)
        goes_on = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        return FloatingPointError(
            f"{what} in step {step:,} of {self.state.max_steps:,}{where}; {goes_on}. A lower "
            "learning rate may help."
        )

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """The score where there is one, else the loss on the evaluation rows.

        Raises:
            ValueError: if the watched figure is not a finite number.
            FloatingPointError: as `train`.
        """
        self._check_weights()
        if self.score is None:
            return super().evaluate(*arguments, **named)
        assert isinstance(self.model, nn.Module)
        self.model.eval()
        with torch.no_grad():
            figures = {name: float(value) for name, value in self.score().items()}
        self.model.train()
        name, watched = next(iter(figures.items()))
        if not math.isfinite(watched):
            raise ValueError(f"{name} is {watched}: no epoch can be the best by it.")
        metrics = {f"eval_{name}": value for name, value in figures.items()} | {WATCHED: watched}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class _Watcher(TrainerCallback):
    """Stops when patience is over.

    The Trainer's own callback would begin to count anew when a run is resumed. The scores of all
    epochs are in the log, which a checkpoint holds.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        # Where it was saved need not be where it is: folders are moved, and paths are relative.
        best = _best_checkpoint(state, Path(args.output_dir or "."))
        state.best_model_checkpoint = str(best) if best else None

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if _is_over(state, self.patience):
            control.should_training_stop = True


def _is_over(state: TrainerState, patience: int | None) -> bool:
    """Whether the last `patience` scores did not exceed the best one before them."""
    scores = [entry[WATCHED] for entry in state.log_history if WATCHED in entry]
    if patience is None or not scores:
        return False
    return len(scores) - 1 - scores.index(max(scores)) >= patience


def _best_checkpoint(state: TrainerState, folder: Path) -> Path | None:
    step = state.best_global_step
    return folder / f"checkpoint-{step}" if step else None


def watching(watch: bool) -> dict[str, Any]:
    """What TrainingArguments need so that the best epoch by WATCHED is the one that is kept."""
    if not watch:
        return {}
    return {
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": WATCHED,
        "greater_is_better": True,
    }


class _Numbered(Dataset[tuple[int, Any]]):
    """Rows with their numbers, so that a batch knows what it is made of."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.rows[index]


def _collate(
    numbered: Sequence[tuple[int, Any]], collate: Callable[[Sequence[Any]], Any]
) -> dict[str, Tensor]:
    numbers, rows = zip(*numbered, strict=True)
    return {**collate(rows), ROWS: torch.tensor(numbers)}


def best_epoch(state: TrainerState) -> float | None:
    """The epoch whose weights were kept; None where no score was watched."""
    for entry in state.log_history:
        if WATCHED in entry and entry["step"] == state.best_global_step:
            return float(entry["epoch"])
    return None
