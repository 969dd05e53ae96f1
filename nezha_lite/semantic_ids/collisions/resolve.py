"""From the quantizer's codes to a catalogue's semantic IDs: one of four ways out of collisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from nezha_lite.semantic_ids.catalogue import SemanticIds
from nezha_lite.semantic_ids.collisions.assign_last_level import assign_last_codes, groups_by_prefix
from nezha_lite.semantic_ids.collisions.nearest_free import Occupancy, move_to_free
from nezha_lite.semantic_ids.quantizers import Quantizer

Collisions = Literal["extra-level", "optimal", "next-best", "shared"]


def resolve(
    codes: Tensor,
    quantizer: Quantizer,
    vectors: Tensor,
    how: Collisions,
    items: Sequence[str] | None = None,
    popularity: Sequence[float] | None = None,
) -> SemanticIds:
    """Semantic IDs from the codes that a fitted quantizer gave to a catalogue.

    What each way guarantees:

    - "shared": the IDs are exactly the quantizer's. `evaluation.item_lists` expands a decoded ID to
      all its items, the popular first.
    - "extra-level": all IDs are unique and their first L codes the quantizer's. One more code
      numbers the items of an ID from 0, the most popular first (without `popularity`: in catalogue
      order); its radix is the size of the largest group. Without a collision no level is added.
    - "optimal": all IDs are unique and their first L - 1 codes the quantizer's. The last codes cost
      the least possible in total, by `Quantizer.level_costs`, among all assignments that are
      unique (see `assign_last_level` for codes that cost inf). Groups of items with equal first
      L - 1 codes in which none collide are left alone. `popularity` plays no part.
    - "next-best": all IDs are unique. Every ID that the quantizer used stays with its most popular
      item (without `popularity`, or of equals: the first in the catalogue), so an item that does
      not collide keeps its ID. The others, in the same order, move to the nearest ID still
      free, nearest as defined in `collisions.nearest_free`.

    All are deterministic.

    Args:
        codes: (N, L) int64, `quantizer.encode(vectors)`.
        quantizer: the fitted quantizer; `radices` and `level_costs` are read.
        vectors: (N, D) float32 item vectors.
        how: the way.
        items: the N names, see `SemanticIds`.
        popularity: how often each of the N items was taken.

    Raises:
        ValueError: if `how` is unknown; if lengths differ; for "optimal", if more items share their
            first L - 1 codes than the last level has codes; for "next-best", if there are more
            items than IDs.
    """
    check_way(how)
    plain = SemanticIds.from_codes(codes, quantizer.radices, items)
    check_lengths(plain.n_items, vectors, popularity)
    if how == "shared":
        return plain
    if how == "extra-level":
        return plain.with_extra_level(popularity)
    if how == "optimal":
        _check_room_for_last_codes(plain)
        unique = assign_last_codes(plain.codes, quantizer, vectors)
    else:
        if plain.n_items > plain.space:
            raise ValueError(
                f"There are {plain.n_items} items, but radices {plain.radices} span only "
                f"{plain.space} IDs: use more levels, larger codebooks, or 'extra-level'."
            )
        order = by_popularity(plain.n_items, popularity)
        occupancy = Occupancy(plain.radices)
        unique = move_to_free(plain.codes, quantizer, vectors, order, occupancy)
    return SemanticIds(unique, plain.radices, plain.items)


def check_way(how: str) -> None:
    """ValueError unless `how` is one of `Collisions`."""
    if how not in get_args(Collisions):
        raise ValueError(f"collisions is {how!r}, but must be one of {get_args(Collisions)}.")


def check_lengths(n_items: int, vectors: Tensor, popularity: Sequence[float] | None) -> None:
    """ValueError unless there is one vector, and one popularity if any, for each item."""
    if len(vectors) != n_items:
        raise ValueError(f"vectors has {len(vectors)} rows, but there are {n_items} items.")
    if popularity is not None and len(popularity) != n_items:
        raise ValueError(f"popularity has {len(popularity)} values, but there are {n_items} items.")


def by_popularity(n_items: int, popularity: Sequence[float] | None) -> list[int]:
    """The items, most popular first; of equals, and without popularity, in catalogue order."""
    if popularity is None:
        return list(range(n_items))
    return sorted(range(n_items), key=lambda item: -popularity[item])


def _check_room_for_last_codes(plain: SemanticIds) -> None:
    groups = groups_by_prefix(plain.codes)
    prefix = max(groups, key=lambda prefix: len(groups[prefix]))
    count, radix = len(groups[prefix]), plain.radices[-1]
    if count > radix:
        shared = f"start with codes {prefix}" if prefix else "have only this one level"
        codes = "1 code" if radix == 1 else f"{radix} codes"
        raise ValueError(
            f"{count} items {shared}, but level {plain.levels} has only {codes} to tell "
            "them apart by: use 'next-best' or 'extra-level', or a last codebook of at least "
            f"{count} codes."
        )
