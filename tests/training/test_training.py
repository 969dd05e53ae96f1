"""Training: it learns, it tells what it did, it refuses cleanly, each part has its rate."""

import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training import read_training_record, train
from nezha_lite.training.config import PAPER_RECIPE, TrainingConfig
from nezha_lite.training.packing import Collator, evaluation_rows
from nezha_lite.training.train import parameter_groups
from tests.helpers.runs import CONFIG, checkpoints, files, losses, run, same_weights
from tests.helpers.toys import toy_dataset, toy_ids, toy_model

pytestmark = pytest.mark.usefixtures("random_state")

# ---- what a run does -----------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.slow
def test_the_loss_falls_far_below_guessing(packed: bool, tmp_path: Path) -> None:
    config = TrainingConfig(epochs=25, batch_rows=8, learning_rate=1e-2, packed=packed)
    model = toy_model(next_code_weight=0.0)
    train(model, toy_ids(), toy_dataset(), tmp_path / "run", config, progress=False)
    first, *_, last = losses(tmp_path / "run", "loss")
    guessing = (math.log(2) + math.log(5) + math.log(2)) / 3
    assert first > 0.7 * guessing
    assert last < 0.15 * guessing

    model = NezhaModel.from_pretrained(tmp_path / "run")
    rows = evaluation_rows(toy_dataset().split("test"), 6)
    batch = Collator(toy_ids(), model.vocabulary)(rows)
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
        alone = [float(model(**collate([row]))["loss"]) for row in evaluation_rows(split, 6)]
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


@pytest.mark.parametrize("setting", [{"draft_weight": 0.0}, {"placeholders": False}])
def test_a_part_that_reads_no_placeholders_trains_as_well_without_their_blocks(
    setting: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of both kinds train the same weights; what is not trained stays as it was."""
    models, widths = [], set()
    forward = NezhaModel.forward

    def seen(self: NezhaModel, input_ids: torch.Tensor, **batch: torch.Tensor) -> object:
        widths.add(input_ids.shape[1])
        return forward(self, input_ids, **batch)

    monkeypatch.setattr(NezhaModel, "forward", seen)
    longest = 7 * toy_ids().levels  # tokens, where no placeholders stand
    for blocks in (False, True):
        if blocks:
            monkeypatch.setattr(NezhaModel, "reads_placeholders", True)
        model = toy_model(**setting)
        config = TrainingConfig(epochs=2, batch_rows=30, grouped=False, checkpoints=False)
        train(model, toy_ids(), toy_dataset(), tmp_path / str(blocks), config, progress=False)
        models.append(model)
        assert all((width > longest) is blocks for width in widths)
        widths.clear()
    first = dict(toy_model(**setting).named_parameters())
    for (name, one), other in zip(
        models[0].named_parameters(), models[1].parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5)
        untouched = setting.get("draft_weight") == 0 and name.startswith("head.")
        assert torch.equal(one, first[name]) == untouched, name


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
        *((name, 2e9) for name in ("learning_rate", "embedding_lr", "weight_decay")),
        ("learning_rate", math.nan),
    ],
)
def test_config_errors_name_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{field} is {value}, but must")):
        TrainingConfig(**{field: value})


# ---- learning rates ------------------------------------------------------------------------------


@pytest.mark.parametrize("transition", ["rnn", "gru", "none"])
def test_every_parameter_has_its_part_s_rate_and_decay(transition: str) -> None:
    model = toy_model(transition=transition)
    groups = parameter_groups(model, PAPER_RECIPE)
    settings = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert len(settings) == len(list(model.parameters()))
    parts = {"embeddings": 0, "cells": 0, "rest": 0}
    for name, parameter in model.named_parameters():
        part = next((p for p in ("embeddings", "cells") if name.startswith(f"head.{p}.")), "rest")
        parts[part] += 1
        rate = {"embeddings": 1e-3, "cells": 1e-4, "rest": 1e-5}[part]
        decay = PAPER_RECIPE.weight_decay if parameter.ndim > 1 else 0.0
        assert settings[id(parameter)] == (pytest.approx(rate), decay), name
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
