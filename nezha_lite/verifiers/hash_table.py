"""Robin Hood hashing in tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from nezha_lite.verifiers.incremental import IncrementalVerifier
from nezha_lite.verifiers.sorted_ops import key_type

LOAD = 0.6  # of a table's places at most
SPARE = 2  # places of a window beyond the longest probe, so that later keys rarely need a rebuild
EMPTY = -1


class HashTableVerifier(IncrementalVerifier):
    """Open addressing with linear probing, a table a level, without a loop over keys.

    A key lies within a fixed number of places after its home, its window, and a look-up reads the
    whole window: no early exit, so nothing waits for the device, and no tombstones, so a key that
    leaves is simply erased. What keeps windows short is Robin Hood hashing (Celis, 1986): keys lie
    in the order of their homes, which makes the longest of 10^7 probes about 17 at load 0.6, where
    first come, first served takes over a hundred.

    Memory: a table is a power of two of places, at most `LOAD` full; 4 bytes a place where the
    level's keys fit 32 bits, else 8, and 4 more for the continuations of a shorter prefix.
    """

    def _build(self, keys: Tensor) -> None:
        tables: list[_Table] = []
        children = None
        for level in range(len(self.radices), 0, -1):
            tables.insert(0, _Table(keys, children, key_type(self._n_prefixes(level))))
            keys, children = self._parents(level, keys)
        self._use(tuple(tables))

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""
        inside = (keys >= 0) & (keys < self._n_prefixes(level))
        hits = self._tables[level - 1].hits(self.tensors[level - 1], keys.flatten())
        return hits.any(dim=1).view(keys.shape) & inside

    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        old = self._tables[level - 1]
        keys, children = old.insert(keys, children)
        if keys.numel():
            new = old.rebuilt(keys, children)
            self._use(tuple(new if table is old else table for table in self._tables))

    def _erase(self, level: int, keys: Tensor) -> None:
        self._tables[level - 1].erase(keys)

    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        return self._tables[level - 1].count(keys, more)

    def _use(self, tables: tuple[_Table, ...]) -> None:
        self._tables = tables
        self.tensors = [table.slots for table in tables]
        self._children = [table.children for table in tables if table.children is not None]
        self._renew_signature()


class _Table:
    """A set of keys, or a table of keys and their numbers of continuations.

    Attributes:
        slots: (capacity + window − 1,) keys; `EMPTY` where there is none.
        children: (capacity + window − 1,) int32, or none at all for finished IDs.
        window: how many places from its home a key may lie.

    Args:
        keys: (N,) int64, all different.
        children: (N,) or None.
        dtype: of the slots.
    """

    def __init__(self, keys: Tensor, children: Tensor | None, dtype: torch.dtype) -> None:
        self.n_keys = keys.numel()
        self.capacity = 8
        while self.n_keys > LOAD * self.capacity:
            self.capacity *= 2
        homes, order = self._homes(keys).sort()
        # Keys in the order of their homes, each at home or next to the one before it.
        rank = torch.arange(self.n_keys, device=keys.device)
        places = rank + (homes - rank).cummax(0).values if self.n_keys else homes
        longest = int((places - homes).max()) if self.n_keys else 0
        self.window = longest + 1 + SPARE
        size = self.capacity + self.window - 1
        self.slots = torch.full((size,), EMPTY, dtype=dtype, device=keys.device)
        self.slots[places] = keys[order].to(dtype)
        self.children = None
        if children is not None:
            self.children = torch.zeros(size, dtype=torch.int32, device=keys.device)
            self.children[places] = children[order].int()

    def hits(self, slots: Tensor, keys: Tensor) -> Tensor:
        """Which slot of its window each key lies in: (M,) int64 → (M, window) bool."""
        return self._windows(slots, keys) == keys.to(slots.dtype).unsqueeze(-1)

    def count(self, keys: Tensor, more: Tensor) -> Tensor:
        """Count `more` continuations of keys that are here, and say which have any now."""
        assert self.children is not None, "finished IDs have no continuations"
        places = self._places(keys)
        self.children[places] += more.int()
        return self.children[places] > 0

    def erase(self, keys: Tensor) -> None:
        """Let keys that are here go."""
        self.slots[self._places(keys)] = EMPTY
        self.n_keys -= keys.numel()

    def insert(self, keys: Tensor, children: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys that are not in the table yet; return those that did not fit."""
        if self.n_keys + keys.numel() > LOAD * self.capacity:
            return keys, children
        self.n_keys += keys.numel()
        while keys.numel():
            windows, homes = self._windows(self.slots, keys).long(), self._homes(keys)
            # The stored key with the latest home moves on: its own window reaches furthest.
            # An empty slot is better than any of them.
            latest = self._homes(windows).masked_fill(windows == EMPTY, self.capacity)
            latest, offsets = latest.max(dim=1)
            if (latest <= homes).any():
                break
            places, order = (homes + offsets).sort()
            # Of several keys that want one place, one gets it, the others try again.
            first = torch.ones_like(places, dtype=torch.bool)
            first[1:] = places.diff() > 0
            places, winners, losers = places[first], order[first], order[~first]
            evicted = self.slots[places].long()
            evicted_children = torch.zeros_like(evicted)
            self.slots[places] = keys[winners].to(self.slots.dtype)
            if self.children is not None:
                evicted_children = self.children[places].long()
                self.children[places] = children[winners].int()
            moved = evicted != EMPTY
            keys = torch.cat([keys[losers], evicted[moved]])
            children = torch.cat([children[losers], evicted_children[moved]])
        return keys, children

    def rebuilt(self, keys: Tensor, children: Tensor) -> _Table:
        """A table of all keys here and some more, as large as they need."""
        here = self.slots != EMPTY
        keys = torch.cat([self.slots[here].long(), keys])
        if self.children is None:
            return _Table(keys, None, self.slots.dtype)
        return _Table(keys, torch.cat([self.children[here].long(), children]), self.slots.dtype)

    def _windows(self, slots: Tensor, keys: Tensor) -> Tensor:
        return slots.unfold(0, self.window, 1).index_select(0, self._homes(keys))

    def _places(self, keys: Tensor) -> Tensor:
        return self._homes(keys) + self.hits(self.slots, keys).to(torch.uint8).argmax(dim=1)

    def _homes(self, keys: Tensor) -> Tensor:
        return _mixed(keys) & (self.capacity - 1)


def _mixed(keys: Tensor) -> Tensor:
    """All 64 bits of a key stirred into all others, one to one: MurmurHash3's finalizer."""
    keys = (keys ^ _upper_half(keys)) * -0xAE502812AA7333  # 0xff51afd7ed558ccd, wrapped
    keys = (keys ^ _upper_half(keys)) * -0x3B314601E57A13AD  # 0xc4ceb9fe1a85ec53, wrapped
    return keys ^ _upper_half(keys)


def _upper_half(keys: Tensor) -> Tensor:
    """Bits 33 to 63, moved down; `>>` alone would drag the sign along."""
    return (keys >> 33) & 0x7FFFFFFF
