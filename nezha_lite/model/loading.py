"""Trained models from disk: nothing in their files is run, and nothing is left to chance.

transformers starts anew, with a note in its log, what a file of weights lacks, and it looks for
code, attention kernels and other weights where a configuration tells it to. Here all that is
refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers.utils import logging

from nezha_lite.common.files import parse_json
from nezha_lite.common.progress import without_progress_bar
from nezha_lite.model.config import NezhaConfig
from nezha_lite.model.nezha_model import NezhaModel

MODEL_FILES = ("config.json", "model.safetensors")

# What makes transformers fetch or run something: a model of ours never has it.
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
        ValueError: naming the file that is damaged, does not fit the other one, or would have
            something fetched or run.
    """
    config_file, weights_file = (Path(folder) / name for name in MODEL_FILES)
    config = _read_config(config_file, n_tensors=_check_header(weights_file))
    _check_size(config_file, config, weights_file)
    with _quietly():
        # The stub knows nothing of output_loading_info, which brings a second value.
        answer: Any = NezhaModel.from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
            use_safetensors=True,
        )
    loaded: NezhaModel = answer[0]
    found: dict[str, Any] = answer[1]
    for name, shape, wanted in sorted(found["mismatched_keys"]):
        what = f"its tensor {name!r} has shape {tuple(shape)}, but {config_file.name} makes it"
        raise ValueError(f"{weights_file}: {what} {tuple(wanted)}; {_REMEDY}.")
    for name in sorted(found["missing_keys"]):
        raise ValueError(f"{weights_file}: it has no tensor {name!r}; {_REMEDY}.")
    for name in sorted(found["unexpected_keys"]):
        raise ValueError(f"{weights_file}: the model has no place for its {name!r}; {_REMEDY}.")
    for name, parameter in loaded.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"{weights_file}: {name!r} holds NaN or infinite weights; {_REMEDY}.")
    return loaded


def _check_header(path: Path) -> int:
    """How many tensors there are, all of them of floating point."""
    try:
        with safe_open(path, framework="pt") as file:
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, {_REMEDY}: {error}.") from error
    for name, kind in types.items():
        if kind not in ("F64", "F32", "F16", "BF16"):
            raise ValueError(f"{path}: its tensor {name!r} is {kind}, no weights; {_REMEDY}.")
    return len(types)


def _read_config(path: Path, n_tensors: int) -> NezhaConfig:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it must hold an object")
        if content.get("model_type") != NezhaConfig.model_type:
            found = content.get("model_type")
            raise ValueError(f"model_type is {found!r:.40}, but must be {NezhaConfig.model_type!r}")
        backbone = content.get("backbone")
        if not isinstance(backbone, dict):
            raise ValueError(f"backbone is {backbone!r:.40}, but must be an object")
        for place in (content, backbone):
            if foreign := sorted(set(place) & set(_FOREIGN)):
                raise ValueError(f"{foreign[0]} is {place[foreign[0]]!r:.40}, but is not allowed")
        if not isinstance(backbone.get("model_type"), str):
            found = backbone.get("model_type")
            raise ValueError(f"the backbone's model_type is {found!r:.40}, but must be a name")
        radices = content.get("radices")
        if not isinstance(radices, list) or not radices:
            raise ValueError(f"radices is {radices!r:.40}, but must be a list of codes per level")
        # Checked before so many levels or layers are made: each has a tensor of its own.
        for name, number in [("radices", len(radices)), *((n, backbone.get(n)) for n in _LAYERS)]:
            if isinstance(number, int) and number > n_tensors:
                weights = f"{MODEL_FILES[1]} has {n_tensors} tensors"
                raise ValueError(f"{name} asks for {number:,} parts, but {weights}")
        config: NezhaConfig = NezhaConfig.from_dict(content)
    except Exception as error:  # transformers has several for a setting that makes no sense
        raise ValueError(f"{path} is damaged, {_REMEDY}: {_line(error)}.") from error
    return config


def _check_size(path: Path, config: NezhaConfig, weights: Path) -> None:
    """Try the configuration on a device without memory: it may ask for more than there is."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tensors without elements: their shape is wrong below
            sizes = [parameter.numel() for parameter in NezhaModel(config).parameters()]
        if 0 in sizes:
            raise ValueError("a layer has no weights")
    except Exception as error:  # whatever transformers raises at settings that make no sense
        raise ValueError(f"{path} describes no model, {_REMEDY}: {_line(error)}.") from error
    held = weights.stat().st_size
    if sum(sizes) > held:
        what = f"{path} describes {sum(sizes):,} weights, but {weights.name} has {held:,} bytes"
        raise ValueError(f"{what}; {_REMEDY}.")


def _line(error: Exception, limit: int = 200) -> str:
    """What a library says, on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".") if len(text) <= limit else f"{text[:limit]} […]"


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' bar and its report on what did not fit, which is raised here."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with without_progress_bar():
            yield
    finally:
        logging.set_verbosity(level)
