"""From the keys that a decoder returns to lists of items."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds

NOT_FOUND = -1


def ranked_items(
    keys: Tensor,
    semantic_ids: SemanticIds,
    popularity: Sequence[int] | None = None,
    removed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The items of all keys, in the keys' order; those that share an ID are neighbours.

    Args:
        keys: (B, K) int64; -1 is padding.
        semantic_ids: the catalogue.
        popularity: how often each item occurs in training: items that share an ID are ordered by
            it, the most popular first, instead of by the catalogue.
        removed: (N,) bool on the CPU, the items that are not returned.

    Returns:
        The items (S,) int64, and the slot b · K + k of each one's key (S,) int64, both on the CPU.
    """
    items, counts = semantic_ids.items_of_keys(keys)
    slots = torch.arange(keys.numel()).repeat_interleave(counts.flatten())
    if popularity is not None:
        shared = counts.flatten()[slots] > 1
        order = sorted(  # stable: equally popular items stay in catalogue order
            shared.nonzero().flatten().tolist(),
            key=lambda index: (int(slots[index]), -popularity[int(items[index])]),
        )
        items = items.masked_scatter(shared, items[order])
    if removed is not None:
        stays = ~removed[items]
        items, slots = items[stays], slots[stays]
    return items, slots


def item_lists(
    keys: Tensor,
    semantic_ids: SemanticIds,
    popularity: Sequence[int] | None = None,
    removed: Tensor | None = None,
) -> list[list[int]]:
    """(B, K) int64 keys → B lists of items, best first.

    Items that share an ID follow each other, see `ranked_items`; an ID without items leaves a -1;
    padding (key -1) is dropped.
    """
    items, slots = ranked_items(keys, semantic_ids, popularity, removed)
    lost = keys.cpu().flatten() >= 0
    lost[slots] = False
    empty = lost.nonzero().flatten()  # slots of IDs without items
    items = torch.cat([items, torch.full_like(empty, NOT_FOUND)])
    order = torch.cat([slots, empty]).argsort(stable=True)
    rows = torch.cat([slots, empty]) // max(1, keys.shape[1])
    lengths = rows.bincount(minlength=len(keys)).tolist()
    return [row.tolist() for row in items[order].split(lengths)]
