"""Rows of keys: sorted, each once, filled up to one width, and searched row by row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nezha_lite.semantic_ids import radix_strides

NO_KEY = 2**63 - 1  # fills rows up; the largest key that an ID can have is one less
NARROWEST = 32  # keys; one shape for all short sets, such as what a user has bought


def padded_rows(rows: Sequence[Tensor]) -> Tensor:
    """Rows of different lengths → (B, W)."""
    padded = torch.full((len(rows), max(1, *map(len, rows))), NO_KEY)
    for row, keys in zip(padded, rows, strict=True):
        row[: len(keys)] = keys
    return padded


def trimmed(rows: Tensor) -> Tensor:
    """Sorted rows cut, or filled up, to the next power of two that holds every key."""
    width = max(NARROWEST, 1 << max(longest(rows) - 1, 0).bit_length())
    filling = rows.new_full((len(rows), max(0, width - rows.shape[1])), NO_KEY)
    return torch.cat([rows[:, :width], filling], dim=1)


def longest(rows: Tensor) -> int:
    """The most keys that a row holds."""
    return int((rows != NO_KEY).sum(dim=1).max())


def sorted_once(rows: Tensor) -> Tensor:
    """Every key of a row once, in rising order; the width stays."""
    ordered = rows.sort(dim=1).values
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ordered.masked_fill(again, NO_KEY).sort(dim=1).values


def asked(rows: Tensor) -> Tensor:
    """As verifiers want it: what is no key is negative."""
    return rows.masked_fill(rows == NO_KEY, -1)


def among(members: Tensor, keys: Tensor) -> Tensor:
    """Which keys are in their row of members: (B, W) or (1, W), (B, F) → (B, F) bool."""
    if members.shape[0] == 1:
        (row,) = members
        place = torch.searchsorted(row, keys.contiguous()).clamp_max(row.shape[0] - 1)
        return row[place] == keys
    place = torch.searchsorted(members, keys.contiguous()).clamp_max(members.shape[1] - 1)
    return members.gather(1, place) == keys


def children_among(
    members: Tensor, prefixes: Tensor, level: int, radices: tuple[int, ...]
) -> Tensor:
    """Which continuations are in their row of members: (B, W) or (1, W), (B, K) → (B, K·C) bool.

    Looks for each member's parent among the prefixes, which are far fewer than their continuations.
    """
    n_codes, stride = radices[level - 1], radix_strides(radices)[level - 1]
    batch, beams = prefixes.shape
    members = members.expand(batch, -1)
    parents = (members % stride).masked_fill(members == NO_KEY, -2)  # (B, W); -1 is a dead beam
    known, order = prefixes.sort(dim=1)
    place = torch.searchsorted(known, parents).clamp_max(beams - 1)
    number = order.gather(1, place) * n_codes + members // stride
    nowhere = beams * n_codes  # one place beyond all continuations
    number = number.masked_fill(known.gather(1, place) != parents, nowhere)
    found = torch.zeros(batch, nowhere + 1, dtype=torch.bool, device=prefixes.device)
    return found.scatter_(1, number, True)[:, :nowhere]
