"""Folders of trained models that are damaged, or say what cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nezha_lite.decoding.recommender import Recommender
from nezha_lite.semantic_ids import SemanticIds
from tests.faults.data_folders import loop, nowhere
from tests.faults.promises import Fault, each, refused, refused_by_command
from tests.faults.stored_files import DAMAGE, changed
from tests.helpers.shops import Run
from tests.helpers.toys import toy_ids, toy_model

pytestmark = pytest.mark.fault_class("loading: folders of models")

CONFIG, WEIGHTS = "config.json", "model.safetensors"
EMBEDDINGS = "backbone.model.embed_tokens.weight"
CLASSIFIER = "head.classifiers.1.weight"


def model_folder(folder: Path) -> Path:
    model = toy_model()
    model.save_pretrained(folder)
    # A data set read from a folder has its items in alphabetical order.
    ids = SemanticIds.from_codes(toy_ids().codes, toy_ids().radices, sorted(toy_ids().items))
    ids.save(folder / "semantic_ids.safetensors")
    (folder / "training.json").write_text('{"config": {"seed": 0, "epochs": 2}}')
    return folder


def weights(damage: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        damage(model_folder(folder) / WEIGHTS)
        return folder

    return make


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], Path]:
    return weights(lambda path: changed(path, lambda tensors, _: change(tensors)))


def config(text: str | bytes) -> Callable[[Path], Path]:
    """The whole of config.json."""

    def make(folder: Path) -> Path:
        raw = text.encode() if isinstance(text, str) else text
        (model_folder(folder) / CONFIG).write_bytes(raw)
        return folder

    return make


def setting(**fields: Any) -> Callable[[Path], Path]:
    """config.json with other fields; `backbone__x` is the backbone's x, and ... takes it away."""

    def make(folder: Path) -> Path:
        path = model_folder(folder) / CONFIG
        content = json.loads(path.read_text())
        for name, value in fields.items():
            *outer, inner = name.split("__")
            place = content[outer[0]] if outer else content
            if value is ...:
                del place[inner]
            else:
                place[inner] = value
        path.write_text(json.dumps(content))
        return folder

    return make


