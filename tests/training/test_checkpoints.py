"""Damaged checkpoints are named and refused, the one before is used, and no code in them runs."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nezha_lite.evaluation.baselines import SasRecConfig, train_sasrec
from nezha_lite.model import NezhaModel
from nezha_lite.training import train
from tests.helpers.runs import CONFIG, checkpoints, python, run, same_weights
from tests.helpers.shops import SMALL
from tests.helpers.toys import toy_dataset, toy_ids, toy_model

pytestmark = pytest.mark.usefixtures("random_state")

FILES = (
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def without_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors["head.classifiers.0.weight"]
    save_file(tensors, path, metadata={"format": "pt"})


def not_finite(path: Path) -> None:
    tensors = load_file(path)
    tensors["head.classifiers.0.weight"][0, 0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})


def of_another_model(path: Path) -> None:
    tensors = {name: value[:1].contiguous() for name, value in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def changed(edit: Callable[[Any], Any]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        if path.suffix == ".json":
            path.write_text(json.dumps(edit(json.loads(path.read_text()))))
        else:
            torch.save(edit(torch.load(path, weights_only=True)), path)

    return change


def other_moments(state: dict[str, Any]) -> dict[str, Any]:
    state["state"][0]["exp_avg"] = torch.zeros(1, 2, 3)
    return state


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    **{f"{name} cut": (name, cut, f"its {name} is cut short") for name in FILES},
    **{f"{name} empty": (name, lambda p: p.write_bytes(b""), f"its {name} is") for name in FILES},
    **{f"{name} missing": (name, Path.unlink, f"its {name}") for name in FILES},
    "other shapes": (FILES[0], of_another_model, "it is of another model: "),
    "a tensor less": (FILES[0], without_a_tensor, "it has no tensor head.classifiers.0.weight"),
    "not finite": (FILES[0], not_finite, "head.classifiers.0.weight holds NaN or infinite"),
    "fewer groups": (
        FILES[1],
        changed(lambda state: state | {"param_groups": state["param_groups"][1:]}),
        "its optimizer.pt is of another model",
    ),
    "other moments": (FILES[1], changed(other_moments), "its optimizer.pt is of another model"),
    "no state": (FILES[1], changed(lambda state: [1, 2]), "its optimizer.pt holds no optimizer's"),
    "another step": (
        FILES[4],
        changed(lambda state: state | {"global_step": 3}),
        "its trainer_state.json is damaged (its step is 3)",
    ),
    "unknown field": (FILES[4], changed(lambda state: state | {"x": 1}), "is damaged ("),
    "a letter more": (FILES[4], lambda p: p.write_bytes(b"x" + p.read_bytes()), "is damaged ("),
    "bytes that are no text": (
        FILES[4],
        lambda p: p.write_bytes(b'{"\xff": 1,' + p.read_bytes()[1:]),
        "its trainer_state.json is damaged (",
    ),
    "a list": (FILES[4], changed(lambda state: [state]), "is damaged ("),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_one_before_a_damaged_checkpoint_is_used(
    damage: str, finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished[1], tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "checkpoint-16"
    name, make, says = DAMAGES[damage]
    make(newest / name)
    with pytest.warns(UserWarning, match="is not used") as told:
        model = run(tmp_path / "run", resume=True)
    (sentence,) = [str(warning.message) for warning in told]
    assert sentence.startswith(f"{newest} is not used: ")
    assert says in sentence
    assert sentence.endswith("; training resumes from checkpoint-12.")
    assert "\n" not in sentence
    assert same_weights(model, finished[0])
    assert checkpoints(tmp_path / "run") == [12, 16]
    assert same_weights(run(tmp_path / "run", resume=True), model)  # whole again: no warning


@pytest.mark.parametrize("damage", ["optimizer.pt cut", "a letter more"])
def test_where_all_are_damaged_nothing_is_overwritten(
    damage: str, finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished[1], tmp_path / "run")
    name, make, says = DAMAGES[damage]
    for step in (12, 16):
        make(tmp_path / "run" / "checkpoints" / f"checkpoint-{step}" / name)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with pytest.raises(ValueError, match=r"checkpoint-16 cannot be used: ") as refused:
        run(tmp_path / "run", resume=True)
    assert says in str(refused.value)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_a_run_of_another_model_is_not_gone_on_with(
    finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished[1], tmp_path / "run")
    gru = toy_model(transition="gru")
    with pytest.raises(ValueError, match=r"checkpoint-16 cannot be used: it is of another model"):
        train(gru, toy_ids(), toy_dataset(), tmp_path / "run", CONFIG, resume=True, progress=False)


class Malicious:
    """Unpickled as Python does it, it leaves a file; what reads tensors alone refuses it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"]
)
def test_no_code_in_a_checkpoint_runs(
    name: str, finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    marker, proof = tmp_path / "was-here", tmp_path / "proof.pt"
    torch.save({"state": Malicious(marker)}, proof)
    torch.load(proof, weights_only=False)
    assert marker.exists(), "the payload works"
    marker.unlink()
    shutil.copytree(finished[1], tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "checkpoint-16"
    shutil.copy(proof, newest / name)
    if name == "training_args.bin":  # not opened by a resumed run
        model = run(tmp_path / "run", resume=True)
    else:
        says = f"checkpoint-16 is not used: its {name} holds more than tensors and numbers; "
        with pytest.warns(UserWarning, match=says):
            model = run(tmp_path / "run", resume=True)
    assert not marker.exists()
    assert same_weights(model, finished[0])


def test_sasrec_s_checkpoints_are_checked_as_well(tmp_path: Path) -> None:
    config = SasRecConfig(width=16, layers=1, epochs=3, patience=3, batch_users=8)
    model, _ = train_sasrec(toy_dataset(), tmp_path / "whole", config)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    saved = sorted(
        (tmp_path / "run" / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1])
    )
    cut(saved[-1] / "model.safetensors")
    assert len(saved) == 2
    with pytest.warns(UserWarning, match=f"{saved[-1].name} is not used: its model.safetensors"):
        again, record = train_sasrec(toy_dataset(), tmp_path / "run", config)
    assert record["resumed"] is True
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    wider = replace(config, width=32)
    with pytest.raises(ValueError, match="it is of another model"):
        train_sasrec(toy_dataset(), tmp_path / "run", wider)


@pytest.mark.slow
def test_the_command_says_it_in_one_line(trained: Path, shop: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "checkpoint-8"
    cut(newest / "model.safetensors")
    command = ("train", str(shop), str(tmp_path / "run"), *SMALL, "--resume")
    done = python("-m", "nezha_lite.cli", *command)
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "not used" in line]
    assert said.startswith(f"Warning: {newest} is not used: its model.safetensors is cut short")
    assert said.endswith("; training resumes from checkpoint-4.")
    left = [folder / "model.safetensors" for folder in (trained, tmp_path / "run")]
    assert left[0].read_bytes() == left[1].read_bytes()
