"""transformers' Trainer, watching a score of ours after every epoch instead of a loss.

The best epoch's weights are kept by the Trainer. What is ours is what "better" means, which is
recommendations, not likelihood, and a patience that an interruption does not renew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)
from transformers.trainer_callback import TrainerState

Score: TypeAlias = Callable[[], dict[str, float]]
"""Figures of the model as it is, the first of which is watched; higher is better."""

WATCHED = "eval_watched"
STATE_FILE = "trainer_state.json"


class WatchedTrainer(Trainer):
    """A Trainer with quiet logs and, where a score is given, an eye on it.

    Args:
        model: trained in place.
        rows: the training rows.
        score: called after every epoch with the model in evaluation mode; None is the plain
            Trainer, whose evaluation is the loss.
        patience: epochs without a better score before training stops; None goes on to the end.
        arguments: the Trainer's own, "args" among them (see `watching`).
    """

    def __init__(
        self,
        model: nn.Module,
        rows: Dataset[Any],
        score: Score | None,
        patience: int | None,
        **arguments: Any,
    ) -> None:
        if score is not None:
            arguments["eval_dataset"] = rows  # the Trainer insists on one; it is not read
        super().__init__(model=model, train_dataset=rows, **arguments)
        self.score, self.patience = score, patience if score is not None else None
        if score is not None:
            self.add_callback(_Watcher(self.patience))
        if self.args.disable_tqdm:
            self.remove_callback(PrinterCallback)

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **named: Any
    ) -> Any:
        """Train, or go on from the folder of a checkpoint; what patience has ended does not go on.

        Raises:
            FileNotFoundError: if the best epoch's checkpoint has gone from beside the one given.
        """
        if isinstance(resume_from_checkpoint, str) and self.score is not None:
            folder = Path(resume_from_checkpoint)
            state = TrainerState.load_from_json(str(folder / STATE_FILE))
            best = _best_checkpoint(state, folder.parent)
            if best and not best.is_dir():
                raise FileNotFoundError(f"{best} is missing: it held the best epoch's weights.")
            if _is_over(state, self.patience):
                self.args.num_train_epochs = round(state.epoch or 0)
        return super().train(resume_from_checkpoint, *arguments, **named)

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """The score where there is one, else the loss on the evaluation rows.

        Raises:
            ValueError: if the watched figure is not a finite number.
        """
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


def best_epoch(state: TrainerState) -> float | None:
    """The epoch whose weights were kept; None where no score was watched."""
    for entry in state.log_history:
        if WATCHED in entry and entry["step"] == state.best_global_step:
            return float(entry["epoch"])
    return None


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint: a run killed while saving leaves one without its last file."""
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{STATE_FILE}")]
    newest = max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)
    return None if newest is None else str(newest)
