"""The last codes of items that share all others, chosen together so that they cost least."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

import numpy as np
import torch
from torch import Tensor

from nezha_lite.semantic_ids.collisions.nearest_free import detours
from nezha_lite.semantic_ids.quantizers import Quantizer

_ROWS_AT_ONCE = 16_384  # bounds the (rows, C) costs held at once


def groups_by_prefix(codes: Tensor) -> dict[tuple[int, ...], list[int]]:
    """Items by their first L - 1 codes, in the order of `codes` (N, L)."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for item, prefix in enumerate(codes[:, :-1].tolist()):
        groups[tuple(prefix)].append(item)
    return dict(groups)


def assign_last_codes(
    codes: Tensor,
    quantizer: Quantizer,
    vectors: Tensor,
    taken: Collection[tuple[int, ...]] = frozenset(),
) -> Tensor:
    """Tell items apart by their last codes alone, at the least total cost.

    Within each group of items that share the first L - 1 codes and in which two collide, or one
    collides with an ID in `taken`, the last codes are assigned anew among the free ones: exactly,
    as an assignment problem. Of all unique assignments this one has the fewest codes without a row
    in the codebook (cost inf) and, of those, the least total detour: what the codes cost more than
    the items' own. Where every item gets a row, that is the least total cost.

    Args:
        codes: (N, L) int64, the quantizer's.
        vectors: (N, D), what the codes were made from.
        taken: IDs that no item may get.

    Returns:
        (N, L) int64. Where a prefix has fewer free codes than items, as many items as possible get
        one, at the least total detour, and the others keep the code they had.
    """
    from scipy.optimize import linear_sum_assignment

    taken_codes: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for name in taken:
        taken_codes[name[:-1]].add(name[-1])
    colliding = []
    for prefix, members in groups_by_prefix(codes).items():
        last = codes[members, -1].tolist()
        if len({*last} - taken_codes[prefix]) < len(members):
            colliding.append((prefix, members))
    named = codes.clone()
    for group in _chunks(colliding):
        rows = [item for _, members in group for item in members]
        costs = detours(quantizer.level_costs(vectors[rows], codes[rows, :-1]).numpy())  # (rows, C)
        start = 0
        for prefix, members in group:
            free = np.array([c for c in range(costs.shape[1]) if c not in taken_codes[prefix]])
            if len(free):
                asked = _finite(costs[start : start + len(members)][:, free])
                placed, columns = linear_sum_assignment(asked)
                items = torch.tensor(members)[torch.from_numpy(placed)]
                named[items, -1] = torch.from_numpy(free[columns])
            start += len(members)
    return named


def _chunks(
    groups: list[tuple[tuple[int, ...], list[int]]],
) -> Iterator[list[tuple[tuple[int, ...], list[int]]]]:
    """Groups, some at a time, at most `_ROWS_AT_ONCE` items together unless one is larger."""
    some: list[tuple[tuple[int, ...], list[int]]] = []
    rows = 0
    for group in groups:
        if some and rows + len(group[1]) > _ROWS_AT_ONCE:
            yield some
            some, rows = [], 0
        some.append(group)
        rows += len(group[1])
    if some:
        yield some


def _finite(costs: np.ndarray) -> np.ndarray:
    """Costs with each inf dearer than any assignment without one more of them."""
    outside = ~np.isfinite(costs)
    if not outside.any():
        return costs
    largest = costs[~outside].max(initial=0.0)
    return np.where(outside, 1.0 + (min(costs.shape) + 1) * largest, costs)
