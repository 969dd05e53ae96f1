"""What all quantizers share: their config, and one safetensors file each on disk."""

import json
from dataclasses import asdict
from operator import contains
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from safetensors import SafetensorError
from torch import Tensor

from nezha_lite.common.files import damage_named, parse_json, read_tensors, write_tensors
from nezha_lite.semantic_ids.quantizers.base import QuantizerConfig

_DAMAGED = "is damaged, save the quantizer again"
ConfigT = TypeVar("ConfigT", bound=QuantizerConfig)


class StoredQuantizer(Generic[ConfigT]):
    """A quantizer with a config, saved as tensors with `kind` and config in the file's metadata."""

    kind: ClassVar[str]
    config_class: ClassVar[type[QuantizerConfig]]

    def __init__(self, config: ConfigT | None = None) -> None:
        self.config: ConfigT = config or cast(ConfigT, self.config_class())

    @property
    def radices(self) -> tuple[int, ...]:
        """Codes per level as configured, (C_1, ..., C_L)."""
        return self.config.radices

    def state(self) -> dict[str, Tensor]:
        """What was fitted, by name. RuntimeError before `fit`."""
        raise NotImplementedError

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state` gave. LookupError, ValueError or RuntimeError if it is damaged."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write what was fitted and the config to one safetensors file; `path` is replaced whole.

        Raises RuntimeError before `fit`.
        """
        config = json.dumps(asdict(self.config), sort_keys=True)
        write_tensors(path, self.state(), {"quantizer": self.kind, "config": config})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. FileNotFoundError; ValueError if it is no file of this kind."""
        metadata, tensors = _read(path)
        if metadata.get("quantizer") != cls.kind:
            raise ValueError(
                f"{path} holds a quantizer of kind {metadata.get('quantizer')!r}: "
                f"{cls.kind!r} is needed"
            )
        with damage_named(path, _DAMAGED):
            fields: dict[str, Any] = parse_json(metadata["config"])
            # JSON has no tuples, the configs have no lists.
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            quantizer = cls(cast(ConfigT, cls.config_class(**fields)))
            quantizer.restore(tensors)
        return quantizer


def kind_of(path: str | Path) -> str | None:
    """The kind of quantizer in a file; None in a safetensors file that names none."""
    return _read(path)[0].get("quantizer")


def named_codebooks(books: tuple[Tensor, ...], name: str = "codebook") -> dict[str, Tensor]:
    """One tensor per level under the names of a file."""
    return {f"{name}.{level}": book for level, book in enumerate(books)}


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
        expected = ", ".join(f"{size[0]}" if len(size) == 1 else f"1..{size[-1]}" for size in sizes)
        raise ValueError(
            f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, but must be floating point "
            f"of shape ({expected})"
        )


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        tensors, metadata = read_tensors(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path} {_DAMAGED}: {name} holds NaN or infinite numbers")
    return metadata, tensors
