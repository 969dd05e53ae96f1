"""`nezha-lite train --backbone FOLDER --recipe paper`: a pretrained language model, made here."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from nezha_lite.decoding.recommender import Recommender
from nezha_lite.training import read_training_record
from tests.helpers.builders import backbone_config
from tests.helpers.shops import Run

SHAPE = ["--levels", "2", "--codes", "4", "--max-items", "6", "--batch-rows", "8"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the hub has them: a Qwen3 with a vocabulary of 23 words."""
    folder = tmp_path_factory.mktemp("hub") / "qwen3"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(backbone_config("qwen3", 23)).save_pretrained(folder)
    return folder


def test_the_papers_recipe_trains_a_pretrained_backbone(
    pretrained: Path, shop: Path, tmp_path: Path, cli: Run
) -> None:
    run = tmp_path / "run"
    options = ["--backbone", pretrained, "--recipe", "paper", "--epochs", "1", *SHAPE]
    answer = cli("train", shop, run, *options)
    assert answer.status == 0, answer.err
    record = read_training_record(run)["config"]
    rates = {"learning_rate": 1e-5, "embedding_lr": 100.0, "transition_lr": 10.0}
    assert {**rates, "window_stride": 1, "epochs": 1}.items() <= record.items()
    config = json.loads((run / "config.json").read_text())
    assert {"token_offset": 23, "next_code_weight": 0.0, "dropout": 0.0}.items() <= config.items()
    trained = Recommender.load(run)
    before = AutoModelForCausalLM.from_pretrained(pretrained).get_input_embeddings().weight
    words = trained.model.backbone.get_input_embeddings().weight[:23]
    assert torch.allclose(words, before, atol=1e-3)  # one epoch at a small rate moved them little
    assert len(trained.recommend([[0, 1]], k=3)[0]) == 3


def test_an_option_overrides_the_recipe(
    pretrained: Path, shop: Path, tmp_path: Path, cli: Run
) -> None:
    options = ["--recipe", "paper", "--learning-rate", "0.01", "--next-code-weight", "0.5"]
    more = ["--label-smoothing", "0.1", "--epochs", "1", "--no-checkpoints", *SHAPE]
    assert (
        cli("train", shop, tmp_path / "run", "--backbone", pretrained, *options, *more).status == 0
    )
    record = read_training_record(tmp_path / "run")["config"]
    assert {"learning_rate": 0.01, "embedding_lr": 100.0}.items() <= record.items()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"next_code_weight": 0.5, "label_smoothing": 0.1}.items() <= config.items()


def test_a_missing_backbone_is_one_sentence(shop: Path, tmp_path: Path, cli: Run) -> None:
    answer = cli("train", shop, tmp_path / "run", "--backbone", tmp_path / "absent", *SHAPE)
    assert answer.status == 2
    assert "absent" in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "run").exists()


def test_untied_is_refused_with_a_backbone_that_decides_it(tmp_path: Path, cli: Run) -> None:
    answer = cli("train", "sample", tmp_path / "run", "--backbone", "gpt2", "--untied")
    assert answer.status == 2
    assert "--untied is for a --preset, but --backbone is 'gpt2'" in answer.err
    assert not (tmp_path / "run").exists()
