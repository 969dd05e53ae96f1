"""Per-request allow and deny sets, applied inside decoding so that the list stays full."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.semantic_ids import SemanticIds, radix_strides
from nezha_lite.verifiers.base import Verifier, child_keys

ItemSets = Sequence[Collection[int] | Tensor | None]

Rows = TypeVar("Rows")

NO_KEY = 2**63 - 1  # pads rows; the largest key that an ID can have is one less
MIN_WIDTH = 32  # keys; one shape for all short sets, such as the items that a user has bought
BLOCK = 2**20  # continuations examined together while building: 8 MiB a tensor


@dataclass(frozen=True, eq=False)
class RequestFilter:
    """Which IDs each prompt of a batch may receive.

    A row lists either every prefix that it admits (a prompt with an allow set) or every prefix that
    it refuses (a prompt without one). A filter of one row serves a batch of any size. An allow set
    that all prompts share is stored once, beside one short list of refused prefixes per prompt.

    Attributes:
        listed: (L, B, W) int64, for every level the listed prefixes' keys in ascending order, then
            the largest int64. W is a power of two, so that compiled programs meet few shapes.
        only: (B, 1) bool, whether the row admits only what it lists.
        radices: T_1 … T_L.
        denied: a second filter that must admit too, for prompts that share the one row of `listed`
            but have deny sets of their own. None elsewhere.
    """

    listed: Tensor
    only: Tensor
    radices: tuple[int, ...]
    denied: RequestFilter | None = None

    @classmethod
    def build(
        cls,
        semantic_ids: SemanticIds,
        verifier: Verifier,
        allow: ItemSets | None = None,
        deny: ItemSets | None = None,
        device: torch.device | str = "cpu",
        removed: Tensor | None = None,
    ) -> RequestFilter:
        """The filter for the current catalogue; build it anew after the verifier changed.

        An ID is admitted if one of its items is allowed and not denied: a shared ID is denied with
        the last of its items. A prefix is refused if no existing ID below it is left, so a beam
        never follows it to a dead end. Denying everything gives empty lists.

        Args:
            semantic_ids: the items' IDs.
            verifier: the IDs that exist now.
            allow: for each prompt the items that it may receive; None for all of them. A sequence
                of length 1 serves the whole batch. Arrays and tensors are read fastest.
            deny: for each prompt the items that it must not receive, in the same form.
            device: of the verifier and the model.
            removed: (N,) bool on the CPU, the items that left the catalogue: they do not keep an ID
                that another item shares.

        Raises:
            ValueError: for an unknown item, or sets for different numbers of prompts.
        """
        allowed, denied = _item_rows(semantic_ids, allow, deny)
        stays = torch.ones(semantic_ids.n_items, dtype=torch.bool) if removed is None else ~removed
        allowed = [None if row is None else row[stays[row]] for row in allowed]
        first = allowed[0]
        if first is not None and len(allowed) < len(denied):
            shared = cls._of_keys([semantic_ids.keys[first]], [True], verifier, device)
            return shared._without(
                [keys_without_items(semantic_ids, row, stays, first) for row in denied]
            )
        batch = max(len(allowed), len(denied))
        keys = [
            keys_without_items(semantic_ids, refused, stays)
            if row is None
            else semantic_ids.keys[row[~sorted_isin(refused, row)]]
            for row, refused in zip(_rows(allowed, batch), _rows(denied, batch), strict=True)
        ]
        only = [row is not None for row in _rows(allowed, batch)]
        return cls._of_keys(keys, only, verifier, device)

    @classmethod
    def _of_keys(
        cls,
        keys: Sequence[Tensor],
        only: Sequence[bool],
        verifier: Verifier,
        device: torch.device | str,
    ) -> RequestFilter:
        """Rows of finished IDs, and the prefixes that follow from them."""
        ids = _padded(keys).to(device)  # (B, W)
        lists_all = torch.tensor(only, device=device).unsqueeze(1)
        extinct = lists_all & ~verifier.contains(_as_query(ids))  # only what exists is admitted

        def open_ended(level: int, prefixes: Tensor, below: Tensor) -> Tensor:
            refused = prefixes.masked_fill(lists_all, NO_KEY)
            return _has_unlisted(verifier, level, refused, below)

        listed = _climbed(ids.masked_fill(extinct, NO_KEY), verifier.radices, open_ended)
        return cls(listed, lists_all, verifier.radices)

    def _without(self, keys: Sequence[Tensor]) -> RequestFilter:
        """This filter of one row, and for each prompt without these IDs of its own."""
        ids = _padded(keys).to(self.listed.device)  # (B, W)
        ids = ids.masked_fill(~_row_isin(self.listed[-1], ids), NO_KEY)

        def open_ended(level: int, prefixes: Tensor, below: Tensor) -> Tensor:
            stride = radix_strides(self.radices)[level]
            admitted = _n_children(self.listed[level], prefixes, stride)
            return admitted > _n_children(below, prefixes, stride)

        listed = _climbed(ids, self.radices, open_ended)
        only = torch.zeros(len(ids), 1, dtype=torch.bool, device=ids.device)
        return replace(self, denied=RequestFilter(listed, only, self.radices))

    def __len__(self) -> int:
        return int(self.only.shape[0]) if self.denied is None else len(self.denied)

    @property
    def signature(self) -> tuple[int, ...]:
        """Filters of one signature can run in the same captured program."""
        beside = () if self.denied is None else self.denied.signature
        return (*self.listed.shape, *beside)

    def tensors(self) -> tuple[Tensor, ...]:
        """Every tensor that `admits` and `admits_children` read."""
        return self.listed, self.only, *(() if self.denied is None else self.denied.tensors())

    def with_tensors(self, tensors: tuple[Tensor, ...]) -> RequestFilter:
        """The same filter reading these instead, such as a captured program's own buffers."""
        listed, only, *beside = tensors
        denied = None if self.denied is None else self.denied.with_tensors(tuple(beside))
        return replace(self, listed=listed, only=only, denied=denied)

    def to(self, device: torch.device | str) -> RequestFilter:
        """The same filter on another device."""
        return self.with_tensors(tuple(tensor.to(device) for tensor in self.tensors()))

    def padded_to(self, batch: int) -> RequestFilter:
        """The filter with more rows, which admit everything; one row stays one.

        Raises:
            ValueError: if it has more rows than `batch`.
        """
        if self.denied is not None:
            return replace(self, denied=self.denied.padded_to(batch))
        missing = batch - len(self)
        if len(self) == 1 or missing == 0:
            return self
        check(missing >= 0, "batch", batch, f"at least the {len(self)} rows of this filter")
        levels, _, width = self.listed.shape
        nothing = self.listed.new_full((levels, missing, width), NO_KEY)
        return replace(
            self,
            listed=torch.cat([self.listed, nothing], dim=1),
            only=torch.cat([self.only, self.only.new_zeros(missing, 1)]),
        )

    def admits(self, level: int, keys: Tensor) -> Tensor:
        """Which prefixes of `level` codes may be extended: (B, F) int64 → (B, F) bool."""
        admitted = _row_isin(self.listed[level - 1], keys) == self.only
        return admitted if self.denied is None else admitted & self.denied.admits(level, keys)

    def admits_children(self, level: int, prefixes: Tensor) -> Tensor:
        """The same for all continuations by a code of `level`: (B, K) int64 → (B, K · C) bool.

        The cost depends on the lists' lengths or on K · C, whichever is smaller. Prefixes of a row
        are distinct; negative ones are padding.
        """
        members = self.listed[level - 1]
        if prefixes.shape[1] * self.radices[level - 1] < members.shape[1]:
            return self.admits(level, child_keys(prefixes, level, self.radices).flatten(1))
        admitted = _children_isin(members, prefixes, level, self.radices) == self.only
        if self.denied is None:
            return admitted
        return admitted & self.denied.admits_children(level, prefixes)