def in_place_of(name: str, put: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = model_folder(folder) / name
        path.unlink()
        put(path)
        return folder

    return make


def poked(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    def put(found: dict[str, torch.Tensor]) -> None:
        found[name].view(-1)[3] = value

    return put


def resized(name: str, *shape: int) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda found: found.update({name: torch.zeros(shape)})


FAULTS = [
    *(Fault(f"weights: {n}", weights(d), (WEIGHTS,)) for n, d in DAMAGE.items()),
    *(
        Fault(f"{file}: {name}", in_place_of(file, put), (file, "nezha-lite train"))
        for file in (CONFIG, WEIGHTS, "semantic_ids.safetensors")
        for name, put in (
            ("missing", lambda path: None),
            ("a folder", Path.mkdir),
            ("a link to nothing", nowhere),
            ("a link to itself", loop),
        )
    ),
    Fault("a tensor missing", tensors(lambda t: t.pop(CLASSIFIER)), (WEIGHTS, CLASSIFIER)),
    Fault("a tensor of no use", tensors(resized("extra", 3)), (WEIGHTS, "'extra'")),
    Fault("a tensor renamed", tensors(lambda t: t.update(x=t.pop(CLASSIFIER))), (WEIGHTS,)),
    Fault("a vocabulary of other size", tensors(resized(EMBEDDINGS, 9, 16)), (WEIGHTS, "(9, 16)")),
    Fault("a head of other width", tensors(resized(CLASSIFIER, 5, 17)), (WEIGHTS, "(5, 17)")),
    Fault("a tensor without shape", tensors(resized(CLASSIFIER)), (WEIGHTS, CLASSIFIER)),
    Fault("integers", tensors(lambda t: t.update({CLASSIFIER: t[CLASSIFIER].int()})), (WEIGHTS,)),
    Fault("NaN", tensors(poked(CLASSIFIER, float("nan"))), (WEIGHTS, CLASSIFIER, "NaN")),
    Fault("infinite", tensors(poked(EMBEDDINGS, float("inf"))), (WEIGHTS, EMBEDDINGS, "infinite")),
    *(
        Fault(f"config: {name}", config(text), (CONFIG, *says))
        for name, text, says in (
            ("empty", "", ("line 1 column 1",)),
            ("cut", '{"model_type": "nezha_lite", ', ("line 1",)),
            ("a list", "[]", ("an object",)),
            ("null", "null", ("an object",)),
            ("a text", '"qwen3"', ("an object",)),
            ("no settings", "{}", ("model_type",)),
            ("NUL bytes", bytes(100), ("line 1 column 1",)),
            ("UTF-16", "{}".encode("utf-16"), ("0xff",)),
            ("nested deep", "[" * 99_999, ("too deeply",)),
            ("a key twice", '{"radices": [2], "radices": [2, 3]}', ("'radices' occurs 2 times",)),
        )
    ),
    *(
        Fault(f"config: {name}", setting(**fields), (CONFIG, *says))
        for name, fields, says in (
            ("another model's", {"model_type": "bert"}, ("model_type", "'bert'", "'nezha_lite'")),
            ("no radices", {"radices": ...}, ("radices",)),
            ("radices null", {"radices": None}, ("radices",)),
            ("radices a number", {"radices": 5}, ("radices", "5")),
            ("radices of text", {"radices": ["2", "5", "4"]}, ("radices", "'2'")),
            ("a radix of 0", {"radices": [2, 0, 4]}, ("radices", "0")),
            ("a negative radix", {"radices": [2, -5, 4]}, ("radices", "-5")),
            ("a radix with a fraction", {"radices": [2, 5.5, 4]}, ("radices", "5.5")),
            ("a radix of a billion", {"radices": [2, 10**9, 4]}, ("1000000011",)),
            ("a radix beyond 64 bits", {"radices": [2, 2**70, 4]}, ("radices",)),
            ("a million levels", {"radices": [2] * 10**6}, ("radices",)),
            ("a level more", {"radices": [2, 5, 4, 2]}, ("vocab_size is 16", "19 tokens")),
            ("no backbone", {"backbone": ...}, ("backbone",)),
            ("backbone a text", {"backbone": "qwen3"}, ("backbone", "'qwen3'")),
            ("backbone a list", {"backbone": []}, ("backbone",)),
            ("backbone without type", {"backbone__model_type": ...}, ("backbone", "model_type")),
            (
                "a type unknown",
                {"backbone__model_type": "nonsense"},
                ("model identifier: nonsense",),
            ),
            ("a type that is null", {"backbone__model_type": None}, ("model_type",)),
            ("no causal model", {"backbone__model_type": "vit"}, ("vit",)),
            ("a width of text", {"backbone__hidden_size": "16"}, ("hidden_size",)),
            ("a width of 0", {"backbone__hidden_size": 0}, ()),
            ("a negative width", {"backbone__hidden_size": -16}, ()),
            ("a width of a billion", {"backbone__hidden_size": 10**9}, (WEIGHTS,)),
            ("a width beyond 64 bits", {"backbone__hidden_size": 2**70}, ()),
            ("a width that is NaN", {"backbone__hidden_size": float("nan")}, ()),
            ("a width that is null", {"backbone__hidden_size": None}, ()),
            ("no heads", {"backbone__num_attention_heads": 0}, ()),
            ("a billion layers", {"backbone__num_hidden_layers": 10**9}, ()),
            ("no layers", {"backbone__num_hidden_layers": 0}, ("(0)",)),
            ("another vocabulary", {"backbone__vocab_size": 7}, ("vocab_size is 7", "16 tokens")),
            ("an unknown activation", {"backbone__hidden_act": "magic"}, ("magic",)),
            ("layers of no known type", {"backbone__layer_types": ["magic"]}, ("layer_types",)),
            ("an offset of text", {"token_offset": "0"}, ("token_offset", "'0'")),
            ("a negative offset", {"token_offset": -5}, ("token_offset", "-5")),
            ("an offset beyond the tokens", {"token_offset": 10**6}, ("token_offset",)),
            ("histories of no item", {"max_items": 0}, ("max_items is 0",)),
            ("histories of text", {"max_items": "6"}, ("max_items", "'6'")),
            ("dropout of 2", {"dropout": 2}, ("dropout is 2",)),
            ("dropout that is NaN", {"dropout": float("nan")}, ("dropout is nan",)),
            ("dropout that is text", {"dropout": "0.1"}, ("dropout",)),
            ("an unknown transition", {"transition": "lstm"}, ("transition is 'lstm'",)),
            ("another transition", {"transition": "gru"}, (WEIGHTS,)),
            ("placeholders of text", {"placeholders": "no"}, ("placeholders", "'no'")),
            ("no weight at all", {"draft_weight": 0, "next_code_weight": 0}, ("draft_weight",)),
            ("an unknown quantization", {"quantization_config": {"quant_method": "x"}}, ()),
            ("numbers of no known kind", {"dtype": "float3"}, ("float3",)),
            ("names that are a number", {"id2label": 5}, ()),
            ("attention from a hub", {"attn_implementation": "some/kernel"}, ("attn_",)),
        )
    ),
]


@each(FAULTS)
def test_bad_model_folders_are_refused(fault: Fault, tmp_path: Path, shop: Path, cli: Run) -> None:
    fault.make(tmp_path)
    refused(lambda: Recommender.load(tmp_path), fault.says, tmp_path)
    command = ("recommend", tmp_path, shop, "--user", "u0")
    refused_by_command(cli, command, fault.says, tmp_path)


@each(
    [
        Fault(
            name,
            lambda folder, text=text: (model_folder(folder) / "training.json").write_text(text),
            ("training.json", "train again"),
        )
        for name, text in (
            ("cut", '{"config": '),
            ("a list", "[]"),
            ("null", "null"),
            ("nested deep", "[" * 99_999),
            ("no config", '{"seconds": 1}'),
            ("config a list", '{"config": []}'),
            ("no seed", '{"config": {"epochs": 1}}'),
            ("epochs of text", '{"config": {"epochs": "many", "seed": 0}}'),
        )
    ]
)
def test_bad_training_records_are_refused(
    fault: Fault, tmp_path: Path, shop: Path, cli: Run
) -> None:
    fault.make(tmp_path)
    refused_by_command(cli, ("evaluate", tmp_path, shop), fault.says, tmp_path)
    refused_by_command(cli, ("hallucination", tmp_path, shop), fault.says, tmp_path)
