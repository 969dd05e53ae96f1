"""Semantic IDs: which items exist, and the codes of each.

An item has L codes, code l out of T_l. Prompts, verifiers, decoders and metrics read the catalogue
through `SemanticIds`, mostly as integer keys (mixed radix, the verifier's equation in NEZHA,
arXiv 2511.18793):

    key = Σ_l c_l · Π_{j<l} T_j

Level 1 is the least significant digit, so the key of a prefix is the key of its codes alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.common.files import damage_named
from nezha_lite.datasets import InteractionDataset
from nezha_lite.semantic_ids.files import read_semantic_ids, write_semantic_ids

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, eq=False)
class SemanticIds:
    """The semantic IDs of a catalogue.

    >>> ids = SemanticIds.from_codes([[2, 1], [0, 3], [2, 1]], radices=(3, 4))
    >>> ids.keys  # 2 + 1 · 3, 0 + 3 · 3
    tensor([5, 9, 5])
    >>> ids.items_of(5), ids.collision_rate, ids.space
    ([0, 2], 0.33333333333333337, 12)

    Attributes:
        codes: (N, L) int64, the codes of item 0 … N-1, level by level.
        radices: T_1 … T_L, how many codes each level has.
        items: N names, row by row; `from_codes` defaults to "0" … "N-1".

    Raises:
        ValueError: for a wrong shape, an empty catalogue, a code outside its level, a wrong number
            of names, or an ID space whose keys would overflow int64.
    """

    codes: Tensor
    radices: tuple[int, ...]
    items: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.codes.shape)
        valid = "(items, levels) with at least one item and one level"
        check(len(shape) == 2 and 0 not in shape, "The shape of codes", shape, valid)
        check(self.codes.dtype == torch.int64, "The dtype of codes", self.codes.dtype, "int64")
        positive = len(self.radices) == self.levels and min(self.radices) >= 1
        valid = f"one positive number of codes for each of the {self.levels} levels"
        check(positive, "radices", self.radices, valid)
        if self.space > _INT64_MAX:
            raise ValueError(
                f"radices {self.radices} span {self.space} IDs, but keys are int64 and allow at "
                f"most {_INT64_MAX}: use fewer levels or smaller codebooks."
            )
        if len(self.items) != self.n_items:
            raise ValueError(
                f"items names {len(self.items)} items, but codes has {self.n_items} rows."
            )
        outside = (self.codes < 0) | (self.codes >= torch.tensor(self.radices))  # (N, L)
        if outside.any():
            item, level = outside.nonzero()[0].tolist()
            raise ValueError(
                f"Item {self.items[item]!r} has code {int(self.codes[item, level])} at level "
                f"{level + 1}, but valid codes there are 0 to {self.radices[level] - 1}."
            )

    @classmethod
    def from_codes(
        cls,
        codes: Tensor | Sequence[Sequence[int]],
        radices: Sequence[int] | None = None,
        items: Sequence[str] | None = None,
    ) -> SemanticIds:
        """Build from plain codes (N, L).

        >>> SemanticIds.from_codes([[0, 5], [2, 1]]).radices
        (3, 6)

        Args:
            codes: whole numbers, as a tensor of any integer type or as rows.
            radices: default: the largest code plus one per level.
            items: N names; default: "0" … "N-1".

        Raises:
            ValueError: as the class does, or for rows of different lengths or fractions.
        """
        if not isinstance(codes, Tensor):
            lengths = sorted({len(row) for row in codes})
            check(len(lengths) < 2, "The lengths of the rows of codes", lengths, "equal")
        plain = torch.as_tensor(codes)
        whole = not plain.is_floating_point() or plain.numel() == 0
        check(whole, "The dtype of codes", plain.dtype, "one of whole numbers")
        plain = plain.to("cpu", torch.int64)
        if radices is None:
            radices = (plain.amax(dim=0) + 1).tolist() if plain.ndim == 2 and plain.numel() else ()
        names = map(str, range(len(plain))) if items is None else items
        return cls(plain, tuple(int(radix) for radix in radices), tuple(names))

    # ---- sizes ------------------------------------------------------------------------------

    @property
    def n_items(self) -> int:
        """N, the number of items."""
        return int(self.codes.shape[0])

    @property
    def levels(self) -> int:
        """L, the number of codes in an ID."""
        return int(self.codes.shape[1])

    @cached_property
    def space(self) -> int:
        """Π_l T_l, the number of IDs that can be written, whether an item has them or not."""
        return math.prod(self.radices)

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Π_{j<l} T_j for every level l: the weight of that level's code in a key."""
        return radix_strides(self.radices)

    # ---- keys -------------------------------------------------------------------------------

    @cached_property
    def keys(self) -> Tensor:
        """(N,) int64: every item's key."""
        return self.keys_of(self.codes)

    def keys_of(self, codes: Tensor) -> Tensor:
        """Keys of full IDs or prefixes: (..., l) int64 codes, 1 ≤ l ≤ L → (...) int64."""
        strides = torch.tensor(self.strides[: codes.shape[-1]], device=codes.device)
        return (codes * strides).sum(dim=-1)

    def codes_of(self, keys: Tensor) -> Tensor:
        """The inverse of `keys_of` for full IDs: (...) int64 → (..., L) int64.

        >>> SemanticIds.from_codes([[2, 3]], radices=(3, 4)).codes_of(torch.tensor([11, 5]))
        tensor([[2, 3],
                [2, 1]])
        """
        strides = torch.tensor(self.strides, device=keys.device)
        radices = torch.tensor(self.radices, device=keys.device)
        return keys.unsqueeze(-1) // strides % radices

    def prefix_keys(self, level: int) -> Tensor:
        """Sorted distinct keys of the catalogue's prefixes of `level` codes, 1 ≤ level ≤ L."""
        check(1 <= level <= self.levels, "level", level, f"between 1 and {self.levels}")
        return torch.unique(self.keys_of(self.codes[:, :level]))

    # ---- keys to items ----------------------------------------------------------------------

    @cached_property
    def _by_key(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(N,) keys, ascending, and (N,) the items that have them: 16 bytes an item."""
        # NumPy, because looking one key up in a tensor costs several times as much.
        keys, items = torch.sort(self.keys, stable=True)
        return keys.numpy(), items.numpy()

    def items_of(self, key: int) -> list[int]:
        """The items that have this key, in catalogue order; empty where no item has it."""
        if not 0 <= key < self.space:
            return []
        keys, items = self._by_key
        first, end = keys.searchsorted(int(key)), keys.searchsorted(int(key), "right")
        return cast(list[int], items[first:end].tolist())

    def items_of_keys(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The items of many keys at once; no item has a key below 0.

        >>> ids = SemanticIds.from_codes([[2, 1], [0, 3], [2, 1]], radices=(3, 4))
        >>> ids.items_of_keys(torch.tensor([[5, -1], [9, 0]]))
        (tensor([0, 2, 1]), tensor([[2, 0],
                [1, 0]]))

        Args:
            keys: (...) int64, on any device.

        Returns:
            (S,) int64: the items of all keys, one key's after the other's, each in catalogue order.
            (...) int64: how many of them each key has. Both on the CPU.
        """
        sorted_keys, items = self._by_key
        queries = keys.cpu().numpy()
        first = sorted_keys.searchsorted(queries)
        counts = sorted_keys.searchsorted(queries, "right") - first
        flat = counts.ravel()
        rows = np.repeat(first.ravel() - flat.cumsum() + flat, flat) + np.arange(flat.sum())  # (S,)
        return torch.from_numpy(items[rows]), torch.as_tensor(counts)

    def known_items(self, items: Iterable[int], holder: str) -> list[int]:
        """These items as plain integers, whatever type of whole number each one has.

        Args:
            items: indices of items.
            holder: what holds them, as the error's first words: "History 3".

        Raises:
            ValueError: for one that is not a whole number from 0 to n_items − 1.
        """
        indices = []
        for item in items:
            try:
                index = operator.index(item)
            except TypeError:  # 1.5, "1", nan
                index = -1
            if not 0 <= index < self.n_items:
                raise ValueError(
                    f"{holder} holds item {item}, but the catalogue's items are 0 to "
                    f"{self.n_items - 1}."
                )
            indices.append(index)
        return indices

    # ---- quality ----------------------------------------------------------------------------

    @cached_property
    def n_distinct(self) -> int:
        """How many different IDs the catalogue uses."""
        return 1 + int(np.count_nonzero(np.diff(self._by_key[0])))

    @property
    def collision_rate(self) -> float:
        """1 − distinct IDs / items: the share of items whose ID an earlier item has."""
        return 1.0 - self.n_distinct / self.n_items

    @property
    def occupancy(self) -> float:
        """Distinct IDs / ID space: the chance that a random ID exists."""
        return self.n_distinct / self.space

    def codebook_use(self) -> list[float]:
        """Per level, the share of its codes that at least one item has."""
        columns = zip(self.codes.unbind(1), self.radices, strict=True)
        return [len(column.unique()) / radix for column, radix in columns]

    # ---- other catalogues -------------------------------------------------------------------

    def with_extra_level(self, popularity: Sequence[float] | None = None) -> SemanticIds:
        """One more code that numbers the items sharing an ID, so that every ID is unique.

        >>> SemanticIds.from_codes([[7], [5], [7]]).with_extra_level().codes.tolist()
        [[7, 0], [5, 0], [7, 1]]

        The new level's radix is the size of the largest group. A catalogue without collisions is
        returned unchanged: a level with one code would only cost a decoding step.

        Args:
            popularity: (N,); the most popular item of a group gets number 0. Default: catalogue
                order.
        """
        if self.n_distinct == self.n_items:
            return self
        order = torch.arange(self.n_items)
        if popularity is not None:
            order = torch.as_tensor(popularity, dtype=torch.float64).argsort(
                descending=True, stable=True
            )
        order = order[self.keys[order].argsort(stable=True)]
        sizes = torch.unique_consecutive(self.keys[order], return_counts=True)[1]
        starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # (N,)
        numbers = torch.empty(self.n_items, 1, dtype=torch.int64)
        numbers[order, 0] = torch.arange(self.n_items) - starts
        radices = (*self.radices, int(sizes.max()))
        return SemanticIds(torch.cat([self.codes, numbers], dim=1), radices, self.items)

    def without(self, removed: Collection[int]) -> tuple[SemanticIds, Tensor]:
        """The catalogue without these items, and which of this catalogue's items remain.

        A key means the same in both, since the radices stay. An item's index does not: item i of
        the new catalogue is item `remaining[i]` of this one.

        >>> ids = SemanticIds.from_codes([[7], [5], [6]])
        >>> smaller, remaining = ids.without({0})
        >>> smaller.items, remaining
        (('1', '2'), tensor([1, 2]))

        Args:
            removed: indices of items.

        Returns:
            The new catalogue of M items, and remaining (M,) int64, ascending.

        Raises:
            ValueError: if an item is unknown, or none is left.
        """
        stays = torch.ones(self.n_items, dtype=torch.bool)
        stays[torch.tensor(self.known_items(removed, "removed"), dtype=torch.int64)] = False
        remaining = stays.nonzero().flatten()
        names = tuple(self.items[item] for item in remaining.tolist())
        return SemanticIds(self.codes[remaining], self.radices, names), remaining

    # ---- files ------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write to a .json or .safetensors file, whole or not at all.

        Raises:
            ValueError: for another file name.
        """
        path = Path(path)
        write_semantic_ids(path, self.codes, self.radices, self.items)
        return path

    @classmethod
    def load(cls, path: str | Path) -> SemanticIds:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if the file is missing.
            ValueError: if it is not a semantic-ID file, naming the file and what is wrong.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file: expected semantic IDs saved by `save`.")
        with damage_named(path, "does not hold valid semantic IDs (copy or make them again)"):
            return cls.from_codes(*read_semantic_ids(path))


def radix_strides(radices: Sequence[int]) -> tuple[int, ...]:
    """Π_{j<l} T_j for every level l.

    >>> radix_strides((3, 4, 2))
    (1, 3, 12)
    """
    return tuple(math.prod(radices[:level]) for level in range(len(radices)))


def released_semantic_ids(dataset: InteractionDataset) -> SemanticIds:
    """The semantic IDs that came with the data set (its index.json), collisions left as they are.

    Every level gets the radix of the largest one, the codebook size the authors trained with:
    level 1 of Beauty uses 197 of its 256 codes.

    Raises:
        ValueError: if the data set came without IDs, or they are not valid.
    """
    if dataset.released_codes is None:
        raise ValueError(
            f"Data set {dataset.name!r} has no index.json with released semantic IDs: "
            "build some with nezha_lite.semantic_ids.tokenizer.tokenize(dataset)."
        )
    codes = torch.tensor(dataset.released_codes, dtype=torch.int64)
    radix = int(codes.max()) + 1
    try:
        return SemanticIds.from_codes(codes, [radix] * codes.shape[1], dataset.items)
    except ValueError as error:
        raise ValueError(f"The released IDs of data set {dataset.name!r}: {error}") from None
