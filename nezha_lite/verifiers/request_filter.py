"""Per-request allow and deny sets, applied inside decoding so that the list stays full."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds, radix_strides
from nezha_lite.verifiers.base import Verifier
from nezha_lite.verifiers.padded_keys import (
    NO_KEY,
    among,
    asked,
    children_among,
    longest,
    padded_rows,
    sorted_once,
    trimmed,
)

ItemSets = Sequence[Collection[int] | None]

_AT_ONCE = 2**20  # continuations looked at together while building: 8 MiB a tensor


@dataclass(frozen=True, eq=False)
class RequestFilter:
    """Which IDs each prompt of a batch may be given.

    A row either lists all that it admits, prefix by prefix (a prompt with an allow set), or all
    that it refuses (a prompt without one). A filter of one row serves a batch of any size.

    Attributes:
        listed: (L, B, W) int64, for every level the listed prefixes' keys in rising order, then
            the largest int64. W is a power of two, so that compiled programs meet few shapes.
        only: (B, 1) bool, whether the row admits only what it lists.
        radices: T_1 … T_L.
    """

    listed: Tensor
    only: Tensor
    radices: tuple[int, ...]

    @classmethod
    def build(
        cls,
        semantic_ids: SemanticIds,
        verifier: Verifier,
        allow: ItemSets | None = None,
        deny: ItemSets | None = None,
        device: torch.device | str = "cpu",
    ) -> RequestFilter:
        """The filter for the catalogue as it is now; build it anew after the verifier changed.

        An ID is admitted if one of its items is allowed and not denied: it takes all items of a
        shared ID to deny it. A prefix is refused once no existing ID below it is left, so a beam
        never follows it to a dead end. Denying everything gives empty lists.

        Args:
            semantic_ids: names the items.
            verifier: knows which IDs exist now.
            allow: for each prompt the items that it may be given; None for all of them. A sequence
                of length 1 serves the whole batch.
            deny: for each prompt the items that it must not be given, laid out alike.
            device: where the verifier is, and the model.

        Raises:
            ValueError: for an unknown item, or sets for different numbers of prompts.
        """
        allowed, denied = _rows(semantic_ids, allow, deny)
        keys = [
            _keys_left(semantic_ids, row, without)
            if row is not None
            else _keys_used_up(semantic_ids, without)
            for row, without in zip(allowed, denied, strict=True)
        ]
        only = torch.tensor([row is not None for row in allowed], device=device).unsqueeze(1)
        ids = padded_rows(keys).to(device)  # (B, W)
        gone = only & ~verifier.contains(asked(ids))  # only what exists can be admitted
        levels = [trimmed(sorted_once(ids.masked_fill(gone, NO_KEY)))]
        for level in range(semantic_ids.levels - 1, 0, -1):
            below = levels[0]
            stride = radix_strides(semantic_ids.radices)[level]
            prefixes = sorted_once((below % stride).masked_fill(below == NO_KEY, NO_KEY))
            unsure = prefixes.masked_fill(only, NO_KEY)
            alive = _has_unlisted(verifier, level, unsure, below)
            levels.insert(0, sorted_once(prefixes.masked_fill(alive, NO_KEY)))
        return cls(torch.stack(levels), only, semantic_ids.radices)

    def __len__(self) -> int:
        return int(self.only.shape[0])

    @property
    def signature(self) -> tuple[int, ...]:
        """Filters of one signature can take each other's place in a captured program."""
        return tuple(self.listed.shape)

    def tensors(self) -> tuple[Tensor, ...]:
        """All that `admits` reads."""
        return self.listed, self.only

    def with_tensors(self, tensors: tuple[Tensor, ...]) -> RequestFilter:
        """The same filter reading these instead, such as a captured program's own buffers."""
        listed, only = tensors
        return replace(self, listed=listed, only=only)

    def to(self, device: torch.device | str) -> RequestFilter:
        """The same filter on another device."""
        return self.with_tensors(tuple(tensor.to(device) for tensor in self.tensors()))

    def padded_to(self, batch: int) -> RequestFilter:
        """With further rows, which admit everything; a filter of one row stays as it is.

        Raises:
            ValueError: if there are more rows than that.
        """
        missing = batch - len(self)
        if len(self) == 1 or missing == 0:
            return self
        if missing < 0:
            raise ValueError(f"batch is {batch}, but this filter already has {len(self)} rows.")
        levels, _, width = self.listed.shape
        nothing = self.listed.new_full((levels, missing, width), NO_KEY)
        return replace(
            self,
            listed=torch.cat([self.listed, nothing], dim=1),
            only=torch.cat([self.only, self.only.new_zeros(missing, 1)]),
        )

    def admits(self, level: int, keys: Tensor) -> Tensor:
        """Which prefixes of `level` codes may be followed: (B, F) int64 → (B, F) bool."""
        return among(self.listed[level - 1], keys) == self.only

    def admits_children(self, level: int, prefixes: Tensor) -> Tensor:
        """The same for all continuations by a code of `level`: (B, K) int64 → (B, K · C) bool.

        Costs what the lists are long, whatever K · C is. Prefixes of a row differ from each other;
        negative ones mark empty slots.
        """
        return children_among(self.listed[level - 1], prefixes, level, self.radices) == self.only


