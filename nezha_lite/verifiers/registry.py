"""All structures by name, and which to take."""

from __future__ import annotations

import math

import torch

from nezha_lite.verifiers.base import Catalogue, Verifier
from nezha_lite.verifiers.bitset import BitsetVerifier
from nezha_lite.verifiers.hash_set import HashSetVerifier
from nezha_lite.verifiers.hash_table import HashTableVerifier
from nezha_lite.verifiers.incremental import IncrementalVerifier
from nezha_lite.verifiers.isin import IsinVerifier
from nezha_lite.verifiers.sorted_keys import SortedVerifier
from nezha_lite.verifiers.trie import TrieVerifier

VERIFIER_KINDS: dict[str, type[IncrementalVerifier]] = {
    "hash-set": HashSetVerifier,
    "bitset": BitsetVerifier,
    "sorted": SortedVerifier,
    "hash-table": HashTableVerifier,
    "trie": TrieVerifier,
    "isin": IsinVerifier,
}

DENSE = 0.25  # share of the ID space


def make_verifier(kind: str, catalogue: Catalogue, device: torch.device | str = "cpu") -> Verifier:
    """A verifier of one of `VERIFIER_KINDS`, or "auto".

    "auto" takes the bitset where items fill at least a quarter of the ID space, else the trie, on
    any device. These two are left of what `nezha-lite bench verify` measures: all others test K · C
    numbers one by one. The bitset reads the whole grid fast, so its time is that of ranking the
    grid afterwards; the trie's list takes longer to make, but only what exists is ranked. A step of
    512 beams takes both as long when the list is about a third of the grid, which a catalogue
    filling a quarter of its space reaches, and at 0.1 %, where real catalogues are, the trie's step
    is several times faster. Spaces too large for a bitset are never dense.

    A catalogue that changes often may want the bitset before that: its IDs come and go in place.

    Raises:
        ValueError: for an unknown kind, and what the structure itself raises.
    """
    if kind == "auto":
        dense = catalogue.keys.numel() >= DENSE * math.prod(catalogue.radices)
        kind = "bitset" if dense else "trie"
    if kind not in VERIFIER_KINDS:
        names = ", ".join(["auto", *VERIFIER_KINDS])
        raise ValueError(f"There is no verifier {kind!r}: the kinds are {names}.")
    return VERIFIER_KINDS[kind](catalogue, device)
