"""Trained models from disk: no code in their files is run, and every weight is accounted for.

transformers initializes anew, with a note in its log, the weights that a file lacks, and it loads
code, attention kernels and other weights from where a configuration points to. All of that is an
error here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers.utils import logging

from nezha_lite.common.checks import check
from nezha_lite.common.files import damage_named, parse_json
from nezha_lite.common.progress import without_progress_bar
from nezha_lite.model.config import NezhaConfig
from nezha_lite.model.nezha_model import NezhaModel

MODEL_FILES = ("config.json", "model.safetensors")

# Settings that make transformers download or run something; a model of ours never has them.
_FOREIGN = (
    "auto_map",
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "quantization_config",
    "transformers_weights",
)
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_REMEDY = "copy the folder again, or train again"


def load_model(folder: str | Path) -> NezhaModel:
    """The model in a folder that has MODEL_FILES, on the CPU, in evaluation mode.

    Raises:
        ValueError: naming the file that is damaged, does not fit the other one, or would make
            transformers download or run something.
    """
    config_file, weights_file = (Path(folder) / name for name in MODEL_FILES)
    with damage_named(weights_file, f"is damaged, {_REMEDY}"):
        n_tensors = _count_weights(weights_file)
    with damage_named(config_file, f"is damaged, {_REMEDY}"):
        config = _read_config(config_file, n_tensors)
        _check_size(config, weights_file)
    with _quiet_transformers():
        # The stub does not know output_loading_info, which returns a second value.
        loaded: Any = NezhaModel.from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named below
            use_safetensors=True,
        )
    model: NezhaModel = loaded[0]
    with damage_named(weights_file, f"does not fit {config_file.name}, {_REMEDY}"):
        _check_weights(model, loaded[1])
    with damage_named(config_file, "cannot be used"):
        model.check_causal()
    return model


def _count_weights(path: Path) -> int:
    """How many tensors there are; ValueError unless weights are of floating point, IDs whole."""
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            dtype = file.get_slice(name).get_dtype()
            valid = ("I64",) if name.endswith(".numbers") else ("F64", "F32", "F16", "BF16")
            check(dtype in valid, f"type of {name!r}", dtype, f"one of {valid}")
        return len(file.keys())


def _read_config(path: Path, n_tensors: int) -> NezhaConfig:
    content = parse_json(path.read_text(encoding="utf-8"))
    check(isinstance(content, dict), "its content", content, "an object")
    kind, backbone = content.get("model_type"), content.get("backbone")
    check(kind == NezhaConfig.model_type, "model_type", kind, repr(NezhaConfig.model_type))
    check(isinstance(backbone, dict), "backbone", backbone, "an object")
    for name in _FOREIGN:
        for fields in (content, backbone):
            check(name not in fields, name, fields.get(name), "absent")
    kind, radices = backbone.get("model_type"), content.get("radices")
    check(isinstance(kind, str), "the backbone's model_type", kind, "a name")
    check(isinstance(radices, list) and radices != [], "radices", radices, "codes per level")
    # Before anything is built: each level and layer has tensors of its own.
    for name, number in [("radices", len(radices)), *((n, backbone.get(n)) for n in _LAYERS)]:
        if isinstance(number, int) and number > n_tensors:
            raise ValueError(
                f"{name} asks for {number:,} parts, but {MODEL_FILES[1]} has {n_tensors} tensors"
            )
    config: NezhaConfig = NezhaConfig.from_dict(content)
    return config


def _check_size(config: NezhaConfig, weights: Path) -> None:
    """Build the model on a device without memory, because it may need more than there is."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensors without elements, which are refused here
        sizes = [parameter.numel() for parameter in NezhaModel(config).parameters()]
    if 0 in sizes:
        raise ValueError("a layer has no weights")
    n_bytes = weights.stat().st_size
    if sum(sizes) > n_bytes:
        raise ValueError(f"it has {sum(sizes):,} weights, but {weights.name} {n_bytes:,} bytes")


def _check_weights(model: NezhaModel, report: dict[str, Any]) -> None:
    """ValueError unless each tensor of the file became one of the model's, and is finite."""
    for name, shape, expected in sorted(report["mismatched_keys"]):
        check(False, f"shape of {name!r}", tuple(shape), f"{tuple(expected)}")
    for lacking, names in (("it", "missing_keys"), ("the model", "unexpected_keys")):
        for name in sorted(report[names]):
            raise ValueError(f"{lacking} has no tensor {name!r}")
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"{name!r} holds NaN or infinite weights")
    for embedding in model.prefix_embeddings:
        ascending = bool((embedding.numbers.diff(prepend=torch.tensor([-1])) > 0).all())
        check(ascending, f"the IDs of level {embedding.level}", "unsorted", "distinct, ascending")
        first = float(embedding.vectors.weight[0].detach().abs().max())
        check(first == 0, f"row 0 of the vectors of level {embedding.level}", first, "0")


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without transformers' bar and its report on weights that do not fit, which is raised here."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with without_progress_bar():
            yield
    finally:
        logging.set_verbosity(level)
