"""Model-free verifiers: does this semantic ID exist? (NEZHA, section 3.3.)

    valid(s) = s ∈ V,   V: the hash set of the catalogue's keys

The answer needs no model: an ID either names an item or it does not. A verifier answers for
finished IDs (`contains`, the paper's abstract) and for unfinished ones (`prefix_contains`, what the
authors' released code filters by at every level).
"""

from nezha_lite.verifiers.base import Candidates, Catalogue, CatalogueKeys, Verifier, child_keys
from nezha_lite.verifiers.bitset import BitsetVerifier
from nezha_lite.verifiers.hash_set import HashSetVerifier
from nezha_lite.verifiers.hash_table import HashTableVerifier
from nezha_lite.verifiers.isin import IsinVerifier
from nezha_lite.verifiers.registry import VERIFIER_KINDS, make_verifier
from nezha_lite.verifiers.request_filter import RequestFilter
from nezha_lite.verifiers.sorted_keys import SortedVerifier
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
