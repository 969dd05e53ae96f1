"""One bit for every prefix that could be written."""

from __future__ import annotations

import torch
from torch import Tensor

from nezha_lite.verifiers.base import Candidates
from nezha_lite.verifiers.incremental import IncrementalVerifier, taken

# 2^36 bits, 8 GiB: what a large GPU can spare. Beyond it the space is almost empty anyway.
MOST_BYTES = 2**33


class BitsetVerifier(IncrementalVerifier):
    """One bit for every prefix that could be written: its cost knows nothing of the catalogue.

    A prefix's continuations are neighbouring bits, so that `candidates` reads one short row a beam
    and no arithmetic on keys is needed. IDs come and go in place.

    Memory: T_1 · … · T_l / 8 bytes for level l, T_l rounded up to a multiple of 8.

    Raises:
        ValueError: also where that is more than `MOST_BYTES`.
    """

    def _build(self, keys: Tensor) -> None:
        self._row_bytes = [-(-radix // 8) for radix in self.radices]
        # A row for every prefix, and one that stays empty for whatever is no prefix.
        sizes = [
            (rows + 1) * width for rows, width in zip(self.strides, self._row_bytes, strict=True)
        ]
        if sum(sizes) > MOST_BYTES:
            raise ValueError(
                f"A bitset of radices {self.radices} takes {sum(sizes) / 2**30:,.1f} GiB, more "
                f"than the {MOST_BYTES // 2**30} it may: take a trie, whose size follows the "
                "catalogue instead."
            )
        self._bits = [torch.zeros(size, dtype=torch.uint8, device=self.device) for size in sizes]
        byte = torch.arange(256, device=self.device).unsqueeze(1)
        self._bits_of_byte = ((byte >> torch.arange(8, device=self.device)) & 1).bool()  # (256, 8)
        for level in range(len(self.radices), 0, -1):
            self._write(level, keys, 1)
            keys, _ = self._parents(level, keys)

    @property
    def nbytes(self) -> int:
        """See `Verifier.nbytes`."""
        return sum(bits.nbytes for bits in self._bits) + self._bits_of_byte.nbytes

    def prefix_contains(self, level: int, keys: Tensor) -> Tensor:
        """See `Verifier.prefix_contains`."""
        inside, parent, code = self._split(level, keys)
        byte = taken(self._bits[level - 1], parent * self._row_bytes[level - 1] + (code >> 3))
        return ((byte >> (code & 7).to(torch.uint8)) & 1).bool() & inside

    def candidates(self, level: int, prefixes: Tensor) -> Candidates:
        """See `Verifier.candidates`: the whole grid, a row of bits for each prefix."""
        stride, radix = self.strides[level - 1], self.radices[level - 1]
        inside = (prefixes >= 0) & (prefixes < stride)
        rows = self._rows(level, prefixes.masked_fill(~inside, stride).flatten())  # (B·K, bytes)
        bits = self._bits_of_byte.index_select(0, rows.flatten().int())  # (B·K·bytes, 8)
        bits = bits.view(*prefixes.shape, 8 * self._row_bytes[level - 1])[..., :radix]  # (B, K, C)
        return Candidates(bits.flatten(1))

    def _rows(self, level: int, parents: Tensor) -> Tensor:
        """The bits below some prefixes: (M,) → (M, bytes of a row)."""
        return self._bits[level - 1].view(-1, self._row_bytes[level - 1]).index_select(0, parents)

    def _insert(self, level: int, keys: Tensor, children: Tensor) -> None:
        self._write(level, keys, 1)

    def _erase(self, level: int, keys: Tensor) -> None:
        self._write(level, keys, -1)

    def _count(self, level: int, keys: Tensor, more: Tensor) -> Tensor:
        return self._rows(level + 1, keys).bool().any(dim=1)

    def _write(self, level: int, keys: Tensor, sign: int) -> None:
        _, parent, code = self._split(level, keys)
        byte = parent * self._row_bytes[level - 1] + (code >> 3)
        # Several keys may share a byte, but each turns a bit of its own: adding cannot carry.
        value = (torch.full_like(code, sign) << (code & 7)) & 255
        self._bits[level - 1].scatter_add_(0, byte, value.to(torch.uint8))
