"""Would another seed have grouped the same items?"""

from __future__ import annotations

from nezha_lite.id_quality.groups import Groups, numbered, pairs_of, pairs_within, sizes_of


def partition_stability(one: Groups, other: Groups) -> float | None:
    """The adjusted Rand index of two groupings (N,) of the same items: 1 equal, 0 as by chance.

    It is the share of grouped pairs that both groupings agree on (2 · both / (one + other), Dice's
    coefficient), corrected for chance. Pairs suit prefixes better than information does: deep
    prefixes make thousands of groups of one or two items, where the mutual information of even
    random groupings is close to its maximum, so that an index adjusted for it divides one small
    difference by another; and its correction costs the product of the numbers of groups. Items
    alone in their group make no pair, so they neither help nor harm.

    None where the two cannot help but agree: no pair shares a group in either, or all do in both.
    """
    in_one, in_other = pairs_within(sizes_of(one)), pairs_within(sizes_of(other))
    joint = numbered(one * (other.max() + 1) + other)
    in_both, total = pairs_within(sizes_of(joint)), pairs_of(len(one))
    # In whole numbers, multiplied through by `total`: no rounding, whatever the catalogue's size.
    above_chance = 2 * (in_both * total - in_one * in_other)
    at_most = (in_one + in_other) * total - 2 * in_one * in_other
    return above_chance / at_most if at_most else None
