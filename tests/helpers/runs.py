"""Training runs on the toy world, and what can be asked of their folders."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from nezha_lite.model import NezhaModel
from nezha_lite.training import read_training_record, train
from nezha_lite.training.config import TrainingConfig
from tests.helpers.toys import toy_dataset, toy_ids, toy_model

ROOT = Path(__file__).resolve().parents[2]
DROPOUT = 0.2  # so that a resumed run must also find its random state again
CONFIG = TrainingConfig(epochs=4, batch_rows=8)  # 30 packed rows: 4 steps an epoch


def run(output: Path, config: TrainingConfig = CONFIG, **arguments) -> NezhaModel:
    model = toy_model(dropout=DROPOUT)
    train(model, toy_ids(), toy_dataset(), output, config, progress=False, **arguments)
    return model


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in (folder / "checkpoints").iterdir())


def same_weights(left: NezhaModel, right: NezhaModel) -> bool:
    others = right.state_dict()
    return all(torch.equal(value, others[name]) for name, value in left.state_dict().items())


def losses(folder: Path, name: str) -> list[float]:
    return [entry[name] for entry in read_training_record(folder)["log"] if name in entry]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Another interpreter, which finds the package and this module."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
