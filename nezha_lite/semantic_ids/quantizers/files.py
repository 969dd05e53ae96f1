"""Quantizers on disk: one safetensors file, its metadata naming the kind and the config."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from operator import contains
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors_bytes
from torch import Tensor

from nezha_lite.common.files import atomic_write, parse_json
from nezha_lite.semantic_ids.quantizers.base import QuantizerConfig


def write_quantizer(
    path: str | Path, kind: str, config: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Write `tensors` with `kind` and `config` as metadata; `path` is replaced in one step."""
    metadata = {"quantizer": kind, "config": json.dumps(config, sort_keys=True)}
    content = to_safetensors_bytes({k: v.contiguous() for k, v in tensors.items()}, metadata)
    atomic_write(path, content)


def read_quantizer(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config fields and tensors of a file of `kind`. FileNotFoundError, or ValueError."""
    metadata, tensors = _read(path)
    found = metadata.get("quantizer")
    if found != kind:
        raise ValueError(f"{path} holds a quantizer of kind {found!r}: {kind!r} is needed")
    with damage_named(path):
        fields = parse_json(metadata["config"])
        # JSON has no tuples, the configs have no lists.
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return fields, tensors


@contextmanager
def damage_named(path: str | Path) -> Iterator[None]:
    """What goes wrong while a quantizer is put together from a file, as a ValueError naming it."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())  # PyTorch's have many lines
        raise ValueError(f"{path} is damaged, save the quantizer again: {what:.200}") from error


def codebooks_of(config: QuantizerConfig, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The codebooks of all levels; ValueError if one is not (1 to C_l, the width of all)."""
    books = tuple(tensors[f"codebook.{level}"] for level in range(config.levels))
    if f"codebook.{config.levels}" in tensors:
        raise ValueError(f"there are more codebooks than {config.levels} levels")
    for level, (book, radix) in enumerate(zip(books, config.radices, strict=True)):
        check_shape(f"codebook.{level}", book, range(1, radix + 1), books[0].shape[-1])
    return books


def check_shape(name: str, tensor: Tensor, *shape: int | range) -> None:
    """ValueError unless it is of floating point and has this shape, or one in these ranges."""
    sizes = [size if isinstance(size, range) else range(size, size + 1) for size in shape]
    fits = tensor.ndim == len(sizes) and all(map(contains, sizes, tensor.shape))
    if not fits or not tensor.is_floating_point() or not tensor.numel():
        found = f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}"
        wanted = ", ".join(f"{size[0]}" if len(size) == 1 else f"1..{size[-1]}" for size in sizes)
        raise ValueError(f"{found}, but must be floating point of shape ({wanted})")


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
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(
                f"{path} is damaged, save the quantizer again: {name} holds NaN or infinite numbers"
            )
    return metadata, tensors
