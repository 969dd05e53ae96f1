"""Model-free verifiers: does this semantic ID exist? (NEZHA, section 3.3.)

    valid(s) = s ∈ V,   V: the hash set of the catalogue's keys

The answer needs no model: an ID either names an item or it does not. A verifier answers for
finished IDs (`contains`, as in the paper's abstract) and for prefixes (`prefix_contains`, by which
the authors' released code filters at every level).
"""

import math

import torch

from nezha_lite.verifiers.base import Candidates, Catalogue, CatalogueKeys, Verifier, child_keys
from nezha_lite.verifiers.bitset import BitsetVerifier
from nezha_lite.verifiers.hash_set import HashSetVerifier
from nezha_lite.verifiers.hash_table import HashTableVerifier
from nezha_lite.verifiers.request_filter import RequestFilter
from nezha_lite.verifiers.sorted_keys import IsinVerifier, SortedVerifier
from nezha_lite.verifiers.trie import TrieVerifier

__all__ = [
    "VERIFIER_KINDS",
    "BitsetVerifier",
    "Candidates",
    "Catalogue",
    "CatalogueKeys",
    "HashSetVerifier",
    "HashTableVerifier",
    "IsinVerifier",
    "RequestFilter",
    "SortedVerifier",
    "TrieVerifier",
    "Verifier",
    "child_keys",
    "make_verifier",
]

VERIFIER_KINDS: dict[str, type[Verifier]] = {
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
    any device: in `nezha-lite bench verify` these two are the fastest, since all others test K · C
    keys one by one. The bitset reads the whole grid fast, and ranking the grid takes the time. The
    trie's list takes longer to make, but only existing continuations are ranked. At a step of 512
    beams both take the same time when the list is about a third of the grid, which a catalogue that
    fills a quarter of its space reaches. At 0.1 %, the density of real catalogues, the trie's step
    is several times faster. Spaces too large for a bitset are never dense.

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
