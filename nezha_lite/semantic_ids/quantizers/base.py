"""What every quantizer does: its interface, its config, its checks and its file."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import contains
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from nezha_lite.common.checks import Checked, Count, CountOrZero, check
from nezha_lite.common.files import damage_named, parse_json, read_tensors, write_tensors
from nezha_lite.semantic_ids.files import without_lists

Vectors = Tensor | NDArray[Any] | Sequence[Sequence[float]]
_DAMAGED = "is damaged, save the quantizer again"
_MAX_LEVELS = 64  # checked before `radices` is built: a damaged file may ask for a billion levels


@dataclass(frozen=True)
class QuantizerConfig(Checked):
    """The settings that all quantizers have.

    Attributes:
        levels: L, at most 64.
        codes: codes per level, one number for all levels or one per level. A level of 1 code is
            allowed and tells no items apart.
        seed: of everything random.

    Raises:
        ValueError: naming the field that is out of range.
    """

    levels: Count = 3
    codes: int | tuple[int, ...] = 64
    seed: CountOrZero = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.levels <= _MAX_LEVELS, "levels", self.levels, f"at most {_MAX_LEVELS}")
        check(self.seed < 2**32, "seed", self.seed, "below 2**32")
        shape = f"one number, or one per level ({self.levels})"
        check(len(self.radices) == self.levels, "codes", self.codes, shape)
        for radix in self.radices:
            whole = type(radix) is int and radix >= 1
            check(whole, "codes", radix, "a whole number of at least 1")
        few = f"so few at {self.levels} levels that int64 keys tell all IDs apart"
        check(math.prod(self.radices) < 2**63, "codes", self.codes, few)

    @property
    def radices(self) -> tuple[int, ...]:
        """Codes per level, (C_1, ..., C_L)."""
        return self.codes if isinstance(self.codes, tuple) else (self.codes,) * self.levels


class Quantizer(ABC):
    """Item vectors in, one code per level out. L levels, C_l codes at level l, D the input width.

    For every kind, a vector's codes are a function of that vector alone: equal vectors share all
    codes, and items that arrive after `fit` are encoded like those it was fitted on.

    `fit` sets named tensors, the state, which describe the fitted quantizer completely. A file
    holds these tensors, with `kind` and config in its metadata.
    """

    kind: ClassVar[str]
    config_class: ClassVar[type[QuantizerConfig]] = QuantizerConfig
    config: QuantizerConfig

    def __init__(self, config: QuantizerConfig | None = None) -> None:
        self.config = config or self.config_class()
        self._state: dict[str, Tensor] = {}

    @property
    def radices(self) -> tuple[int, ...]:
        """Codes per level as configured, (C_1, ..., C_L): the base of each digit of an item key."""
        return self.config.radices

    @abstractmethod
    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Learn from `vectors` (N, D) and return self; `progress` shows a bar.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """

    @abstractmethod
    def encode(self, vectors: Tensor) -> Tensor:
        """The codes of `vectors` (N, D): int64 (N, L), level l in 0..C_l - 1.

        Greedy: the argmin of `level_costs` level by level, ties to the lowest code.
        """

    @abstractmethod
    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        """What each code costs at the level after `prefix` (N, l), 0 <= l < L.

        float64 (N, C_{l+1}), lower is better, inf for a code that the codebook does not have.
        Raises ValueError for a wrong shape or a code that its codebook does not have.
        """

    @property
    def state(self) -> dict[str, Tensor]:
        """The fitted tensors by name. RuntimeError before `fit` and `load`."""
        if not self._state:
            name = type(self).__name__
            raise RuntimeError(f"this {name} is not fitted yet: call fit or load first")
        return self._state

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Set the state; LookupError, ValueError or RuntimeError if `tensors` is damaged."""
        self._state = tensors

    def save(self, path: str | Path) -> None:
        """Write state and config to one safetensors file; an old one is replaced whole.

        Raises RuntimeError before `fit`.
        """
        config = json.dumps(asdict(self.config), sort_keys=True)
        write_tensors(path, self.state, {"quantizer": self.kind, "config": config})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. FileNotFoundError; ValueError if it is no file of this kind."""
        metadata, tensors = read_quantizer(path)
        if (kind := metadata.get("quantizer")) != cls.kind:
            raise ValueError(f"{path} holds a quantizer of kind {kind!r}: {cls.kind!r} is needed")
        with damage_named(path, _DAMAGED):
            quantizer = cls(cls.config_class(**without_lists(parse_json(metadata["config"]))))
            quantizer.restore(tensors)
        return quantizer


