"""Semantic IDs: which items exist, and what they are called.

An item is named by L codes, code l out of T_l. Everything else in the package (prompts, verifiers,
decoders, metrics) reads the catalogue through this one object, mostly as integer keys:

    key = Σ_l c_l · Π_{j<l} T_j          (mixed radix, the verifier's equation in NEZHA)

Level 1 is the least significant digit, so a prefix's key is simply the key of its codes alone.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from nezha_lite.datasets import InteractionDataset
from nezha_lite.semantic_ids.files import read_parts, write_parts

_INT64_MAX = 2**63 - 1
_INVALID = "does not hold valid semantic IDs (copy or make them again)"


@dataclass(frozen=True, eq=False)
class SemanticIds:
    """The catalogue's semantic IDs.

    Attributes:
        codes: (N, L) int64, codes of item 0..N-1, level by level.
        radices: T_1 … T_L, how many codes each level has.
        items: N names, row by row; defaults to "0" … "N-1" through `from_codes`.

    Raises:
        ValueError: on a wrong shape, an empty catalogue, a code outside its level, a wrong number
            of names, or an ID space whose keys would overflow int64.
    """

    codes: Tensor
    radices: tuple[int, ...]
    items: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.shape[0] == 0 or self.codes.shape[1] == 0:
            raise ValueError(
                f"codes has shape {tuple(self.codes.shape)}, but must be (items, levels) with at "
                "least one item and one level."
            )
        if self.codes.dtype != torch.int64:
            raise ValueError(f"codes has dtype {self.codes.dtype}, but must be torch.int64.")
        if len(self.radices) != self.levels or any(radix < 1 for radix in self.radices):
            raise ValueError(
                f"radices is {self.radices}, but must give one positive number of codes for each "
                f"of the {self.levels} levels."
            )
        if self.space > _INT64_MAX:
            raise ValueError(
                f"radices {self.radices} span {self.space} IDs, but keys are int64 and allow at "
                f"most {_INT64_MAX}: use fewer levels or smaller codebooks."
            )
        if len(self.items) != self.n_items:
            raise ValueError(
                f"items names {len(self.items)} items, but codes has {self.n_items} rows."
            )
        outside = (self.codes < 0) | (self.codes >= torch.tensor(self.radices))
        if outside.any():
            item, level = (int(i) for i in outside.nonzero()[0])
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
        """Build from plain codes (N, L); radices default to the largest code plus one per level."""
        if not isinstance(codes, Tensor):
            lengths = {len(row) for row in codes}
            if len(lengths) > 1:
                raise ValueError(f"codes has rows of {sorted(lengths)} levels, but all must agree.")
        whole = torch.as_tensor(codes, dtype=torch.int64).cpu()
        if whole.numel() and torch.as_tensor(codes).is_floating_point():
            raise ValueError("codes holds fractions, but must hold whole numbers.")
        codes = whole
        if radices is None:
            if codes.ndim != 2 or codes.numel() == 0:
                raise ValueError(
                    f"codes has shape {tuple(codes.shape)}, but must be (items, levels), not empty."
                )
            radices = [int(largest) + 1 for largest in codes.max(dim=0).values]
        names = tuple(str(i) for i in range(len(codes))) if items is None else tuple(items)
        return cls(codes, tuple(int(radix) for radix in radices), names)

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
        """Π_l T_l: how many IDs could be written, existing or not."""
        product = 1
        for radix in self.radices:
            product *= radix
        return product

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
        """Keys of full or partial IDs: (..., l) int64 codes, l ≤ L → (...) int64."""
        strides = torch.tensor(self.strides[: codes.shape[-1]], device=codes.device)
        return (codes * strides).sum(dim=-1)

    def codes_of(self, keys: Tensor) -> Tensor:
        """Inverse of `keys_of` for full IDs: (...) int64 → (..., L) int64."""
        strides = torch.tensor(self.strides, device=keys.device)
        radices = torch.tensor(self.radices, device=keys.device)
        return keys.unsqueeze(-1) // strides % radices

    def prefix_keys(self, level: int) -> Tensor:
        """Sorted distinct keys of the catalogue's prefixes of `level` codes, 1 ≤ level ≤ L."""
        if not 1 <= level <= self.levels:
            raise ValueError(f"level is {level}, but must be between 1 and {self.levels}.")
        return torch.unique(self.keys_of(self.codes[:, :level]))

    # ---- keys to items ----------------------------------------------------------------------

    @cached_property
    def _items_by_key(self) -> dict[int, list[int]]:
        groups: dict[int, list[int]] = defaultdict(list)
        for item, key in enumerate(self.keys.tolist()):
            groups[key].append(item)
        return dict(groups)

    def known_items(self, items: Iterable[int], holder: str) -> list[int]:
        """These items as plain integers, whatever kind of whole numbers they came as.

        Args:
            items: indices of items.
            holder: who holds them, as the error's first words: "History 3".

        Raises:
            ValueError: for one that is not a whole number from 0 to n_items − 1.
        """
        known = []
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
            known.append(index)
        return known

    def items_of(self, key: int) -> list[int]:
        """Items that carry this key, in catalogue order; empty where no item exists."""
        return list(self._items_by_key.get(int(key), ()))

    # ---- quality ----------------------------------------------------------------------------

    @property
    def n_distinct(self) -> int:
        """How many different IDs the catalogue uses."""
        return len(self._items_by_key)

    @property
    def collision_rate(self) -> float:
        """1 − distinct IDs / items: the share of items whose ID was already taken."""
        return 1.0 - self.n_distinct / self.n_items

    @property
    def occupancy(self) -> float:
        """Distinct IDs / ID space: the chance that a random ID exists."""
        return self.n_distinct / self.space

    def codebook_use(self) -> list[float]:
        """Per level, the share of its codes that at least one item carries."""
        return [
            int(torch.unique(self.codes[:, level]).numel()) / radix
            for level, radix in enumerate(self.radices)
        ]

    # ---- collisions -------------------------------------------------------------------------

    def with_extra_level(self, popularity: Sequence[float] | None = None) -> SemanticIds:
        """One more code that numbers the items sharing an ID, so that every ID is unique.

        Numbers go by catalogue order, or with `popularity` (N,) from the most popular item down.
        The new level's radix is the size of the largest group. A catalogue without collisions is
        returned unchanged: a level with one code would only cost a decoding step.
        """
        largest = max(len(group) for group in self._items_by_key.values())
        if largest == 1:
            return self
        extra = torch.zeros(self.n_items, 1, dtype=torch.int64)
        for group in self._items_by_key.values():
            if popularity is not None:
                group = sorted(group, key=lambda item: -popularity[item])
            for position, item in enumerate(group):
                extra[item, 0] = position
        return SemanticIds(
            torch.cat([self.codes, extra], dim=1), (*self.radices, largest), self.items
        )

    def without(self, removed: Collection[int]) -> SemanticIds:
        """The catalogue after these items left: same radices, so old keys still mean the same."""
        gone = frozenset(self.known_items(removed, "removed"))
        kept = [item for item in range(self.n_items) if item not in gone]
        return SemanticIds(
            self.codes[torch.tensor(kept, dtype=torch.int64)],
            self.radices,
            tuple(self.items[item] for item in kept),
        )

    # ---- files ------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write to a .json or .safetensors file, whole or not at all."""
        path = Path(path)
        write_parts(path, self.codes, self.radices, self.items)
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
        try:
            codes, radices, items = read_parts(path)
            return cls.from_codes(codes, radices, items)
        except KeyError as error:
            raise ValueError(f"{path} {_INVALID}: it has no {error}.") from error
        except (TypeError, ValueError, SafetensorError) as error:
            raise ValueError(f"{path} {_INVALID}: {error}") from error


def radix_strides(radices: Sequence[int]) -> tuple[int, ...]:
    """Π_{j<l} T_j for every level: (T_1, T_2, T_3) → (1, T_1, T_1·T_2)."""
    strides, product = [], 1
    for radix in radices:
        strides.append(product)
        product *= radix
    return tuple(strides)


def released_semantic_ids(dataset: InteractionDataset) -> SemanticIds:
    """The semantic IDs that came with the data set (its index.json), collisions left as they are.

    Radices are rounded up to the largest level's, the codebook size the authors trained with:
    level 1 of Beauty uses 197 of its 256 codes.
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
