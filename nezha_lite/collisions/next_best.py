"""Who has to leave a shared ID moves to the nearest one that is free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from nezha_lite.collisions.detours import Codes, CostsAfter, nearest_free
from nezha_lite.collisions.occupancy import Occupancy
from nezha_lite.quantizers import Quantizer

_ROWS_AT_ONCE = 1024  # bounds the (rows, C) costs held per level
_MOST_AHEAD = 32  # prefixes of one search that one call computes


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
            yield item, _Costs(quantizer, vectors[item : item + 1], known)


class _Costs:
    """The costs of one vector after any prefix, each computed once.

    A search opens siblings in the order of their costs, so a prefix that is missing is computed
    together with those that would be opened next: a few at first, more when the search goes on.
    """

    def __init__(
        self, quantizer: Quantizer, vector: Tensor, known: dict[Codes, np.ndarray]
    ) -> None:
        self.quantizer, self.vector, self.known = quantizer, vector, known
        self.ahead = 2

    def __call__(self, prefix: Codes) -> np.ndarray:
        """float64 (C,) after `prefix`, whose own prefixes were asked for before."""
        if prefix not in self.known:
            *parent, code = prefix
            costs = self.known[tuple(parent)]
            order = np.argsort(costs, kind="stable")
            start = int(np.flatnonzero(order == code)[0])
            following = order[start : start + self.ahead]
            asked = [(*parent, int(c)) for c in following if np.isfinite(costs[c])]
            asked = [codes for codes in asked if codes not in self.known]
            vectors = self.vector.expand(len(asked), -1)
            found = self.quantizer.level_costs(vectors, torch.tensor(asked)).numpy()
            self.known.update(zip(asked, found, strict=True))
            self.ahead = min(2 * self.ahead, _MOST_AHEAD)
        return self.known[prefix]
