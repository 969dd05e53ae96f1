"""A trie in compressed rows: from a prefix straight to the continuations that exist."""

from __future__ import annotations

import torch
from torch import Tensor

from nezha_lite.verifiers.base import Candidates, Verifier
from nezha_lite.verifiers.sorted_ops import (
    deleted,
    fill,
    gather_1d,
    inserted,
    key_type,
    smallest_type,
    with_room,
)

# Beams up to this width get the shortest list of candidates; wider ones all children of a level.
WIDEST_BEAM = 4096
DIRECT = 8  # how much more memory it may take to find a prefix without a search


class TrieVerifier(Verifier):
    """Lists the children that exist instead of testing those that might.

    `candidates` is one flat list a prompt, as long as the K prefixes with the most children could
    make it, and room: a step over a catalogue that fills 0.1 % of its space ranks a few hundred
    numbers instead of K · C. Adding and removing costs one linear pass over the level, in place
    while there is room: a quarter more prefixes, IDs, and children of any K prefixes.

    `tensors` holds three for each level l, in which P prefixes have F children together:
    parents (P' + 1,), the P prefixes in ascending order, then numbers above them all;
    starts (P' + 2,), where each parent's children begin, then F;
    codes (F' + 1,), ascending within a parent, then zeros that are no children.
    P' ≥ P and F' ≥ F are capacities. Where a level's prefixes are dense enough, parents is empty
    and starts is direct, which needs no search: it has a place for every prefix that can be
    written, by its key plus one, and one at each end for numbers that are no prefix.

    Memory: 1, 2 or 4 bytes a child for its code, and 8 to 16 bytes a prefix that has children, both
    times 1.25; a direct level up to `DIRECT` times the latter.

    >>> from nezha_lite.verifiers import CatalogueKeys
    >>> verifier = TrieVerifier(CatalogueKeys(torch.tensor([3, 5, 7]), radices=(4, 6)))
    >>> children = verifier.candidates(2, torch.tensor([[3, 1]]))  # 3: codes 0 and 1; 1: code 1
    >>> children.index[children.exists].tolist()  # codes 0 and 1 after beam 0, code 1 after beam 1
    [0, 1, 7]
    """

    def _build(self, keys: Tensor) -> None:
        self.tensors = [keys[:0]] * (3 * len(self.radices))
        # For each level the most children that 0, 1, 2 … prefixes may have together.
        self._most_children: tuple[tuple[int, ...], ...] = ((),) * len(self.radices)
        for level in range(len(self.radices), 0, -1):
            self._store(level, self._prefix_major(level, keys))
            keys, _ = self._parents(level, keys)

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`: a binary search among the parent's children."""
        inside, parent, code = self._split(level, keys)
        low, end = (places.long() for places in self._children_of(level, parent))
        high, codes = end, self._codes(level)
        for _ in range(self.most_children(level, 1).bit_length()):
            middle = (low + high) // 2
            # An empty range stays as it is: its middle lies at its end.
            before = (gather_1d(codes, middle) < code) & (low < high)
            low = torch.where(before, middle + 1, low)
            high = torch.where(before, high, middle)
        return inside & (low < end) & (gather_1d(codes, low) == code)

    def candidates(self, level: int, prefixes: Tensor) -> Candidates:
        """See `Verifier.candidates`: a flat list of children, beam by beam."""
        batch, n_beams = prefixes.shape
        first, end = self._children_of(level, prefixes)  # (B, K)
        upto = (end - first).cumsum(1)  # (B, K): children of this beam and those before it
        n_slots = self.most_children(level, n_beams)
        slot = torch.arange(n_slots, device=prefixes.device)  # (F,)
        exists = slot < upto[:, -1:]  # (B, F)
        # A slot's beam: how many beams have all their children before it.
        ends = upto[:, :-1].clamp_max(n_slots)
        passed = upto.new_zeros(batch, n_slots + 1).scatter_add_(1, ends, torch.ones_like(ends))
        parents = passed[:, :n_slots].cumsum(1)  # (B, F)
        codes = self._codes(level)
        child = (slot + (end - upto).gather(1, parents)).clamp_max_(codes.numel() - 1)
        index = torch.add(gather_1d(codes, child), parents, alpha=self.radices[level - 1])
        return Candidates(exists, index, parents)

    def most_children(self, level: int, parents: int) -> int:
        """How many children so many prefixes may have together, and at least 1."""
        most = self._most_children[level - 1]
        return min(parents * self.radices[level - 1], most[min(parents, len(most) - 1)])

    def _candidate_counts(self) -> object:
        return self._most_children

    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        rows, more = self._rows(level), self._prefix_major(level, keys)
        self._store(level, inserted(rows, torch.searchsorted(rows, more), more))

    def _erase(self, level: int, keys: Tensor) -> None:
        rows = self._rows(level)
        places = torch.searchsorted(rows, self._prefix_major(level, keys))
        self._store(level, deleted(rows, places))

    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        first, end = self._children_of(level + 1, keys)
        return first < end

    def _codes(self, level: int) -> Tensor:
        return self.tensors[3 * level - 1]

    def _children_of(self, level: int, prefixes: Tensor) -> tuple[Tensor, Tensor]:
        """Where the children of prefixes begin and end: (...) int64 → two of (...) integers."""
        parents, starts, _ = self.tensors[3 * level - 3 : 3 * level]
        keys = prefixes.clamp(-1, self.strides[level - 1])
        if not parents.numel():  # direct
            node = keys + 1
        else:
            keys = keys.to(parents.dtype).contiguous()
            sentinel = parents.numel() - 1  # a parent without children
            index = torch.searchsorted(parents, keys).clamp_max(sentinel)
            node = index.masked_fill(gather_1d(parents, index) != keys, sentinel)
        return gather_1d(starts, node), gather_1d(starts, node + 1)

    def _prefix_major(self, level: int, keys: Tensor) -> Tensor:
        """Keys that sort by parent, then code: (M,) → (M,) parent · T_l + code, sorted."""
        stride, radix = self.strides[level - 1], self.radices[level - 1]
        return (keys % stride * radix + keys // stride).sort().values

    def _rows(self, level: int) -> Tensor:
        """The level as `_prefix_major` numbers."""
        parents, starts, codes = self.tensors[3 * level - 3 : 3 * level]
        n_children = starts.long().diff()
        if not parents.numel():
            parents = torch.arange(-1, self.strides[level - 1] + 1, device=self.device)
        repeated = parents.long().repeat_interleave(n_children)
        return repeated * self.radices[level - 1] + codes[: repeated.numel()]

    def _store(self, level: int, rows: Tensor) -> None:
        """Write a level, in place if it fits. `rows`: (F,) `_prefix_major` numbers, sorted."""
        stride, radix = self.strides[level - 1], self.radices[level - 1]
        parents, counts = torch.unique_consecutive(rows // radix, return_counts=True)
        largest = counts.topk(min(WIDEST_BEAM, counts.numel())).values.cumsum(0).tolist()
        if not self._fits(level, parents.numel(), rows.numel(), largest):
            self._allocate(level, rows, parents.numel(), largest)
        tensors = self.tensors[3 * level - 3 : 3 * level]
        if not tensors[0].numel():
            n_children = rows.new_zeros(stride + 1).index_add_(0, parents + 1, counts)
            parents, counts = rows[:0], n_children
        starts = torch.cat([rows.new_zeros(1), counts.cumsum(0)])
        for tensor, values, padding in zip(
            tensors, (parents, starts, rows % radix), (stride, rows.numel(), 0), strict=True
        ):
            fill(tensor, values, padding)

    def _fits(self, level: int, n_parents: int, n_children: int, largest: list[int]) -> bool:
        parents, _, codes = self.tensors[3 * level - 3 : 3 * level]
        return (
            (n_parents < parents.numel() or not parents.numel())
            and n_children < codes.numel()
            and all(n <= self.most_children(level, k) for k, n in enumerate(largest, 1))
        )

    def _allocate(self, level: int, rows: Tensor, n_parents: int, largest: list[int]) -> None:
        stride, n_prefixes = self.strides[level - 1], self._n_prefixes(level)
        n_parents = min(with_room(n_parents), stride)
        n_children = min(with_room(rows.numel()), n_prefixes)
        key, start = key_type(stride), smallest_type(n_children)
        searched = (n_parents + 2) * (key.itemsize + start.itemsize)
        direct = (stride + 3) * start.itemsize <= DIRECT * searched
        shapes = (
            (0 if direct else n_parents + 1, key),
            (stride + 3 if direct else n_parents + 2, start),
            (n_children + 1, smallest_type(self.radices[level - 1] - 1)),
        )
        self.tensors[3 * level - 3 : 3 * level] = [
            rows.new_empty(size, dtype=dtype) for size, dtype in shapes
        ]
        # A list of one place also where no child exists: later levels need a beam to extend.
        most = (1, *(min(with_room(n), n_children) for n in largest), n_children)
        self._most_children = tuple(
            most if other == level else old
            for other, old in enumerate(self._most_children, start=1)
        )
        self._renew_signature()