def _has_unlisted(verifier: Verifier, level: int, prefixes: Tensor, below: Tensor) -> Tensor:
    """Which prefixes of `level` codes have an existing continuation that `below` does not list."""
    n_codes = verifier.radices[level]
    stride = radix_strides(verifier.radices)[level]
    columns = max(1, _AT_ONCE // (n_codes * len(prefixes)))
    found = torch.zeros_like(prefixes, dtype=torch.bool)
    for first in range(0, longest(prefixes), columns):
        some = asked(prefixes[:, first : first + columns])
        candidates = verifier.candidates(level + 1, some)
        assert candidates.exists is not None  # a verifier always knows
        index = candidates.index
        if index is None:
            known = children_among(below, some, level + 1, verifier.radices)  # (B, P·C)
            counts = (candidates.exists & ~known).unflatten(1, (-1, n_codes)).sum(dim=2)
        else:
            parents = index // n_codes  # (B, F)
            children = some.gather(1, parents) + index % n_codes * stride
            open_ends = candidates.exists & ~among(below, children)
            counts = torch.zeros_like(some).scatter_add_(1, parents, open_ends.long())
        found[:, first : first + columns] = counts > 0
    return found


def _rows(
    semantic_ids: SemanticIds, allow: ItemSets | None, deny: ItemSets | None
) -> tuple[list[frozenset[int] | None], list[frozenset[int]]]:
    """Both sequences checked, and brought to one length."""
    allowed: list[frozenset[int] | None] = [None] if allow is None else []
    denied = [frozenset[int]()] if deny is None else []
    for prompt, items in enumerate(allow if allow is not None else ()):
        allowed.append(None if items is None else _items(semantic_ids, "allow", prompt, items))
    for prompt, items in enumerate(deny if deny is not None else ()):
        denied.append(_items(semantic_ids, "deny", prompt, items or ()))
    batch = max(len(allowed), len(denied))
    if not allowed or not denied or not {len(allowed), len(denied)} <= {1, batch}:
        raise ValueError(
            f"allow holds sets for {len(allowed)} prompts and deny for {len(denied)}, but each "
            "must hold one for every prompt, or a single one that serves all."
        )
    return (
        allowed * batch if len(allowed) == 1 else allowed,
        denied * batch if len(denied) == 1 else denied,
    )


def _items(
    semantic_ids: SemanticIds, name: str, prompt: int, items: Collection[int]
) -> frozenset[int]:
    return frozenset(semantic_ids.known_items(items, f"{name} of prompt {prompt}"))


def _keys_left(
    semantic_ids: SemanticIds, allowed: frozenset[int], denied: frozenset[int]
) -> Tensor:
    """Keys of the IDs with an item that is allowed and not denied, once or more."""
    return semantic_ids.keys[torch.tensor(sorted(allowed - denied), dtype=torch.int64)]


def _keys_used_up(semantic_ids: SemanticIds, denied: frozenset[int]) -> Tensor:
    """Keys of the IDs all of whose items are denied."""
    keys = semantic_ids.keys[torch.tensor(sorted(denied), dtype=torch.int64)].unique().tolist()
    used_up = [key for key in keys if denied.issuperset(semantic_ids.items_of(key))]
    return torch.tensor(used_up, dtype=torch.int64)
