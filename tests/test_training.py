"""Training: it learns, it survives being killed, it runs in two processes, it refuses cleanly."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toys import toy_dataset, toy_ids, toy_model

from nezha_lite.model import NezhaModel
from nezha_lite.packing import Collator, TrainingRows
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training import (
    PAPER_RECIPE,
    LengthGroupedOrder,
    TrainingConfig,
    parameter_groups,
    read_training_record,
    train,
)

TESTS = Path(__file__).parent
DROPOUT = 0.2  # so that a resumed run must also find its random state again
CONFIG = TrainingConfig(epochs=4, batch_rows=8)  # 30 packed rows: 4 steps an epoch


@pytest.fixture(autouse=True)
def random_state() -> Iterator[None]:
    """The Trainer seeds the global generators; other tests must not notice."""
    with torch.random.fork_rng(devices=[]):
        yield


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


def python(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return subprocess.run(
        [sys.executable, *arguments, script] if script else [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[NezhaModel, Path]:
    """An uninterrupted run, and its folder."""
    folder = tmp_path_factory.mktemp("runs") / "deep" / "finished"
    with torch.random.fork_rng(devices=[]):
        return run(folder), folder


# ---- what a run does -----------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_the_loss_falls_far_below_guessing(packed: bool, tmp_path: Path) -> None:
    config = TrainingConfig(epochs=25, batch_rows=8, learning_rate=1e-2, packed=packed)
    model = toy_model(next_code_weight=0.0)
    train(model, toy_ids(), toy_dataset(), tmp_path / "run", config, progress=False)
    first, *_, last = losses(tmp_path / "run", "loss")
    guessing = (math.log(2) + math.log(5) + math.log(2)) / 3
    assert first > 0.7 * guessing
    assert last < 0.15 * guessing

    model = NezhaModel.from_pretrained(tmp_path / "run")
    rows = TrainingRows.of_split(toy_dataset().split("test"), 6)
    batch = Collator(toy_ids(), model.vocabulary)(rows.rows)
    with torch.no_grad():
        assert float(model(**batch)["loss"]) < 0.4 * guessing  # items it never trained as targets


def test_the_folder_holds_the_model_and_no_pickle(finished: tuple[NezhaModel, Path]) -> None:
    model, folder = finished
    assert files(folder) == {
        "checkpoints",
        "config.json",
        "model.safetensors",
        "semantic_ids.safetensors",
        "training.json",
    }
    assert not model.training
    assert same_weights(model, NezhaModel.from_pretrained(folder))
    ids = SemanticIds.load(folder / "semantic_ids.safetensors")
    assert torch.equal(ids.codes, toy_ids().codes)
    assert ids.radices == toy_ids().radices
    assert ids.items == toy_ids().items


def test_a_checkpoint_every_epoch_of_which_two_stay(finished: tuple[NezhaModel, Path]) -> None:
    model, folder = finished
    assert checkpoints(folder) == [12, 16]
    last = load_file(folder / "checkpoints" / "checkpoint-16" / "model.safetensors")
    before = load_file(folder / "checkpoints" / "checkpoint-12" / "model.safetensors")
    name = "head.classifiers.0.weight"
    assert torch.equal(last[name], model.state_dict()[name])
    assert not torch.equal(before[name], model.state_dict()[name])


def test_the_record_tells_what_happened(finished: tuple[NezhaModel, Path]) -> None:
    _, folder = finished
    record = read_training_record(folder)
    assert record["dataset"] == "toy"
    assert record["config"] == asdict(CONFIG)
    assert TrainingConfig(**record["config"]) == CONFIG
    assert record["resumed"] is False
    assert record["seconds"] > 0
    assert record["cpu_seconds"] > 0
    assert len(losses(folder, "loss")) == CONFIG.epochs
    assert losses(folder, "eval_loss") == []
    rates = losses(folder, "learning_rate")
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.05 * CONFIG.learning_rate
    with pytest.raises(FileNotFoundError, match=r"has no training\.json"):
        read_training_record(folder.parent)


def test_train_returns_the_record_that_it_writes(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=1, batch_rows=8)
    record = train(toy_model(), toy_ids(), toy_dataset(), tmp_path, config, progress=False)
    assert record == read_training_record(tmp_path)


def test_the_rate_rises_during_the_warmup(tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, warmup=0.5))
    rates = losses(tmp_path, "learning_rate")
    # Logged after steps 4, 8, 12 and 16 of 16, each the rate of the step just made.
    assert rates == pytest.approx([0.75e-3, 1.75e-3, 1.38e-3, 0.08e-3], abs=0.02e-3)


def test_validate_logs_a_loss_after_every_epoch(tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, validate=True))
    log = read_training_record(tmp_path)["log"]
    assert [entry["epoch"] for entry in log if "eval_loss" in entry] == [1, 2, 3, 4]
    values = losses(tmp_path, "eval_loss")
    assert values == sorted(values, reverse=True)


def test_the_evaluation_loss_is_that_of_the_validation_targets(tmp_path: Path) -> None:
    model = run(tmp_path, replace(CONFIG, epochs=1, validate=True))
    split = toy_dataset().split("validation")
    collate = Collator(toy_ids(), model.vocabulary)
    with torch.no_grad():
        alone = [
            float(model(**collate([row]))["loss"]) for row in TrainingRows.of_split(split, 6).rows
        ]
    assert losses(tmp_path, "eval_loss") == [pytest.approx(sum(alone) / len(alone), rel=1e-4)]


def test_without_checkpoints_nothing_can_be_resumed_but_the_model_is_there(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, checkpoints=False)
    model = run(tmp_path, config)
    assert checkpoints(tmp_path) == []
    assert same_weights(model, NezhaModel.from_pretrained(tmp_path))


def test_seed_decides_the_run_and_what_happened_before_does_not(
    finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    torch.manual_seed(99)
    torch.rand(7)
    assert same_weights(run(tmp_path / "again"), finished[0])
    assert not same_weights(run(tmp_path / "other", replace(CONFIG, seed=1)), finished[0])


def test_no_progress_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, replace(CONFIG, epochs=1))
    assert capfd.readouterr().out == ""


def test_bf16_trains_on_a_cpu_and_keeps_fp32_weights(tmp_path: Path) -> None:
    model = run(tmp_path / "half", replace(CONFIG, bf16=True))
    full = run(tmp_path / "full", replace(CONFIG, bf16=False))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not same_weights(model, full)  # otherwise bf16 was never on
    half_losses, full_losses = losses(tmp_path / "half", "loss"), losses(tmp_path / "full", "loss")
    assert half_losses == pytest.approx(full_losses, rel=0.02)
    assert half_losses[-1] < half_losses[0]


# ---- killed and resumed --------------------------------------------------------------------------

# The forward pass number `argv[1]` (counted from 0, four an epoch) or the saving of the optimizer
# number `argv[1]` never returns: SIGKILL leaves no chance to tidy up.
KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from transformers import Trainer
from nezha_lite.model import NezhaModel
from test_training import run

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
KILLS = {  # where, at which call, the checkpoints it leaves, the step it goes on from
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
    done = python("", "-c", KILLED_RUN, *arguments)
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
    model = run(folder, resume=True)
    assert len(steps) == 16 - KILLS[name][3]
    assert same_weights(model, finished[0])
    assert files(folder) == files(finished[1])
    assert checkpoints(folder) == [12, 16]
    assert losses(folder, "loss") == pytest.approx(losses(finished[1], "loss"), abs=1e-6)
    record = read_training_record(folder)
    assert record["resumed"] is (KILLS[name][3] > 0)


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


# ---- refusals ------------------------------------------------------------------------------------


def test_a_used_folder_is_refused_untouched(tmp_path: Path) -> None:
    for name in ("training.json", "model.safetensors", "config.json", "semantic_ids.safetensors"):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        (folder / name).write_text("mine")
        model = toy_model()
        with pytest.raises(FileExistsError, match=f"{folder.name} already holds"):
            train(model, toy_ids(), toy_dataset(), folder, CONFIG, progress=False)
        assert files(folder) == {name}
        assert (folder / name).read_text() == "mine"
        assert same_weights(model, toy_model())


def test_refusals_leave_no_files(tmp_path: Path) -> None:
    fewer = SemanticIds.from_codes(toy_ids().codes[:19], toy_ids().radices)
    other_radices = SemanticIds.from_codes(toy_ids().codes, (3, 5, 4))
    short = replace(toy_dataset(), sequences=((0, 1, 2),) * 30)
    for semantic_ids, dataset, message in (
        (fewer, toy_dataset(), "name 19 items, but data set 'toy' has 20"),
        (other_radices, toy_dataset(), r"have radices \(3, 5, 4\), but the model was built for"),
        (toy_ids(), short, "nothing to predict"),
    ):
        with pytest.raises(ValueError, match=message):
            train(toy_model(), semantic_ids, dataset, tmp_path / "a" / "b", CONFIG, progress=False)
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, 0) for name in ("epochs", "batch_rows", "learning_rate", "window_stride")),
        *((name, -1.0) for name in ("embedding_lr", "transition_lr", "weight_decay", "warmup")),
        ("warmup", 1.0),
        ("warmup", 3),
    ],
)
def test_config_errors_name_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}, but must"):
        TrainingConfig(**{field: value})


# ---- row order -----------------------------------------------------------------------------------


def order(seed: int, epoch: int, lengths: list[int]) -> list[int]:
    sampler = LengthGroupedOrder(lengths, 4, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_the_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    lengths = torch.randint(3, 60, (450,), generator=torch.Generator().manual_seed(0)).tolist()
    orders = {}
    for seed in (0, 1, 2):
        for epoch in (0, 1, 2):
            torch.manual_seed(1000 * epoch + seed)  # must not matter
            before = torch.get_rng_state()
            orders[seed, epoch] = order(seed, epoch, lengths)
            assert torch.equal(torch.get_rng_state(), before)
            assert sorted(orders[seed, epoch]) == list(range(450))
    assert len({tuple(one) for one in orders.values()}) == 9
    assert order(1, 2, lengths) == orders[1, 2]
    assert len(LengthGroupedOrder(lengths, 4, 0)) == 450


def test_the_order_saves_padding() -> None:
    lengths = torch.randint(3, 60, (400,), generator=torch.Generator().manual_seed(1)).tolist()

    def padding(indices: list[int]) -> int:
        batches = [[lengths[i] for i in indices[at : at + 4]] for at in range(0, 400, 4)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(order(0, 0, lengths)) < 0.2 * padding(list(range(400)))


def test_training_uses_another_order_each_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    original = LengthGroupedOrder.__iter__

    def recorded(self: LengthGroupedOrder) -> Iterator[int]:
        seen.append(list(original(self)))
        return iter(seen[-1])

    monkeypatch.setattr(LengthGroupedOrder, "__iter__", recorded)
    run(tmp_path, replace(CONFIG, epochs=3, seed=5))
    levels, rows = 3, TrainingRows(toy_dataset().train_sequences(), 6, 6)
    lengths = [row.n_tokens(levels) for row in rows.rows]
    expected = []
    for epoch in range(3):
        sampler = LengthGroupedOrder(lengths, CONFIG.batch_rows, 5)
        sampler.set_epoch(epoch)
        expected.append(list(original(sampler)))
    assert seen == expected
    assert expected[0] != expected[1] != expected[2] != expected[0]


# ---- learning rates ------------------------------------------------------------------------------


@pytest.mark.parametrize("transition", ["rnn", "gru", "none"])
def test_every_parameter_has_its_part_s_rate_and_decay(transition: str) -> None:
    model = toy_model(transition=transition)
    groups = parameter_groups(model, PAPER_RECIPE)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert len(found) == len(list(model.parameters()))
    parts = {"embeddings": 0, "cells": 0, "rest": 0}
    for name, parameter in model.named_parameters():
        part = next((p for p in ("embeddings", "cells") if name.startswith(f"head.{p}.")), "rest")
        parts[part] += 1
        rate = {"embeddings": 1e-3, "cells": 1e-4, "rest": 1e-5}[part]
        decay = PAPER_RECIPE.weight_decay if parameter.ndim > 1 else 0.0
        assert found[id(parameter)] == (pytest.approx(rate), decay), name
    # Two inner levels: a table and a cell each; a cell has two matrices and two biases.
    assert (parts["embeddings"], parts["cells"]) == ((0, 0) if transition == "none" else (2, 8))


def test_the_multipliers_reach_the_weights(tmp_path: Path) -> None:
    config = TrainingConfig(
        epochs=1, batch_rows=64, learning_rate=1e-4, embedding_lr=100, transition_lr=10
    )
    config = replace(config, weight_decay=0.0, warmup=0.0, checkpoints=False)
    model, before = toy_model(), toy_model().state_dict()
    train(model, toy_ids(), toy_dataset(), tmp_path, config, progress=False)
    moved = {
        name: float((model.state_dict()[name] - before[name]).abs().max())
        for name in (
            "head.classifiers.0.weight",
            "head.embeddings.0.weight",
            "head.cells.0.weight_hh",
        )
    }
    # AdamW's very first step moves every weight with a gradient by its learning rate.
    assert list(moved.values()) == pytest.approx([1e-4, 1e-2, 1e-3], rel=0.02)


# ---- two processes -------------------------------------------------------------------------------

TWO_PROCESSES = """
import hashlib, json, os, sys
from pathlib import Path
from safetensors.torch import save
from test_training import CONFIG, LengthGroupedOrder, run

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
def test_several_processes_end_with_the_same_weights(
    launcher: str, processes: int, finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    launch = ["-m", *launcher.format(port=port).split()]
    done = python("", *launch, str(script), str(tmp_path), CUDA_VISIBLE_DEVICES="")
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
