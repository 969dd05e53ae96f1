"""Checkpoints as transformers' Trainer writes them: which one to go on from, and why not another.

A run that is killed while it saves leaves one that is unfinished, and a disk may return less than
was written. Each file is read before the Trainer reads it, so that a damaged checkpoint costs an
epoch and not the run. What PyTorch has pickled is read as tensors and numbers: no code in it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.trainer_callback import TrainerState

from nezha_lite.common.files import parse_json
from nezha_lite.common.memory import out_of_memory

STATE_FILE = "trainer_state.json"  # the Trainer writes it last
WEIGHTS = "model*.safetensors"  # several where a model is large
OPTIMIZER_FILE = "optimizer.pt"
SCHEDULER_FILE = "scheduler.pt"
RANDOM_STATES = "rng_state*.pth"  # one for each process
# What a saved state of numpy's generator is made of.
_NUMPY: list[Any] = [np.empty(0).__reduce__()[0], np.ndarray, np.dtype, type(np.dtype(np.uint32))]


class _UnfinishedError(ValueError):
    """A run was stopped while it saved: nothing is wrong with what it left."""


@dataclass(frozen=True)
class Found:
    """What a folder of checkpoints has to offer.

    Attributes:
        checkpoint: the newest that is whole and fits; None where there is none.
        refused: newer ones, each with the reason, newest first.
    """

    checkpoint: Path | None
    refused: tuple[tuple[Path, str], ...] = ()

    def sentence(self) -> str:
        """For people: what is not used, and where training goes on instead."""
        named = "; ".join(f"{path} is not used: {reason}" for path, reason in self.refused)
        goes_on = f"goes on from {self.checkpoint.name}" if self.checkpoint else "begins anew"
        return f"{named}; training {goes_on}."


def newest_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer, watched: bool = False
) -> Found:
    """Look for the newest checkpoint under `folder` that this run can go on from.

    Args:
        model: whose weights a checkpoint must have, name by name and shape by shape.
        optimizer: of the model's parameters, likewise.
        watched: whether the best epoch's checkpoint must be there as well.

    Raises:
        ValueError: if there are checkpoints, but only such as are damaged or of another model: to
            begin anew would overwrite them.
    """
    refused: list[tuple[Path, str]] = []
    damaged: tuple[Path, str] | None = None
    for checkpoint in _checkpoints(folder):
        try:
            _check(checkpoint, model, optimizer, watched)
        except ValueError as error:
            refused.append((checkpoint, str(error)))
            if damaged is None and not isinstance(error, _UnfinishedError):
                damaged = refused[-1]
            continue
        return Found(checkpoint, tuple(refused))
    if damaged:
        path, reason = damaged
        raise ValueError(
            f"{path} cannot be used: {reason}; there is no good checkpoint before it, so delete "
            f"{folder} to begin anew, or name another output folder."
        )
    return Found(None, tuple(refused))


def last_finished(folder: Path, step: int) -> Path | None:
    """The newest checkpoint of a run that is now at this step; later ones are not its own."""
    done = (path for path in _checkpoints(folder) if (path / STATE_FILE).is_file())
    return next((path for path in done if _step(path) <= step), None)


@contextmanager
def saving(path: Path, remedy: str) -> Iterator[None]:
    """Around writing `path`: a full disk, above all, is one OSError that says what to do.

    safetensors and PyTorch's writer have errors of their own for it, the latter a RuntimeError.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if out_of_memory(error):
            raise
        raise OSError(f"{path} could not be written ({_line(error)}): {remedy}.") from error


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    found = (path for path in folder.glob("checkpoint-*") if path.is_dir())
    named = [path for path in found if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(named, key=_step, reverse=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _check(checkpoint: Path, model: nn.Module, optimizer: Optimizer, watched: bool) -> None:
    """ValueError with the reason if the Trainer cannot go on from this checkpoint."""
    state = _read_state(checkpoint)
    _check_weights(checkpoint, model)
    _check_optimizer(_load(checkpoint / OPTIMIZER_FILE), optimizer)
    _load(checkpoint / SCHEDULER_FILE)
    random_states = sorted(checkpoint.glob(RANDOM_STATES))
    for path in random_states or [checkpoint / "rng_state.pth"]:
        _load(path)
    if watched and state.best_global_step:
        best = checkpoint.with_name(f"checkpoint-{state.best_global_step}")
        if not best.is_dir():
            raise ValueError(f"{best.name}, which held the best epoch's weights, is missing")
        try:
            _check_weights(best, model)
        except ValueError as error:
            raise ValueError(f"{best.name} held the best epoch's weights, but {error}") from error


def _read_state(checkpoint: Path) -> TrainerState:
    path = checkpoint / STATE_FILE
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _UnfinishedError(f"it is unfinished, without its {STATE_FILE}") from None
    except ValueError as error:
        if path.read_bytes().endswith(b"\n}\n"):  # as the Trainer ends it
            raise ValueError(f"its {STATE_FILE} is damaged ({_line(error)})") from error
        raise _UnfinishedError(f"it is unfinished, its {STATE_FILE} is cut short") from None
    try:
        state = TrainerState(**content)
        if state.global_step != _step(checkpoint) or not isinstance(state.epoch, int | float):
            raise ValueError(f"its step is {state.global_step!r:.40}")
        if not isinstance(state.log_history, list):
            raise ValueError("its log is no list")
    except (TypeError, ValueError) as error:
        raise ValueError(f"its {STATE_FILE} is damaged ({_line(error)})") from error
    return state


def _check_weights(checkpoint: Path, model: nn.Module) -> None:
    wanted, held = model.state_dict(), set()
    for name, tensor in _tensors(checkpoint):
        if name not in wanted or tensor.shape != wanted[name].shape:
            own = f"shape {tuple(wanted[name].shape)}" if name in wanted else "no such tensor"
            raise ValueError(
                f"it is of another model: {name} has shape {tuple(tensor.shape)} in it, and this "
                f"model has {own}"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"its {name} holds NaN or infinite weights")
        held.add(wanted[name].data_ptr())
    if not held:
        raise ValueError("its model.safetensors is missing")
    for name, tensor in wanted.items():
        if tensor.data_ptr() not in held:  # tied weights are written once
            raise ValueError(f"it is of another model: it has no tensor {name}")


def _tensors(checkpoint: Path) -> Iterator[tuple[str, Tensor]]:
    for path in sorted(checkpoint.glob(WEIGHTS)):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"its {path.name} is cut short or damaged ({_line(error)})") from error


def _check_optimizer(content: Any, optimizer: Optimizer) -> None:
    try:
        sizes = [len(group["params"]) for group in content["param_groups"]]
        moments = {
            int(place): [value.shape for value in state.values() if value.ndim]
            for place, state in content["state"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its {OPTIMIZER_FILE} holds no optimizer's state") from error
    groups = [group["params"] for group in optimizer.param_groups]
    parameters = [parameter for group in groups for parameter in group]
    if sizes != [len(group) for group in groups] or not all(
        place < len(parameters) and shape == parameters[place].shape
        for place, shapes in moments.items()
        for shape in shapes
    ):
        raise ValueError(f"its {OPTIMIZER_FILE} is of another model")


def _load(path: Path) -> Any:
    """What PyTorch wrote to a file: tensors and numbers, and of numpy its random state."""
    if not path.is_file():
        raise ValueError(f"its {path.name} is missing")
    try:
        with torch.serialization.safe_globals(_NUMPY):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever comes of bytes that are no such file
        if out_of_memory(error):
            raise
        if "weights_only" in str(error):
            raise ValueError(f"its {path.name} holds more than tensors and numbers") from error
        raise ValueError(f"its {path.name} is cut short or damaged") from error


def _line(error: Exception, limit: int = 160) -> str:
    """What a library says, on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".") if len(text) <= limit else f"{text[:limit]} […]"
