"""Quantizers on disk: one safetensors file, its metadata naming the kind and the config."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors_bytes
from torch import Tensor

from nezha_lite.whole_files import write_whole


def write_quantizer(
    path: str | Path, kind: str, config: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Write `tensors` with `kind` and `config` as metadata; `path` is replaced in one step."""
    metadata = {"quantizer": kind, "config": json.dumps(config, sort_keys=True)}
    content = to_safetensors_bytes({k: v.contiguous() for k, v in tensors.items()}, metadata)
    write_whole(path, content)


def read_quantizer(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config fields and tensors of a file of `kind`. FileNotFoundError, or ValueError."""
    metadata, tensors = _read(path)
    found = metadata.get("quantizer")
    if found != kind:
        raise ValueError(f"{path} holds a quantizer of kind {found!r}: {kind!r} is needed")
    with damage_named(path):
        fields = json.loads(metadata["config"])
        # JSON has no tuples, the configs have no lists.
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return fields, tensors


@contextmanager
def damage_named(path: str | Path) -> Iterator[None]:
    """What goes wrong while a quantizer is put together from a file, as a ValueError naming it."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged, save the quantizer again: {error!r}") from error


def kind_of(path: str | Path) -> str | None:
    """The kind of quantizer in a file; None in a safetensors file that names none."""
    return _read(path)[0].get("quantizer")


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no quantizer file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    return metadata, tensors
