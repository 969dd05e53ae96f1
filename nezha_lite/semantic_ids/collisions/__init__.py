"""Collisions: several items whose codes are equal, and the four ways to deal with them.

N items in a space of Π_l C_l IDs: T_l and C_l are the codes of level l, L the quantizer's levels.

| way | unique | what stays as the quantizer said |
|---|---|---|
| "shared" | no | every ID; a decoded one stands for all of its items, the popular first |
| "extra-level" | always | all L codes; one more code numbers the items that share an ID |
| "optimal" | always, or ValueError | the first L - 1 codes; the last ones cost least in total |
| "next-best" | always, or ValueError | one item at each ID, the first; the others move nearby |

`resolve` names a whole catalogue, `add_items` names items that arrive later; `expected_rate` tells
how many collisions chance alone would make.
"""

from nezha_lite.semantic_ids.collisions.expected_rate import (
    collision_rate_of_frequencies,
    expected_collision_rate,
    expected_distinct,
    level_frequencies,
)
from nezha_lite.semantic_ids.collisions.new_items import NewItems, add_items
from nezha_lite.semantic_ids.collisions.resolve import Collisions, resolve

__all__ = [
    "Collisions",
    "NewItems",
    "add_items",
    "collision_rate_of_frequencies",
    "expected_collision_rate",
    "expected_distinct",
    "level_frequencies",
    "resolve",
]
