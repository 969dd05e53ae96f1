"""Who has to leave a shared ID moves to the nearest one that is free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from nezha_lite.semantic_ids.collisions.nearest_free import (
    Codes,
    CostsAfter,
    Occupancy,
    nearest_free,
)
from nezha_lite.semantic_ids.quantizers import Quantizer

_ROWS_AT_ONCE = 1024  # bounds the (rows, C) costs held per level


def move_to_free(
    codes: Tensor,
    quantizer: Quantizer,
    vectors: Tensor,
    order: Sequence[int],
    occupancy: Occupancy,
) -> Tensor:
    """Give every item a free ID: its own where it comes first, else the nearest that is left.

    Args:
        codes: (N, L) int64, the quantizer's.
        vectors: (N, D), what the codes were made from.
        order: the N items; who comes first chooses first.
        occupancy: the IDs that are taken already; those given here are added to it.

    Returns:
        (N, L) int64; items for which no ID was left keep their codes.
    """
    radices = tuple(quantizer.radices)
    rows = list(map(tuple, codes.tolist()))
    moving = []
    # All who can stay are settled before anyone moves: nobody loses its own ID to a guest.
    for item in order:
        if occupancy.is_full(len(radices), occupancy.key(rows[item])):
            moving.append(item)
        else:
            occupancy.take(rows[item])
    # Equal vectors have equal neighbours: the second continues the search where the first stopped.
    content = {item: vectors[item].detach().cpu().numpy().tobytes() for item in moving}
    waiting = Counter(content.values())
    searches: dict[bytes, Iterator[Codes]] = {}
    named = codes.clone()
    for item, costs_after in _with_costs(moving, codes, quantizer, vectors):
        same = content[item]
        search = searches.pop(same, None) or nearest_free(radices, costs_after, occupancy)
        free = next(search, None)
        if free is None:
            break  # every ID is taken
        occupancy.take(free)
        named[item] = torch.tensor(free)
        waiting[same] -= 1
        if waiting[same]:
            searches[same] = search
    return named


def _with_costs(
    items: list[int], codes: Tensor, quantizer: Quantizer, vectors: Tensor
) -> Iterator[tuple[int, CostsAfter]]:
    """Each item with its costs; those along its own codes come from one call for many items."""
    levels = range(codes.shape[1])
    for start in range(0, len(items), _ROWS_AT_ONCE):
        some = items[start : start + _ROWS_AT_ONCE]
        own = codes[some]
        costs = [quantizer.level_costs(vectors[some], own[:, :level]).numpy() for level in levels]
        for row, item in enumerate(some):
            path = own[row].tolist()
            known = {tuple(path[:level]): costs[level][row] for level in levels}
            yield item, _costs_after(quantizer, vectors[item : item + 1], known)


def _costs_after(
    quantizer: Quantizer, vector: Tensor, known: dict[Codes, np.ndarray]
) -> CostsAfter:
    def costs_after(prefix: Codes) -> np.ndarray:
        if prefix in known:
            return known[prefix]
        asked = torch.tensor([prefix], dtype=torch.int64)  # (1, l)
        costs: np.ndarray = quantizer.level_costs(vector, asked)[0].numpy()
        return costs

    return costs_after
