"""Training in two processes: both take part, and both end with the same weights."""

import json
import socket
from pathlib import Path

import pytest

from nezha_lite.model import NezhaModel
from tests.helpers.runs import checkpoints, files, losses, python, same_weights

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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    launch = ["-m", *launcher.format(port=port).split()]
    done = python(*launch, str(script), str(tmp_path), CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr[-3000:]
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
