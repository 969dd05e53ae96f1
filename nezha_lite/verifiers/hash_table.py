"""Robin Hood hashing in tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from nezha_lite.verifiers.base import Verifier
from nezha_lite.verifiers.sorted_ops import key_type

LOAD = 0.6  # the largest share of a table's slots in use
SPARE = 2  # slots of a window beyond the longest probe: later keys then rarely need a rebuild
EMPTY = -1


class HashTableVerifier(Verifier):
    """Open addressing with linear probing, a table a level, without a loop over keys.

    A key is stored in its window: a fixed number of slots that begins at its home, the slot of its
    hash. A look-up reads the whole window. So it has no early exit that would wait for the device,
    and a key can be erased without a tombstone. Robin Hood hashing (Celis, 1986) keeps windows
    short: keys are stored in the order of their homes. The longest of 10^7 probes is then about 17
    at load 0.6; with plain linear probing it is over a hundred.

    Memory: the number of slots is a power of two, and at most a share of `LOAD` is in use. A slot
    has 4 bytes where the level's keys fit into 32 bits, else 8, and 4 more for the number of
    continuations of a shorter prefix.
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
        window: number of slots from its home on in which a key may be stored.

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
        # Keys in the order of their homes, each in its home or in the slot after the previous key.
        rank = torch.arange(self.n_keys, device=keys.device)
        indices = rank + (homes - rank).cummax(0).values if self.n_keys else homes
        longest = int((indices - homes).max()) if self.n_keys else 0
        self.window = longest + 1 + SPARE
        size = self.capacity + self.window - 1
        self.slots = torch.full((size,), EMPTY, dtype=dtype, device=keys.device)
        self.slots[indices] = keys[order].to(dtype)
        self.children = None
        if children is not None:
            self.children = torch.zeros(size, dtype=torch.int32, device=keys.device)
            self.children[indices] = children[order].int()

    def hits(self, slots: Tensor, keys: Tensor) -> Tensor:
        """Which slot of its window holds each key: (M,) int64 → (M, window) bool."""
        return self._windows(slots, keys) == keys.to(slots.dtype).unsqueeze(-1)

    def count(self, keys: Tensor, more: Tensor) -> Tensor:
        """Count `more` continuations of keys that are here, and say which have any now."""
        assert self.children is not None, "finished IDs have no continuations"
        indices = self._indices(keys)
        self.children[indices] += more.int()
        return self.children[indices] > 0

    def erase(self, keys: Tensor) -> None:
        """Let keys that are here go."""
        self.slots[self._indices(keys)] = EMPTY
        self.n_keys -= keys.numel()

    def insert(self, keys: Tensor, children: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys that are not in the table yet; return those that did not fit."""
        if self.n_keys + keys.numel() > LOAD * self.capacity:
            return keys, children
        self.n_keys += keys.numel()
        while keys.numel():
            windows, homes = self._windows(self.slots, keys).long(), self._homes(keys)
            # The stored key with the latest home is evicted, as its window ends last. An empty slot
            # is preferred to any of them.
            latest = self._homes(windows).masked_fill(windows == EMPTY, self.capacity)
            latest, offsets = latest.max(dim=1)
            if (latest <= homes).any():
                break
            indices, order = (homes + offsets).sort()
            # Of several keys for one slot, one is stored, and the others are tried again.
            first = torch.ones_like(indices, dtype=torch.bool)
            first[1:] = indices.diff() > 0
            indices, winners, losers = indices[first], order[first], order[~first]
            evicted = self.slots[indices].long()
            evicted_children = torch.zeros_like(evicted)
            self.slots[indices] = keys[winners].to(self.slots.dtype)
            if self.children is not None:
                evicted_children = self.children[indices].long()
                self.children[indices] = children[winners].int()
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

    def _indices(self, keys: Tensor) -> Tensor:
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
