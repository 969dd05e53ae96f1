"""A training run that was killed resumes, and ends with the weights of a run that was not."""

import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training import read_training_record, train
from tests.helpers.runs import CONFIG, checkpoints, files, losses, python, run, same_weights
from tests.helpers.toys import toy_dataset, toy_ids, toy_model

pytestmark = pytest.mark.usefixtures("random_state")

# The forward pass number `argv[1]` (counted from 0, four an epoch) or the saving of the optimizer
# number `argv[1]` never returns: SIGKILL leaves no chance to tidy up.
KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from transformers import Trainer
from nezha_lite.model import NezhaModel
from tests.helpers.runs import run

def kill_at(owner, name, call):
    original, calls = getattr(owner, name), []
    def counted(*arguments, **options):
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(1)
        return original(*arguments, **options)
    setattr(owner, name, counted)

for output, where, call in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3]):
    child = os.fork()
    if child == 0:
        if where == "forward":
            kill_at(NezhaModel, "forward", int(call))
        else:
            kill_at(Trainer, "_save_optimizer_and_scheduler", int(call))
        run(Path(output))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
UNFINISHED = r"checkpoint-{} is not used: it is unfinished, .*; training {}\.$"
KILLS = {  # where, at which call, the checkpoints it leaves, the step it resumes from
    "in-the-first-epoch": ("forward", 2, [], 0),
    "at-an-epoch-boundary": ("forward", 8, [4, 8], 8),
    "in-the-middle-of-an-epoch": ("forward", 10, [4, 8], 8),
    "while-a-checkpoint-is-written": ("save", 2, [4, 8, 12], 8),
    "while-the-first-checkpoint-is-written": ("save", 0, [4], 0),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a killed run for every entry of KILLS."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = [
        argument
        for name, (where, call, _, _) in KILLS.items()
        for argument in (str(folder / name), where, str(call))
    ]
    done = python("-c", KILLED_RUN, *arguments)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(KILLS), done.stderr
    return folder


@pytest.mark.parametrize("name", KILLS)
def test_a_killed_run_resumes_to_the_same_weights(
    name: str,
    killed: Path,
    finished: tuple[NezhaModel, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[int] = []
    forward = NezhaModel.forward

    def counted(self: NezhaModel, *arguments, **options) -> dict[str, torch.Tensor]:
        steps.append(1)
        return forward(self, *arguments, **options)

    folder = killed / name
    assert checkpoints(folder) == KILLS[name][2]
    assert files(folder) == {"checkpoints", "semantic_ids.safetensors"}
    with pytest.raises(FileExistsError, match="already holds a training run"):
        run(folder)
    torch.manual_seed(4)
    monkeypatch.setattr(NezhaModel, "forward", counted)
    left, step = KILLS[name][2:]
    goes_on = f"resumes from checkpoint-{step}" if step else "starts again"
    with (
        pytest.warns(match=UNFINISHED.format(left[-1], goes_on))
        if left and left[-1] > step
        else nullcontext()
    ):
        model = run(folder, resume=True)
    assert len(steps) == 16 - step
    assert same_weights(model, finished[0])
    assert files(folder) == files(finished[1])
    assert checkpoints(folder) == [12, 16]
    assert losses(folder, "loss") == pytest.approx(losses(finished[1], "loss"), abs=1e-6)
    record = read_training_record(folder)
    assert record["resumed"] is (step > 0)


@pytest.mark.parametrize("grouped", [True, False])
def test_resuming_a_run_without_grouping_or_with_evaluation(grouped: bool, tmp_path: Path) -> None:
    config = replace(CONFIG, grouped=grouped, validate=True)
    model = run(tmp_path, config)
    for name in ("config.json", "model.safetensors", "semantic_ids.safetensors", "training.json"):
        (tmp_path / name).unlink()
    for path in (tmp_path / "checkpoints" / "checkpoint-16").iterdir():
        path.unlink()
    (tmp_path / "checkpoints" / "checkpoint-16").rmdir()
    assert same_weights(run(tmp_path, config, resume=True), model)


def test_resuming_a_finished_run_changes_nothing(
    finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    model = run(tmp_path)
    again = run(tmp_path, resume=True)
    assert same_weights(again, model)
    assert same_weights(NezhaModel.from_pretrained(tmp_path), finished[0])


def test_resuming_an_empty_folder_starts_a_run(tmp_path: Path) -> None:
    run(tmp_path / "new", replace(CONFIG, epochs=1), resume=True)
    assert read_training_record(tmp_path / "new")["resumed"] is False


def test_a_run_is_not_resumed_with_other_semantic_ids(tmp_path: Path) -> None:
    run(tmp_path / "run")
    ids = toy_ids()
    others = SemanticIds.from_codes(ids.codes.flip(0), ids.radices, ids.items)
    with pytest.raises(ValueError, match="run with other semantic IDs"):
        train(toy_model(), others, toy_dataset(), tmp_path / "run", CONFIG, resume=True)
    saved = SemanticIds.load(tmp_path / "run" / "semantic_ids.safetensors")
    assert torch.equal(saved.codes, ids.codes)


def test_nothing_half_written_remains_when_the_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(NezhaModel, "save_pretrained", full_disk)
    with pytest.raises(OSError, match="no space left"):
        run(tmp_path, replace(CONFIG, epochs=1, checkpoints=False))
    assert not (tmp_path / "training.json").exists()
