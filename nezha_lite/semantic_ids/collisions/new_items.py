"""Items that arrive after fitting: they get IDs, and nothing that exists changes.

No codebook is refitted and no old ID, order or radix touched, so a model trained on the catalogue
stays valid and can recommend the new items at once, as far as their codes mean what they say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nezha_lite.semantic_ids.catalogue import SemanticIds
from nezha_lite.semantic_ids.collisions.assign_last_level import assign_last_codes
from nezha_lite.semantic_ids.collisions.nearest_free import Occupancy, move_to_free
from nezha_lite.semantic_ids.collisions.resolve import (
    Collisions,
    by_popularity,
    check_lengths,
    check_way,
)
from nezha_lite.semantic_ids.quantizers import Quantizer

_COUNTS = ("landed_on_old", "landed_together", "moved", "sharing")
_CLOSE = ("known_first_code", "known_prefix")


@dataclass(eq=False)
class NewItems:
    """The catalogue with its new items, and how they collided.

    Attributes:
        semantic_ids: old items first, as they were; then the new ones, as they came.
        encoded: (M, L) int64, the quantizer's codes of the new items, before any was moved.
        n_new, n_old: M, and the number of items before.
        landed_on_old: new items whose encoded ID is an existing item's.
        landed_together: new items whose encoded ID is another new item's too.
        moved: new items that other codes, or a number above 0 at an extra level, tell apart.
        sharing: new items whose final ID is another item's too: for these there was no room.
        known_first_code: new items whose first encoded code an existing item has.
        known_prefix: new items whose encoded codes but the last an existing item has.
    """

    semantic_ids: SemanticIds
    encoded: Tensor

    def __post_init__(self) -> None:
        ids, (self.n_new, self._levels) = self.semantic_ids, self.encoded.shape
        self.n_old = ids.n_items - self.n_new
        old, final = ids.codes.split([self.n_old, self.n_new])  # (M, L) or (M, L + 1)
        plain = torch.nn.functional.pad(self.encoded, (0, ids.levels - self._levels))
        _, rows, counts = torch.unique(ids.keys, return_inverse=True, return_counts=True)
        shares = (counts[rows] > 1)[self.n_old :]
        self.sharing = int(shares.sum())
        self.moved = int(((final != plain).any(dim=1) & ~shares).sum())
        together = Counter(map(tuple, self.encoded.tolist()))
        self.landed_together = sum(count for count in together.values() if count > 1)
        known = []
        for level in (self._levels, 1, max(1, self._levels - 1)):
            existing = {*_rows(old, level)}
            known.append(sum(codes in existing for codes in _rows(self.encoded, level)))
        self.landed_on_old, self.known_first_code, self.known_prefix = known

    def metrics(self) -> dict[str, int]:
        """All counts, ready for JSON."""
        counts = {name: getattr(self, name) for name in _COUNTS + _CLOSE}
        return {"old_items": self.n_old, "new_items": self.n_new, **counts}

    def sentence(self) -> str:
        """All counts, for people."""
        return (
            f"New items: {self.n_new}. Of these, {self.landed_on_old} were encoded to an existing "
            f"item's ID and {self.landed_together} to the same ID as another new item; "
            f"{self.moved} were told apart, {self.sharing} share their ID. The first code is an "
            f"existing item's for {self.known_first_code}, the first {max(1, self._levels - 1)} of "
            f"{self._levels} codes for {self.known_prefix}."
        )


def _rows(codes: Tensor, level: int) -> list[tuple[int, ...]]:
    return [tuple(row) for row in codes[:, :level].tolist()]


def add_items(
    semantic_ids: SemanticIds,
    quantizer: Quantizer,
    vectors: Tensor,
    names: Sequence[str],
    how: Collisions,
    popularity: Sequence[float] | None = None,
) -> NewItems:
    """Name M new items with the quantizer that named the catalogue.

    Old items' IDs, order and radices never change. A new item never takes an ID that is in use as
    long as its way offers a free one; where it has none, the item shares and is counted:

    - "shared": new items get the quantizer's IDs.
    - "extra-level": the quantizer's codes and the lowest number free at that ID; if every number
      below the level's radix is used, the number that the fewest items have. A catalogue without
      an extra level keeps none: the radices a model was trained with are fixed.
    - "optimal": new items of a prefix (first L - 1 codes) in which one collides get its free last
      codes, as many as there are, at the least total detour; the others share their encoded ID.
    - "next-best": the first new item at an unused ID keeps it, the others move to the nearest
      free ID, as in `resolve`. They share only when no ID at all is free.

    Args:
        semantic_ids: made by `resolve` or an earlier `add_items`, with the quantizer's L levels or
            one more.
        quantizer: the fitted quantizer.
        vectors: (M, D) float32; M may be 0.
        names: M names that are not in the catalogue.
        how: the way. One level more than the quantizer's needs "extra-level".
        popularity: M numbers; the most popular choose first. Default: in the order given. It plays
            no part in "shared" and "optimal".

    Raises:
        ValueError: if `how` is unknown or does not fit, if the radices are not the quantizer's, if
            lengths differ, or if a name is given twice or taken.
    """
    check_way(how)
    numbered = _has_extra_level(semantic_ids, quantizer)
    if numbered and how != "extra-level":
        raise ValueError(
            f"collisions is {how!r}, but these semantic IDs have an extra level that numbers items "
            "sharing the codes before it: only 'extra-level' can continue it."
        )
    check_lengths(len(names), vectors, popularity)
    _check_names(semantic_ids, names)
    levels = len(quantizer.radices)
    if not names:
        return NewItems(semantic_ids, torch.zeros(0, levels, dtype=torch.int64))
    encoded = quantizer.encode(vectors).cpu()
    order = by_popularity(len(names), popularity)
    codes = encoded
    if numbered:
        codes = torch.cat([encoded, _numbers(semantic_ids, encoded, order)], dim=1)
    elif how == "optimal":
        taken = set(map(tuple, semantic_ids.codes.tolist()))
        codes = assign_last_codes(encoded, quantizer, vectors, taken)
    elif how == "next-best":
        occupancy = Occupancy(semantic_ids.radices, semantic_ids)
        codes = move_to_free(encoded, quantizer, vectors, order, occupancy)
    extended = SemanticIds(
        torch.cat([semantic_ids.codes, codes]), semantic_ids.radices, (*semantic_ids.items, *names)
    )
    return NewItems(extended, encoded)


def _has_extra_level(semantic_ids: SemanticIds, quantizer: Quantizer) -> bool:
    expected = tuple(quantizer.radices)
    if semantic_ids.radices == expected:
        return False
    if semantic_ids.radices[:-1] == expected:
        return True
    raise ValueError(
        f"The semantic IDs have radices {semantic_ids.radices}, but the quantizer has {expected}: "
        "equal radices, or one extra level after them, are needed."
    )


def _check_names(semantic_ids: SemanticIds, names: Sequence[str]) -> None:
    taken = set(semantic_ids.items)
    for name in names:
        if not name or name in taken:
            raise ValueError(
                f"New item {name!r} has a name that is {'taken' if name else 'empty'}: the names "
                "of new items must differ from the catalogue's and from each other."
            )
        taken.add(name)


def _numbers(semantic_ids: SemanticIds, encoded: Tensor, order: list[int]) -> Tensor:
    """(M, 1) int64 codes of the extra level: the lowest free one, else the least shared."""
    used = Counter(map(tuple, semantic_ids.codes.tolist()))
    numbers = torch.zeros(len(encoded), 1, dtype=torch.int64)
    rows = encoded.tolist()
    for item in order:
        options = [(*rows[item], number) for number in range(semantic_ids.radices[-1])]
        chosen = min(options, key=lambda codes: used[codes])
        used[chosen] += 1
        numbers[item, 0] = chosen[-1]
    return numbers
