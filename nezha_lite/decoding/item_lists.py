"""From the keys that a decoder returns to lists of items."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds

NOT_FOUND = -1


def item_lists(
    keys: Tensor,
    semantic_ids: SemanticIds,
    popularity: Sequence[int] | None = None,
    removed: Collection[int] = (),
) -> list[list[int]]:
    """(B, K) int64 keys → B lists of items, best first.

    Items that share an ID follow each other, the more popular first; an ID without item leaves a
    -1; empty places (key -1) are dropped.
    """
    lists, gone = [], frozenset(removed)
    for row in keys.tolist():
        items: list[int] = []
        for key in row:
            if key < 0:
                continue
            sharing = [item for item in semantic_ids.items_of(key) if item not in gone]
            if popularity is not None and len(sharing) > 1:
                counts = popularity
                sharing.sort(key=lambda item: -counts[item])
            items.extend(sharing or [NOT_FOUND])
        lists.append(items)
    return lists
