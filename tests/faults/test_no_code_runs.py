"""Reading what the package wrote itself runs no code that lies in it: no pickle, no module."""

import io
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nezha_lite.common.results import read_results
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.evaluation.run_folders import load_lists
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quantizers import load_quantizer
from nezha_lite.semantic_ids.vectors.item_vectors import ItemVectorizer
from tests.faults.payloads import CODE, MARK, module, pickled, saved_by_torch
from tests.faults.promises import Fault, each
from tests.faults.test_model_folders import model_folder

pytestmark = pytest.mark.fault_class("loading: code in files")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What code would make if it ran."""
    return tmp_path / MARK


def test_the_payloads_would_do_what_they_say(tmp_path: Path) -> None:
    for number, make in enumerate((pickled, saved_by_torch)):
        mark = tmp_path / f"{number}"
        content = io.BytesIO(make(mark))
        if number == 0:
            pickle.load(content)  # noqa: S301
        else:
            torch.load(content, weights_only=False)
        assert mark.is_dir()


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "semantic IDs": ("ids.safetensors", SemanticIds.load),
    "semantic IDs in JSON": ("ids.json", SemanticIds.load),
    "item vectors": ("vectors.safetensors", lambda path: ItemVectorizer.load(path.parent)),
    "a quantizer": ("quantizer.safetensors", load_quantizer),
    "lists": ("lists.safetensors", load_lists),
    "figures": ("figures.json", read_results),
}


@pytest.mark.parametrize("make", [pickled, saved_by_torch])
@pytest.mark.parametrize("name", READERS)
def test_a_pickle_in_place_of_a_file_is_refused(
    name: str, make: Callable[[Path], bytes], tmp_path: Path, mark: Path
) -> None:
    file, read = READERS[name]
    (tmp_path / file).write_bytes(make(mark))
    with pytest.raises(ValueError, match=file):
        read(tmp_path / file)
    assert not mark.exists()


def without_weights(folder: Path) -> Path:
    (model_folder(folder) / "model.safetensors").unlink()
    return folder


def config_with(folder: Path, name: str, value: object, inner: bool = False) -> None:
    path = model_folder(folder) / "config.json"
    content = json.loads(path.read_text())
    (content["backbone"] if inner else content)[name] = value
    path.write_text(json.dumps(content))


def pickled_weights(folder: Path) -> None:
    without_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(saved_by_torch(folder / MARK))


def pickled_under_its_name(folder: Path) -> None:
    without_weights(folder)
    (folder / "model.safetensors").write_bytes(saved_by_torch(folder / MARK))


def config_names_pickled_weights(folder: Path) -> None:
    config_with(folder, "transformers_weights", "pytorch_model.bin")
    (folder / "pytorch_model.bin").write_bytes(saved_by_torch(folder / MARK))


def config_names_an_adapter(folder: Path) -> None:
    config_with(folder, "transformers_weights", "adapter_model.bin")
    (folder / "adapter_model.bin").write_bytes(saved_by_torch(folder / MARK))


def config_names_a_module(inner: bool) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        config_with(folder, "auto_map", CODE, inner)
        (folder / "evil.py").write_text(module(folder / MARK))

    return make


def config_names_a_kernel(inner: bool) -> Callable[[Path], None]:
    return lambda folder: config_with(folder, "_attn_implementation", "evil/kernel", inner)


@each(
    [
        Fault("pickled weights alone", pickled_weights, ("has no model.safetensors",)),
        Fault("a pickle named model.safetensors", pickled_under_its_name, ("model.safetensors",)),
        Fault("config names pickled weights", config_names_pickled_weights, ("absent",)),
        Fault("config names an adapter", config_names_an_adapter, ("absent",)),
        Fault("config names a module", config_names_a_module(False), ("auto_map", "absent")),
        Fault("backbone names a module", config_names_a_module(True), ("auto_map", "absent")),
        Fault("config names a kernel", config_names_a_kernel(False), ("_attn_impl", "absent")),
        Fault("backbone names a kernel", config_names_a_kernel(True), ("_attn_impl",)),
    ]
)
def test_a_models_folder_runs_nothing(fault: Fault, tmp_path: Path, mark: Path) -> None:
    fault.make(tmp_path)
    with pytest.raises((ValueError, OSError)) as caught:
        Recommender.load(tmp_path)
    assert not mark.exists()
    for words in fault.says:
        assert words in str(caught.value)


def test_a_module_beside_a_good_model_is_not_imported(tmp_path: Path, mark: Path) -> None:
    model_folder(tmp_path)
    for name in ("evil.py", "modeling_nezha_lite.py", "nezha_lite.py", "sitecustomize.py"):
        (tmp_path / name).write_text(module(mark))
    (tmp_path / "pytorch_model.bin").write_bytes(saved_by_torch(mark))
    (tmp_path / "training_args.bin").write_bytes(pickled(mark))
    Recommender.load(tmp_path)
    assert not mark.exists()
    assert not {"evil", "modeling_nezha_lite"} & sys.modules.keys()