class CodebookQuantizer(Quantizer):
    """A quantizer with one codebook per level, whose codes can be decoded.

    A level with fewer different inputs than codes has a smaller codebook: C_l counts the rows as
    configured, and the codes beyond the codebook's rows cost inf.
    """

    codebook_name: ClassVar[str] = "codebook"  # of a level's tensor in the state

    @property
    def codebooks(self) -> tuple[Tensor, ...]:
        """Codewords per level: float32 (at most C_l, width). RuntimeError before `fit`."""
        return self.of_levels(self.codebook_name)

    def of_levels(self, name: str) -> tuple[Tensor, ...]:
        """The state's tensors "NAME.0", "NAME.1", … of all levels."""
        return tuple(self.state[f"{name}.{level}"] for level in range(self.config.levels))

    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        """See `Quantizer.level_costs`."""
        prefix = check_prefix(prefix, len(vectors), list(map(len, self.codebooks)))
        costs = self._level_costs(vectors, prefix)
        missing = self.radices[prefix.shape[1]] - costs.shape[1]
        return F.pad(costs, (0, missing), value=torch.inf)

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors of the codes, or of their first l levels: float32 (N, D) for (N, l), l in 1..L.

        Raises ValueError for a wrong shape or a code that its codebook does not have.
        """
        books = self.codebooks
        codes = _check_codes("codes", codes, None, range(1, len(books) + 1), list(map(len, books)))
        columns = zip(books, codes.unbind(1), strict=False)
        return self._reconstruct([book[column] for book, column in columns])

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See `Quantizer.restore`."""
        if f"codebook.{self.config.levels}" in tensors:
            raise ValueError(f"there are more codebooks than {self.config.levels} levels")
        width = tensors["codebook.0"].shape[-1]
        for level, radix in enumerate(self.radices):
            name = f"codebook.{level}"
            check_shape(name, tensors[name], range(1, radix + 1), width)
        super().restore(tensors)

    @abstractmethod
    def _level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        """Costs of the codebook's rows after a valid prefix: float64 (N, rows)."""

    @abstractmethod
    def _reconstruct(self, codewords: list[Tensor]) -> Tensor:
        """(N, D) from the codewords (N, width) of the first l levels."""


def by_level(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """One tensor per level under the names of a state."""
    return {f"{name}.{level}": tensor for level, tensor in enumerate(tensors)}


def read_quantizer(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata ("quantizer" is the kind) and tensors of a file.

    Raises FileNotFoundError; ValueError for another format, or for tensors with NaN or inf.
    """
    try:
        tensors, metadata = read_tensors(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path} {_DAMAGED}: {name} holds NaN or infinite numbers")
    return metadata, tensors


# ---- checks --------------------------------------------------------------------------------------


def check_vectors(vectors: Vectors, width: int | None = None) -> Tensor:
    """`vectors` as a detached float32 CPU tensor (N, D), or ValueError saying what is wrong."""
    if not isinstance(vectors, Tensor):
        try:
            vectors = torch.as_tensor(np.asarray(vectors, dtype=np.float32))
        except (TypeError, ValueError):
            valid = "a tensor, an array or rows of equally many numbers"
            check(False, "vectors", vectors, valid)
            raise
    shape = tuple(vectors.shape)
    fits = len(shape) == 2 and shape[1] > 0 and width in (None, shape[1])
    check(fits, "The shape of vectors", shape, f"(N, {width or 'D'})")
    vectors = vectors.detach().to("cpu", torch.float32)
    bad = ~vectors.isfinite().all(1)
    if bad.any():
        row = int(bad.int().argmax())
        raise ValueError(f"vectors row {row} holds NaN or inf: every value must be finite")
    return vectors


def check_rows(vectors: Tensor) -> Tensor:
    """`check_vectors` for fitting, which needs at least one row."""
    vectors = check_vectors(vectors)
    if not len(vectors):
        raise ValueError("vectors has no rows: fitting needs at least one vector")
    return vectors


def check_prefix(prefix: Tensor, n_vectors: int, sizes: Sequence[int]) -> Tensor:
    """`prefix` on the CPU if it holds l < L valid codes for each vector, or ValueError.

    `sizes` are the numbers of rows of the L codebooks.
    """
    return _check_codes("prefix", prefix, n_vectors, range(len(sizes)), sizes)


def _check_codes(
    name: str, codes: Tensor, rows: int | None, lengths: range, sizes: Sequence[int]
) -> Tensor:
    shape = tuple(codes.shape)
    fits = len(shape) == 2 and rows in (None, shape[0]) and shape[1] in lengths
    valid = f"({'N' if rows is None else rows}, l) with l in {lengths[0]}..{lengths[-1]}"
    check(fits, f"The shape of {name}", shape, valid)
    codes = codes.cpu()
    for level, (column, size) in enumerate(zip(codes.unbind(1), sizes, strict=False)):
        wrong = (column < 0) | (column >= size)
        if wrong.any():
            code = int(column[wrong][0])
            raise ValueError(f"code {code} at level {level} is not in its codebook: 0..{size - 1}")
    return codes


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
