"""Training in two processes: both take part, and both end with the same weights."""

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch

from nezha_lite.model import NezhaModel
from nezha_lite.training import read_training_record
from tests.helpers.runs import ROOT, checkpoints, files, losses, python, same_weights

pytestmark = pytest.mark.usefixtures("random_state")

TWO_PROCESSES = """
import hashlib, json, os, sys
from pathlib import Path
from safetensors.torch import save
from nezha_lite.training.packing import LengthGroupedOrder
from tests.helpers.runs import run

original, epochs, orders = LengthGroupedOrder.__iter__, [], []
def recorded(self):
    epochs.append(self.epoch)
    return original(self)
LengthGroupedOrder.__iter__ = recorded
output, rank = Path(sys.argv[1]), os.environ.get("RANK", "0")
model = run(output / "run")
there = sorted(path.name for path in (output / "run").iterdir())
tensors = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
digest = hashlib.sha256(save(tensors)).hexdigest()
(output / f"{rank}.json").write_text(json.dumps([digest, epochs, there, type(model).__name__]))
"""

# Accelerate divides weights among accelerators only, so it must take these processes for GPUs.
FSDP = """
import sys
from pathlib import Path
from accelerate.state import DistributedType, PartialState
from torch.distributed.fsdp import FSDPModule
from tests.helpers.runs import run

original = PartialState.__init__
def as_gpus(self, *arguments, **named):
    original(self, *arguments, **named)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU
PartialState.__init__ = as_gpus
model = run(Path(sys.argv[1]), resume=True)
assert isinstance(model, FSDPModule)
"""


def launched(launcher: str, script: str, output: Path, folder: Path) -> None:
    """Run a script by a launcher on a free port, with the output as its argument."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = folder / "script.py"
    path.write_text(script)
    launch = ["-m", *launcher.format(port=port).split()]
    done = python(*launch, str(path), str(output), CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("launcher", "processes"),
    [
        ("accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port {port}", 2),
        # Without MPI, accelerate's own launcher starts a single process on a CPU.
        ("accelerate.commands.launch --cpu --num_processes 2 --main_process_port {port}", 1),
    ],
    ids=["two", "cpu"],
)
@pytest.mark.slow
def test_several_processes_end_with_the_same_weights(
    launcher: str, processes: int, finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    launched(launcher, TWO_PROCESSES, tmp_path, tmp_path)
    ends = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert len(ends) == processes
    assert ends[0] == ends[-1]  # weights to the last bit, among other things
    _, epochs, there, kind = ends[0]
    assert epochs == [0, 1, 2, 3]
    assert set(there) == files(finished[1])
    assert kind == "NezhaModel"
    trained = NezhaModel.from_pretrained(tmp_path / "run")
    # Two processes take 16 rows a step and not 8: then both took part.
    assert checkpoints(tmp_path / "run") == {1: [12, 16], 2: [6, 8]}[processes]
    assert same_weights(trained, finished[0]) is (processes == 1)
    values = losses(tmp_path / "run", "loss")
    assert values[-1] < values[0]


@pytest.mark.slow
def test_weights_divided_among_processes(tmp_path: Path) -> None:
    config = f"--config_file {ROOT}/docs/accelerate/fsdp.yaml --mixed_precision no"
    fsdp = f"accelerate.commands.launch {config} --num_processes 2 --main_process_port {{port}}"
    whole = tmp_path / "whole"
    launched(fsdp, FSDP, whole, tmp_path)
    two = "accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port {port}"
    launched(two, TWO_PROCESSES, tmp_path, tmp_path)
    assert losses(whole, "loss") == pytest.approx(losses(tmp_path / "run", "loss"), rel=1e-5)
    trained = NezhaModel.from_pretrained(whole)  # in one process
    other = NezhaModel.from_pretrained(tmp_path / "run").state_dict()
    for name, weight in trained.state_dict().items():
        torch.testing.assert_close(weight, other[name], rtol=0, atol=1e-5, msg=name)

    # A run that was stopped after its third epoch goes on to the same weights.
    stopped = tmp_path / "stopped"
    shutil.copytree(whole, stopped)
    shutil.rmtree(stopped / "checkpoints" / "checkpoint-8")
    for name in ("model.safetensors", "training.json"):
        (stopped / name).unlink()
    launched(fsdp, FSDP, stopped, tmp_path)
    assert read_training_record(stopped)["resumed"]
    assert same_weights(trained, NezhaModel.from_pretrained(stopped))
