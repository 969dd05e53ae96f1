"""One bit for every prefix that can be written."""

from __future__ import annotations

import torch
from torch import Tensor

from nezha_lite.verifiers.base import Candidates, Verifier
from nezha_lite.verifiers.sorted_ops import gather_1d

# 2^36 bits, 8 GiB: what a large GPU can spare. Larger spaces are almost empty anyway.
MAX_BYTES = 2**33


class BitsetVerifier(Verifier):
    """One bit for every prefix that can be written: its cost does not depend on the catalogue.

    A prefix's continuations are neighbouring bits, so `candidates` reads one short row a beam and
    needs no arithmetic on keys. IDs are always added and removed in place.

    Memory: T_1 · … · T_l / 8 bytes for level l, T_l rounded up to a multiple of 8.

    Raises:
        ValueError: also where that is more than `MAX_BYTES`.
    """

    def _build(self, keys: Tensor) -> None:
        self._row_bytes = [-(-radix // 8) for radix in self.radices]
        # A row for every prefix, and an empty one for a number that is no prefix.
        sizes = [
            (rows + 1) * width for rows, width in zip(self.strides, self._row_bytes, strict=True)
        ]
        if sum(sizes) > MAX_BYTES:
            raise ValueError(
                f"A bitset of radices {self.radices} takes {sum(sizes) / 2**30:,.1f} GiB, more "
                f"than the {MAX_BYTES // 2**30} allowed: take a trie, whose size follows the "
                "catalogue instead."
            )
        self.tensors = [torch.zeros(size, dtype=torch.uint8, device=self.device) for size in sizes]
        byte = torch.arange(256, device=self.device).unsqueeze(1)
        self.tensors.append(((byte >> torch.arange(8, device=self.device)) & 1).bool())  # (256, 8)
        for level in range(len(self.radices), 0, -1):
            self._write(level, keys, 1)
            keys, _ = self._parents(level, keys)

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""
        inside, parent, code = self._split(level, keys)
        index = parent * self._row_bytes[level - 1] + (code >> 3)
        byte = gather_1d(self.tensors[level - 1], index)
        return ((byte >> (code & 7).to(torch.uint8)) & 1).bool() & inside

    def candidates(self, level: int, prefixes: Tensor) -> Candidates:
        """See `Verifier.candidates`: the whole grid, a row of bits for each prefix."""
        stride, radix = self.strides[level - 1], self.radices[level - 1]
        inside = (prefixes >= 0) & (prefixes < stride)
        rows = self._rows(level, prefixes.masked_fill(~inside, stride).flatten())  # (B·K, bytes)
        bits = self.tensors[-1].index_select(0, rows.flatten().int())  # (B·K·bytes, 8)
        bits = bits.view(*prefixes.shape, 8 * self._row_bytes[level - 1])[..., :radix]  # (B, K, C)
        return Candidates(bits.flatten(1))

    def _rows(self, level: int, parents: Tensor) -> Tensor:
        """The bits below some prefixes: (M,) → (M, bytes of a row)."""
        bits = self.tensors[level - 1].view(-1, self._row_bytes[level - 1])
        return bits.index_select(0, parents)

    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        self._write(level, keys, 1)

    def _erase(self, level: int, keys: Tensor) -> None:
        self._write(level, keys, -1)

    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        return self._rows(level + 1, keys).bool().any(dim=1)

    def _write(self, level: int, keys: Tensor, sign: int) -> None:
        _, parent, code = self._split(level, keys)
        byte = parent * self._row_bytes[level - 1] + (code >> 3)
        # Several keys may share a byte, but each changes its own bit: adding cannot carry.
        value = (torch.full_like(code, sign) << (code & 7)) & 255
        self.tensors[level - 1].scatter_add_(0, byte, value.to(torch.uint8))