def _climbed(
    keys: Tensor, radices: Sequence[int], open_ended: Callable[[int, Tensor, Tensor], Tensor]
) -> Tensor:
    """The lists of every level, from those of finished IDs: (B, W) → (L, B, W).

    `open_ended` tells which prefixes of a level have a continuation that the list of the level
    below, which it gets too, does not have: those are not listed.
    """
    levels = [_trimmed(_sorted_unique(keys))]
    for level in range(len(radices) - 1, 0, -1):
        below = levels[0]
        prefixes = _sorted_unique(_parents(below, radix_strides(radices)[level]))
        levels.insert(0, _compacted(prefixes, ~open_ended(level, prefixes, below)))
    return torch.stack(levels)


def _has_unlisted(verifier: Verifier, level: int, prefixes: Tensor, below: Tensor) -> Tensor:
    """Which prefixes of `level` codes have an existing continuation that `below` does not list."""
    n_codes = verifier.radices[level]
    stride = radix_strides(verifier.radices)[level]
    columns = max(1, BLOCK // (n_codes * len(prefixes)))
    unlisted = torch.zeros_like(prefixes, dtype=torch.bool)
    for first in range(0, _longest(prefixes), columns):
        block = _as_query(prefixes[:, first : first + columns])  # (B, P)
        candidates = verifier.candidates(level + 1, block)
        assert candidates.exists is not None  # a verifier always says
        index = candidates.index
        if index is None:
            listed = _children_isin(below, block, level + 1, verifier.radices)  # (B, P·C)
            counts = (candidates.exists & ~listed).unflatten(1, (-1, n_codes)).sum(dim=2)
        else:
            parents = index // n_codes  # (B, F)
            children = block.gather(1, parents) + index % n_codes * stride
            open_ends = candidates.exists & ~_row_isin(below, children)
            counts = torch.zeros_like(block).scatter_add_(1, parents, open_ends.long())
        unlisted[:, first : first + columns] = counts > 0
    return unlisted


def _item_rows(
    semantic_ids: SemanticIds, allow: ItemSets | None, deny: ItemSets | None
) -> tuple[list[Tensor | None], list[Tensor]]:
    """Both sequences checked: sorted distinct items of each prompt, or of all in one row."""
    allowed = [
        None if items is None else item_set(semantic_ids, items, f"allow of prompt {prompt}")
        for prompt, items in enumerate([None] if allow is None else allow)
    ]
    denied = [
        item_set(semantic_ids, () if items is None else items, f"deny of prompt {prompt}")
        for prompt, items in enumerate([None] if deny is None else deny)
    ]
    batch = max(len(allowed), len(denied))
    if not allowed or not denied or not {len(allowed), len(denied)} <= {1, batch}:
        raise ValueError(
            f"allow holds sets for {len(allowed)} prompts and deny for {len(denied)}, but each "
            "must hold one for every prompt, or a single one that serves all."
        )
    return allowed, denied


def item_set(semantic_ids: SemanticIds, items: Collection[int] | Tensor, holder: str) -> Tensor:
    """Checked items as a sorted set: (M,) int64, on the CPU.

    >>> item_set(SemanticIds.from_codes([[0], [1], [2]]), {2, 0}, "allow")
    tensor([0, 2])

    Args:
        semantic_ids: the catalogue.
        items: indices of items, in any collection of whole numbers; arrays and tensors are fastest.
        holder: what holds them, as the error's first words.

    Raises:
        ValueError: for one that is not a whole number from 0 to n_items − 1.
    """
    if isinstance(items, Tensor):
        items = items.cpu().numpy()
    array = np.asarray(items if isinstance(items, np.ndarray) else list(items))
    whole = array.size == 0 or (array.ndim == 1 and array.dtype.kind in "iu")
    if not whole or ((array < 0) | (array >= semantic_ids.n_items)).any():
        array = np.array(semantic_ids.known_items(items, holder))  # names the wrong item
    ordered = array.astype(np.int64)
    if (ordered[1:] <= ordered[:-1]).any():
        ordered.sort()
        ordered = ordered[np.append(ordered[1:] != ordered[:-1], True)]
    return torch.from_numpy(ordered)


def sorted_isin(members: Tensor, values: Tensor) -> Tensor:
    """Which values are among the sorted members: (W,), (M,) → (M,) bool."""
    if len(members) == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    return _row_isin(members.unsqueeze(0), values)


def _rows(rows: list[Rows], batch: int) -> list[Rows]:
    return rows * batch if len(rows) == 1 else rows


def keys_without_items(
    semantic_ids: SemanticIds, denied: Tensor, stays: Tensor, allowed: Tensor | None = None
) -> Tensor:
    """Keys of the denied items' IDs that have no other item left, in the catalogue and allowed.

    `denied` and `allowed` are sorted items, `stays` (N,) bool says which are in the catalogue.
    """
    keys = semantic_ids.keys[denied].unique()
    items, counts = semantic_ids.items_of_keys(keys)
    left = stays[items] & ~sorted_isin(denied, items)
    if allowed is not None:
        left &= sorted_isin(allowed, items)
    owner = torch.arange(len(keys)).repeat_interleave(counts)  # the key of each item
    return keys[torch.zeros_like(keys).index_add_(0, owner, left.long()) == 0]


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows of different lengths → (B, W)."""
    padded = torch.full((len(rows), max(1, *map(len, rows))), NO_KEY)
    for row, keys in zip(padded, rows, strict=True):
        row[: len(keys)] = keys
    return padded


def _trimmed(rows: Tensor) -> Tensor:
    """Sorted rows cut, or padded, to the next power of two that holds every key."""
    width = max(MIN_WIDTH, 1 << max(_longest(rows) - 1, 0).bit_length())
    padding = rows.new_full((len(rows), max(0, width - rows.shape[1])), NO_KEY)
    return torch.cat([rows[:, :width], padding], dim=1)


def _longest(rows: Tensor) -> int:
    """The most keys in a row."""
    return int((rows != NO_KEY).sum(dim=1).max())


def _sorted_unique(rows: Tensor) -> Tensor:
    """The distinct keys of every row in ascending order; the width stays."""
    ordered = rows.sort(dim=1).values
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return _compacted(ordered, first)


def _compacted(rows: Tensor, keep: Tensor) -> Tensor:
    """The keys of every row to keep, in order and then padding; the width stays."""
    width = rows.shape[1]
    index = (keep.cumsum(dim=1) - 1).masked_fill(~keep, width)
    compacted = rows.new_full((len(rows), width + 1), NO_KEY)  # the last column is cut off
    return compacted.scatter_(1, index, rows)[:, :width].contiguous()


def _parents(keys: Tensor, stride: int) -> Tensor:
    """The prefixes one level up, in the keys' order; padding stays."""
    return (keys % stride).masked_fill(keys == NO_KEY, NO_KEY)


def _n_children(members: Tensor, prefixes: Tensor, stride: int) -> Tensor:
    """How many members of their row continue each prefix: (B, W) or (1, W), (B, P) → (B, P)."""
    parents = _parents(members, stride).sort(dim=1).values
    parents = parents[0] if len(parents) == 1 else parents
    end = torch.searchsorted(parents, prefixes, right=True)
    return end - torch.searchsorted(parents, prefixes)


def _as_query(rows: Tensor) -> Tensor:
    """Rows for a verifier, to which padding is negative."""
    return rows.masked_fill(rows == NO_KEY, -1)


def _row_isin(members: Tensor, keys: Tensor) -> Tensor:
    """Which keys are in their row of members: (B, W) or (1, W), (B, F) → (B, F) bool."""
    if members.shape[0] == 1:
        (row,) = members
        index = torch.searchsorted(row, keys.contiguous()).clamp_max(row.shape[0] - 1)
        return row[index] == keys
    index = torch.searchsorted(members, keys.contiguous()).clamp_max(members.shape[1] - 1)
    return members.gather(1, index) == keys


def _children_isin(
    members: Tensor, prefixes: Tensor, level: int, radices: tuple[int, ...]
) -> Tensor:
    """Which continuations are in their row of members: (B, W) or (1, W), (B, K) → (B, K·C) bool.

    Looks for each member's parent among the prefixes, which are far fewer than their continuations.
    """
    n_codes, stride = radices[level - 1], radix_strides(radices)[level - 1]
    batch, beams = prefixes.shape
    members = members.expand(batch, -1)
    parents = (members % stride).masked_fill(members == NO_KEY, -2)  # (B, W); -1 is a dead beam
    ordered, order = prefixes.sort(dim=1)
    index = torch.searchsorted(ordered, parents).clamp_max(beams - 1)
    number = order.gather(1, index) * n_codes + members // stride
    outside = beams * n_codes  # one place beyond all continuations
    number = number.masked_fill(ordered.gather(1, index) != parents, outside)
    isin = torch.zeros(batch, outside + 1, dtype=torch.bool, device=prefixes.device)
    return isin.scatter_(1, number, True)[:, :outside]
