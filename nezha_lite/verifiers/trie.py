"""A trie in compressed rows: from a prefix straight to the continuations that exist."""

from __future__ import annotations

import torch
from torch import Tensor

from nezha_lite.verifiers.base import Candidates
from nezha_lite.verifiers.incremental import IncrementalVerifier, taken
from nezha_lite.verifiers.sorted_ops import deleted, inserted, key_type, smallest_type

# Beams up to this width get the tightest list of candidates; wider ones all children of a level.
WIDEST_BEAM = 4096


class TrieVerifier(IncrementalVerifier):
    """Lists the children that exist instead of testing those that might.

    `candidates` is one flat list a prompt, as long as the K prefixes with the most children could
    make it: a step over a catalogue that fills 0.1 % of its space ranks a few hundred numbers
    instead of K · C. Adding and removing costs one linear pass over the level.

    Memory: 1, 2 or 4 bytes a child for its code, and 8 to 16 bytes a prefix that has children.
    """

    def _build(self, keys: Tensor) -> None:
        self._levels: list[_Level] = []
        for level in range(len(self.radices), 0, -1):
            rows = self._prefix_major(level, keys)
            stride, radix = self.strides[level - 1], self.radices[level - 1]
            self._levels.insert(0, _Level(rows, radix, n_prefixes=stride))
            keys = self._levels[0].parents[:-1].long()

    @property
    def nbytes(self) -> int:
        """See `Verifier.nbytes`."""
        return sum(level.nbytes for level in self._levels)

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`: a binary search among the parent's children."""
        rows = self._levels[level - 1]
        inside, parent, code = self._split(level, keys)
        low, end = rows.children(parent)
        high = end
        for _ in range(rows.search_steps):
            middle = (low + high) // 2
            # An empty range stays as it is: its middle lies at its end.
            before = (taken(rows.codes, middle) < code) & (low < high)
            low = torch.where(before, middle + 1, low)
            high = torch.where(before, high, middle)
        return inside & (low < end) & (taken(rows.codes, low) == code)

    def candidates(self, level: int, prefixes: Tensor) -> Candidates:
        """See `Verifier.candidates`: a flat list of children, beam by beam."""
        rows, radix = self._levels[level - 1], self.radices[level - 1]
        n_beams = prefixes.shape[1]
        first, end = rows.children(prefixes)  # (B, K)
        upto = (end - first).cumsum(1)  # (B, K): children of this beam and those before it
        n_slots = rows.most_children(n_beams)
        slot = torch.arange(n_slots, device=prefixes.device).expand(len(prefixes), -1)  # (B, F)
        exists = slot < upto[:, -1:]
        parent = torch.searchsorted(upto, slot.contiguous(), right=True).clamp_max(n_beams - 1)
        child = slot + (end - upto).gather(1, parent)
        code = taken(rows.codes, child.masked_fill(~exists, 0)).long()  # (B, F)
        return Candidates(exists, parent * radix + code)

    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        rows, more = self._levels[level - 1].rows(), self._prefix_major(level, keys)
        self._set(level, inserted(rows, torch.searchsorted(rows, more), more))

    def _erase(self, level: int, keys: Tensor) -> None:
        rows = self._levels[level - 1].rows()
        places = torch.searchsorted(rows, self._prefix_major(level, keys))
        self._set(level, deleted(rows, places))

    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        first, end = self._levels[level].children(keys)
        return first < end

    def _set(self, level: int, rows: Tensor) -> None:
        stride, radix = self.strides[level - 1], self.radices[level - 1]
        self._levels[level - 1] = _Level(rows, radix, n_prefixes=stride)
        self.generation += 1

    def _prefix_major(self, level: int, keys: Tensor) -> Tensor:
        """Keys that sort by parent, then code: (M,) → (M,) parent · T_l + code, sorted."""
        stride, radix = self.strides[level - 1], self.radices[level - 1]
        return (keys % stride * radix + keys // stride).sort().values


class _Level:
    """The codes of one level, grouped by the prefix that they continue.

    Attributes:
        parents: (P + 1,) the keys of the prefixes with children, sorted; then one above them all.
        starts: (P + 2,) where each parent's children begin; the last parent has none.
        codes: (children + 1,) rising within a parent; then one that is never a child.
        search_steps: how often the longest row of children can be halved.

    Args:
        rows: parent · radix + code of every child, sorted.
        radix: T_l.
        n_prefixes: how many prefixes could be written, above the largest of which is the last one.
    """

    def __init__(self, rows: Tensor, radix: int, n_prefixes: int) -> None:
        self.radix, self.n_prefixes = radix, n_prefixes
        total = rows.new_full((1,), rows.numel())
        parents, counts = torch.unique_consecutive(rows // radix, return_counts=True)
        parents = torch.cat([parents, rows.new_full((1,), n_prefixes)])
        self.parents = parents.to(key_type(n_prefixes))
        starts = torch.cat([total * 0, counts.cumsum(0), total])
        self.starts = starts.to(smallest_type(rows.numel()))
        codes = torch.cat([rows % radix, total * 0])
        self.codes = codes.to(smallest_type(radix - 1))
        largest = counts.topk(min(WIDEST_BEAM, counts.numel())).values
        # A list of one place also where nothing exists: later levels need a beam to go on from.
        self._most_children = [1, *largest.cumsum(0).tolist(), max(1, rows.numel())]
        self.search_steps = int(largest.max()).bit_length() if largest.numel() else 0

    @property
    def nbytes(self) -> int:
        return self.parents.nbytes + self.starts.nbytes + self.codes.nbytes

    def children(self, prefixes: Tensor) -> tuple[Tensor, Tensor]:
        """Where the children of prefixes begin and end: (...) int64 → two of (...) int64."""
        nobody = self.parents.numel() - 1
        wanted = prefixes.clamp(-1, self.n_prefixes).to(self.parents.dtype)
        place = torch.searchsorted(self.parents, wanted.contiguous()).clamp_max(nobody)
        node = place.masked_fill(taken(self.parents, place) != wanted, nobody)
        return taken(self.starts, node).long(), taken(self.starts, node + 1).long()

    def most_children(self, parents: int) -> int:
        """How many children so many prefixes have together at most, and at least 1."""
        return min(
            parents * self.radix, self._most_children[min(parents, len(self._most_children) - 1)]
        )

    def rows(self) -> Tensor:
        """What the level was built from."""
        n_children = self.starts[:-1].long().diff()
        parents = self.parents[:-1].long().repeat_interleave(n_children)
        return parents * self.radix + self.codes[:-1]
