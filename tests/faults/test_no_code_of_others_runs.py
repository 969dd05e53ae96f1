"""Pretrained models, archives and checkpoints run no code that lies in them either."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids.vectors.encoder import encoder_vectors
from tests.faults.payloads import CODE, MARK, module, saved_by_torch
from tests.faults.promises import Fault, each
from tests.helpers.builders import backbone_config
from tests.helpers.runs import CONFIG, run
from tests.helpers.shops import SMALL, Run
from tests.helpers.tiny_encoder import save_bert
from tests.helpers.toys import toy_dataset, toy_ids

pytestmark = pytest.mark.fault_class("loading: code in files")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What code would make if it ran."""
    return tmp_path / MARK


# ---- pretrained models of others -----------------------------------------------------------------


def backbone(folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        AutoModelForCausalLM.from_config(backbone_config("qwen3", 23)).save_pretrained(folder)
    return folder


def as_pickle(folder: Path) -> None:
    """Sound weights, but as `torch.save` writes them: there is no telling before they are read."""
    weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def as_evil_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(saved_by_torch(folder.parent / MARK))


def with_module(model_type: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        content |= {"auto_map": CODE, "model_type": model_type}
        (folder / "config.json").write_text(json.dumps(content))
        (folder / "evil.py").write_text(module(folder.parent / MARK))

    return make


@each(
    [
        Fault("weights as a pickle", as_pickle, ("safetensors",)),
        Fault("weights as an evil pickle", as_evil_pickle, ("safetensors",)),
        Fault("a module of its own", with_module("evil"), ("code",)),
    ]
)
def test_a_pretrained_backbone_runs_nothing(
    fault: Fault, tmp_path: Path, mark: Path, shop: Path, cli: Run
) -> None:
    folder = backbone(tmp_path / "hub")
    fault.make(folder)
    answer = cli("train", shop, tmp_path / "run", "--backbone", folder, *SMALL)
    assert not mark.exists()
    assert not (tmp_path / "run").exists()
    assert answer.status == 2
    (line,) = answer.err.splitlines()
    for words in (str(folder), *fault.says):
        assert words in line


def test_a_known_backbone_is_used_without_the_module_beside_it(tmp_path: Path, mark: Path) -> None:
    folder = backbone(tmp_path / "hub")
    with_module("qwen3")(folder)
    NezhaModel.from_backbone(folder, toy_ids())
    assert not mark.exists()


@each(
    [
        Fault("weights as an evil pickle", as_evil_pickle, ("hub", "safetensors")),
        Fault("a module of its own", with_module("evil"), ("hub", "code")),
    ]
)
def test_a_text_encoder_runs_nothing(fault: Fault, tmp_path: Path, mark: Path) -> None:
    save_bert(tmp_path / "hub")
    fault.make(tmp_path / "hub")
    with pytest.raises(ValueError, match="cannot be loaded") as caught:
        encoder_vectors(["red oil"], tmp_path / "hub", progress=False)
    assert not mark.exists()
    assert str(caught.value).isprintable()
    for words in fault.says:
        assert words in str(caught.value)


# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints, made once."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with torch.random.fork_rng(devices=[]):
        run(folder, CONFIG)
    return folder


@pytest.mark.parametrize(
    "name",
    ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "pytorch_model.bin"],
)
def test_a_checkpoint_runs_nothing(
    name: str, tmp_path: Path, mark: Path, stopped: Path, random_state: None
) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        (checkpoint / name).write_bytes(saved_by_torch(mark))
    used = name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    if used:
        with pytest.raises(ValueError, match=name) as caught:
            run(tmp_path / "run", CONFIG, resume=True)
        assert str(caught.value).isprintable()
    else:
        run(tmp_path / "run", CONFIG, resume=True)
    assert not mark.exists()


def test_an_archive_of_many_zeros_is_not_unpacked(tmp_path: Path) -> None:
    """A zip archive in place of a data set's file is refused by its first bytes."""
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("shop.inter.json", bytes(2**26))
    shop = tmp_path / "shop"
    shop.mkdir()
    os.replace(tmp_path / "bomb", shop / "shop.inter.json")
    from nezha_lite.datasets import load_folder

    with pytest.raises(ValueError, match=r"shop\.inter\.json must be a JSON object"):
        load_folder(shop)
    assert toy_dataset().n_items == 20
