"""Validation by a score: the best epoch is kept, patience ends the run, a kill changes nothing."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.trainer_callback import TrainerState

from nezha_lite.model import NezhaModel
from nezha_lite.training import TrainingRecord, read_training_record, train
from nezha_lite.training.config import TrainingConfig
from nezha_lite.training.trainer import WATCHED, out_of_patience
from tests.helpers.runs import CONFIG, DROPOUT, checkpoints, files, losses, run, same_weights
from tests.helpers.toys import toy_dataset, toy_ids, toy_model

pytestmark = pytest.mark.usefixtures("random_state")

SIX = replace(CONFIG, epochs=6, batch_rows=16)  # 2 steps an epoch
SCORES = (0.2, 0.5, 0.4, 0.5, 0.3, 0.9)  # a patience of 3 ends before the 0.9


class Interruption(Exception):
    """Stands for a kill: nothing after it happens."""


class Watch:
    """A model, and the scores that its epochs get; keeps the weights that each epoch had."""

    def __init__(
        self, scores: Sequence[float] = SCORES, first: int = 1, stop_at: int | None = None
    ) -> None:
        self.model = toy_model(dropout=DROPOUT)
        self.scores, self.epoch, self.stop_at = scores, first - 1, stop_at
        self.weights: dict[int, dict[str, Tensor]] = {}

    def score(self) -> dict[str, float]:
        assert not self.model.training
        assert not torch.is_grad_enabled()
        self.epoch += 1
        if self.epoch == self.stop_at:
            raise Interruption
        state = self.model.state_dict()
        self.weights[self.epoch] = {name: value.clone() for name, value in state.items()}
        return {"mine": self.scores[self.epoch - 1], "other": 10.0 - self.epoch}

    def train(self, output: Path, config: TrainingConfig, resume: bool = False) -> TrainingRecord:
        return train(
            self.model,
            toy_ids(),
            toy_dataset(),
            output,
            config,
            resume,
            progress=False,
            score=self.score,
        )

    def holds(self, epoch: int) -> bool:
        weights = self.model.state_dict()
        return all(torch.equal(weights[name], value) for name, value in self.weights[epoch].items())


# ---- the best epoch ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "best"),
    [((0.1, 0.7, 0.3, 0.2), 2), ((0.4, 0.4, 0.4, 0.4), 1), ((-3, -2, -9, -1), 4)],
)
def test_the_best_epoch_s_weights_are_left(
    scores: Sequence[float], best: int, tmp_path: Path
) -> None:
    watch = Watch(scores)
    record = watch.train(tmp_path, CONFIG)
    assert record == read_training_record(tmp_path)
    assert record["best_epoch"] == best
    assert [epoch for epoch in watch.weights if watch.holds(epoch)] == [best]
    assert not watch.model.training
    assert same_weights(NezhaModel.from_pretrained(tmp_path), watch.model)
    assert losses(tmp_path, "eval_mine") == losses(tmp_path, WATCHED) == list(scores)
    assert losses(tmp_path, "eval_other") == [9, 8, 7, 6]
    assert losses(tmp_path, "eval_loss") == []
    assert checkpoints(tmp_path) == sorted({4 * best, 16} | ({12} if best == 4 else set()))


def test_watching_leaves_the_training_itself_alone(
    finished: tuple[NezhaModel, Path], tmp_path: Path
) -> None:
    watch = Watch((1, 2, 3, 4))
    watch.train(tmp_path, CONFIG)
    assert same_weights(watch.model, finished[0])
    assert losses(tmp_path, "loss") == losses(finished[1], "loss")
    assert read_training_record(finished[1])["best_epoch"] is None


def test_figures_may_be_tensors(tmp_path: Path) -> None:
    watch = Watch([torch.tensor(0.5)])
    watch.train(tmp_path, replace(CONFIG, epochs=1))
    assert losses(tmp_path, "eval_mine") == [0.5]


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Watch().train(tmp_path, replace(CONFIG, epochs=2))
    assert capfd.readouterr().out == ""


# ---- patience ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patience", "epochs", "best"), [(1, 3, 2), (3, 5, 2), (4, 6, 6)])
def test_training_stops_when_the_score_no_longer_rises(
    patience: int, epochs: int, best: int, tmp_path: Path
) -> None:
    watch = Watch()
    record = watch.train(tmp_path, replace(SIX, patience=patience))
    assert losses(tmp_path, WATCHED) == list(SCORES[:epochs])
    assert len(losses(tmp_path, "loss")) == epochs
    assert record["best_epoch"] == best
    assert watch.holds(best)


@given(scores=st.lists(st.integers(0, 4), min_size=1, max_size=12), patience=st.integers(1, 5))
def test_patience_counts_epochs_without_a_better_score(scores: list[int], patience: int) -> None:
    best, stale = -math.inf, 0
    state = TrainerState(log_history=[{"loss": 9.0}])
    for score in scores:
        best, stale = (score, 0) if score > best else (best, stale + 1)
        state.log_history += [{WATCHED: score}, {"loss": 1.0}]
        assert out_of_patience(state, patience) == (stale >= patience)
        assert not out_of_patience(state, None)


def test_patience_without_a_score_has_nothing_to_wait_for(tmp_path: Path) -> None:
    config = replace(CONFIG, patience=1, epochs=3)
    run(tmp_path, config)
    assert len(losses(tmp_path, "loss")) == 3


# ---- resuming ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Watch, Path]:
    """Six epochs with a patience of 3, never interrupted; read only."""
    watch, folder = Watch(), tmp_path_factory.mktemp("watched") / "whole"
    with torch.random.fork_rng(devices=[]):
        watch.train(folder, replace(SIX, patience=3))
    return watch, folder


@pytest.mark.parametrize("stop_at", [1, 4, 5])
def test_an_interrupted_run_ends_where_it_would_have(
    stop_at: int, whole: tuple[Watch, Path], tmp_path: Path
) -> None:
    config = replace(SIX, patience=3)
    with pytest.raises(Interruption):
        Watch(stop_at=stop_at).train(tmp_path, config)
    again = Watch(first=stop_at)
    record = again.train(tmp_path, config, resume=True)
    assert record["resumed"] is (stop_at > 1)
    assert sorted(again.weights) == list(range(stop_at, 6))
    assert record["best_epoch"] == 2
    assert same_weights(again.model, whole[0].model)
    assert losses(tmp_path, WATCHED) == losses(whole[1], WATCHED)
    assert losses(tmp_path, "loss") == pytest.approx(losses(whole[1], "loss"), abs=1e-6)


def test_what_patience_ended_does_not_go_on_even_elsewhere(
    whole: tuple[Watch, Path], tmp_path: Path
) -> None:
    shutil.copytree(whole[1], tmp_path / "moved")
    # As if the original were gone: nothing may be read from there.
    state_file = tmp_path / "moved" / "checkpoints" / "checkpoint-10" / "trainer_state.json"
    state = json.loads(state_file.read_text())
    assert state["best_model_checkpoint"] == str(whole[1] / "checkpoints" / "checkpoint-4")
    state_file.write_text(json.dumps(state | {"best_model_checkpoint": "gone/checkpoint-4"}))
    before = checkpoints(tmp_path / "moved")
    again = Watch(first=6)
    record = again.train(tmp_path / "moved", replace(SIX, patience=3), resume=True)
    assert again.weights == {}
    assert record["best_epoch"] == 2
    assert same_weights(again.model, whole[0].model)
    assert checkpoints(tmp_path / "moved") == before


def test_more_patience_lets_a_stopped_run_go_on(whole: tuple[Watch, Path], tmp_path: Path) -> None:
    shutil.copytree(whole[1], tmp_path / "run")
    again = Watch(first=6)
    record = again.train(tmp_path / "run", replace(SIX, patience=4), resume=True)
    assert list(again.weights) == [6]
    assert record["best_epoch"] == 6
    assert again.holds(6)


def test_a_best_checkpoint_that_is_gone_is_missed(
    whole: tuple[Watch, Path], tmp_path: Path
) -> None:
    shutil.copytree(whole[1], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    with pytest.raises(ValueError, match=r"checkpoint-4, which held the best .* is missing"):
        Watch().train(tmp_path / "run", replace(SIX, patience=3), resume=True)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoints": False}, "checkpoints is False, but the best epoch"),
        ({"validate": True}, "validate is True, but a score is watched"),
    ],
)
def test_settings_that_do_not_go_with_a_score(
    change: dict[str, bool], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        Watch().train(tmp_path / "run", replace(CONFIG, **change))
    assert files(tmp_path) == set()


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_cannot_be_compared_is_refused(score: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"mine is {score}: no epoch can be the best"):
        Watch([score]).train(tmp_path, replace(CONFIG, epochs=1))


@pytest.mark.parametrize("patience", [0, -1])
def test_no_patience_at_all_is_refused(patience: int) -> None:
    with pytest.raises(ValueError, match=f"patience is {patience}, but must be at least 1"):
        TrainingConfig(patience=patience)
