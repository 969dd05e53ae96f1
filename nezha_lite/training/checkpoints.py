"""Checkpoints as transformers' Trainer writes them: which one to resume from, and why no other.

A run that is killed while it saves leaves an unfinished checkpoint, and a disk may return other
bytes than were written. Each file is checked before the Trainer reads it, so that a damaged
checkpoint costs an epoch and not the run. What PyTorch has pickled is read as tensors and numbers:
no code in it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
FSDP_FILES = ("optimizer.bin", "pytorch_model_fsdp.bin")  # with FSDP, in place of the former
SCHEDULER_FILE = "scheduler.pt"
RANDOM_STATES = "rng_state*.pth"  # one for each process
# The types in a saved state of numpy's generator.
_NUMPY: list[Any] = [np.empty(0).__reduce__()[0], np.ndarray, np.dtype, type(np.dtype(np.uint32))]


class _UnfinishedError(ValueError):
    """A run was stopped while it saved; the checkpoint is not damaged."""


def find_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer, validated: bool = False
) -> tuple[Path | None, list[str]]:
    """The newest checkpoint under `folder` that this run can resume from.

    Args:
        model: whose weights a checkpoint must have, name by name and shape by shape.
        optimizer: of the model's parameters, likewise.
        validated: whether the best epoch's checkpoint must be there as well.

    Returns:
        The checkpoint, None if there is none, and why each newer one is not used.

    Raises:
        ValueError: if there are checkpoints, but only damaged ones or those of another model:
            starting again would overwrite them.
    """
    refusals: list[str] = []
    damage = ""
    for checkpoint in _checkpoints(folder):
        try:
            _check(checkpoint, model, optimizer, validated)
        except ValueError as error:
            refusals.append(f"{checkpoint} is not used: {error}")
            if not isinstance(error, _UnfinishedError):
                damage = damage or f"{checkpoint} cannot be used: {error}"
            continue
        return checkpoint, refusals
    if damage:
        raise ValueError(
            f"{damage}; there is no good checkpoint before it, so delete {folder} to begin anew, "
            "or name another output folder."
        )
    return None, refusals


def last_finished(folder: Path, step: int) -> Path | None:
    """The newest checkpoint of a run that is now at this step; later ones are of another run."""
    finished = (path for path in _checkpoints(folder) if (path / STATE_FILE).is_file())
    return next((path for path in finished if _step(path) <= step), None)


@contextmanager
def saving(path: Path, remedy: str) -> Iterator[None]:
    """Around writing `path`: a full disk, above all, is one OSError that names the remedy.

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
    paths = (path for path in folder.glob("checkpoint-*") if path.is_dir())
    numbered = [path for path in paths if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(numbered, key=_step, reverse=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _check(checkpoint: Path, model: nn.Module, optimizer: Optimizer, validated: bool) -> None:
    """ValueError with the reason if the Trainer cannot resume from this checkpoint."""
    state = _read_state(checkpoint)
    _check_weights(checkpoint, model)
    sharded, whole = (checkpoint / name for name in FSDP_FILES)
    _check_optimizer(sharded if sharded.exists() else checkpoint / OPTIMIZER_FILE, model, optimizer)
    random_states = sorted(checkpoint.glob(RANDOM_STATES)) or [checkpoint / "rng_state.pth"]
    for path in (checkpoint / SCHEDULER_FILE, *random_states, *[whole] * sharded.exists()):
        _load(path)
    if validated and state.best_global_step:
        best = checkpoint.with_name(f"checkpoint-{state.best_global_step}")
        if not best.is_dir():
            raise ValueError(f"{best.name}, which held the best epoch's weights, is missing")
        with _refused(f"{best.name}, which held the best epoch's weights, cannot be used"):
            _check_weights(best, model)


def _read_state(checkpoint: Path) -> TrainerState:
    path = checkpoint / STATE_FILE
    if not path.is_file():
        raise _UnfinishedError(f"it is unfinished, without its {STATE_FILE}")
    raw = path.read_bytes()
    try:
        state = TrainerState(**parse_json(raw.decode("utf-8")))
        if state.global_step != _step(checkpoint) or not isinstance(state.epoch, int | float):
            raise TypeError(f"its step is {state.global_step!r:.40}")
        if not isinstance(state.log_history, list):
            raise TypeError("its log is no list")
    except (TypeError, ValueError) as error:
        if isinstance(error, ValueError) and not raw.endswith(b"\n}\n"):  # as the Trainer ends it
            raise _UnfinishedError(f"it is unfinished, its {STATE_FILE} is cut short") from None
        raise ValueError(f"its {STATE_FILE} is damaged ({_line(error)})") from error
    return state


def _check_weights(checkpoint: Path, model: nn.Module) -> None:
    expected, held = model.state_dict(), set()
    for name, tensor in _tensors(checkpoint):
        if name not in expected or tensor.shape != expected[name].shape:
            own = f"shape {tuple(expected[name].shape)}" if name in expected else "no such tensor"
            raise ValueError(
                f"it is of another model: {name} has shape {tuple(tensor.shape)} in it, and this "
                f"model has {own}"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"its {name} holds NaN or infinite weights")
        held.add(expected[name].data_ptr())
    if not held:
        raise ValueError("its model.safetensors is missing")
    for name, tensor in expected.items():
        if tensor.data_ptr() not in held:  # tied weights are written once
            raise ValueError(f"it is of another model: it has no tensor {name}")


def _tensors(checkpoint: Path) -> Iterator[tuple[str, Tensor]]:
    for path in sorted(checkpoint.glob(WEIGHTS)):
        damaged = _refused(f"its {path.name} is cut short or damaged")
        with damaged, safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                yield name, file.get_tensor(name)


def _check_optimizer(path: Path, model: nn.Module, optimizer: Optimizer) -> None:
    groups = [group["params"] for group in optimizer.param_groups]
    # A parameter is its number in the file, with FSDP its name.
    shapes: dict[Any, torch.Size] = {name: one.shape for name, one in model.named_parameters()}
    shapes |= enumerate(parameter.shape for group in groups for parameter in group)
    content = _load(path)
    with _refused(f"its {path.name} holds no optimizer's state"):
        sizes = [len(group["params"]) for group in content["param_groups"]]
        same_shapes = all(
            shapes.get(key) == value.shape
            for key, state in content["state"].items()
            for value in state.values()
            if value.ndim
        )
    if not same_shapes or sizes != [len(group) for group in groups]:
        raise ValueError(f"its {path.name} is of another model")


def _load(path: Path) -> Any:
    """What PyTorch wrote to a file: tensors and numbers, and of numpy its random state."""
    if not path.is_file():
        raise ValueError(f"its {path.name} is missing")
    try:
        with torch.serialization.safe_globals(_NUMPY):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # PyTorch has many for bytes that are no such file
        if out_of_memory(error):
            raise
        pickled = "weights_only" in str(error)
        reason = "holds more than tensors and numbers" if pickled else "is cut short or damaged"
        raise ValueError(f"its {path.name} {reason}") from error


@contextmanager
def _refused(reason: str) -> Iterator[None]:
    """Whatever fails becomes ValueError "REASON (error)"; a lack of memory passes."""
    try:
        yield
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ValueError(f"{reason} ({_line(error)})") from error


def _line(error: Exception, limit: int = 160) -> str:
    """An error's message on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".") if len(text) <= limit else f"{text[:limit]} […]"
