"""The hash table where hashing could go wrong."""

import pytest
import torch

from nezha_lite.verifiers import CatalogueKeys, HashTableVerifier
from nezha_lite.verifiers.hash_table import LOAD
from tests.helpers.id_spaces import as_keys, check_answers

PATTERNS = {
    "side by side": torch.arange(100_000),
    "same low bits": torch.arange(100_000) << 24,
    "same high bits": (1 << 40) + torch.arange(100_000),
    "one bit each": 1 << torch.arange(62),
    "two clusters": torch.cat([torch.arange(50_000), (1 << 61) + torch.arange(50_000)]),
    "squares": torch.arange(100_000) ** 2,
}


@pytest.mark.parametrize("keys", PATTERNS.values(), ids=PATTERNS)
def test_patterns_in_the_keys_do_not_lengthen_probes(keys: torch.Tensor) -> None:
    verifier = HashTableVerifier(CatalogueKeys(keys, (2**62,)))
    assert verifier.contains(keys).all()
    others = torch.cat([keys + 1, keys * 2, keys + 2**61])
    assert torch.equal(verifier.contains(others), torch.isin(others, keys))
    # Random keys at the same load have probes of 14 or so; linear hashing of these, thousands.
    assert verifier._tables[0].window <= 24


def test_keys_that_share_a_home_push_each_other_on() -> None:
    # Prefixes with two finished IDs each: they must keep their counts wherever they are pushed.
    space = (2_000, 2)
    table = HashTableVerifier(CatalogueKeys(as_keys([1]), space))._tables[0]
    assert table.capacity == 8
    everyone = torch.arange(2_000)
    third = everyone[table._homes(everyone) == 3].tolist()
    fourth = everyone[table._homes(everyone) == 4].tolist()
    verifier = HashTableVerifier(CatalogueKeys(as_keys([]), space))
    ids: set[int] = set()
    prefixes = [*fourth[:2], *third[:2], fourth[2], *third[2:6]]
    for prefix in prefixes:
        verifier.add(as_keys([prefix, prefix + 2_000]))
        ids |= {prefix, prefix + 2_000}
        check_answers(verifier, ids, range(40))
    for key in [*prefixes, *(prefix + 2_000 for prefix in prefixes)]:
        verifier.remove(as_keys([key]))
        ids.remove(key)
        check_answers(verifier, ids, range(40))


def test_a_table_changes_in_place_until_it_is_full() -> None:
    generator = torch.Generator().manual_seed(4)
    keys = torch.randint(0, 2**30, (80_000,), generator=generator).unique()
    keys = keys[torch.randperm(len(keys), generator=generator)]
    verifier = HashTableVerifier(CatalogueKeys(keys[:36_000], (2**30,)))
    memory, slots = verifier.nbytes, verifier._tables[0].slots
    signature = verifier.signature
    room = int(LOAD * verifier._tables[0].capacity)
    assert 36_000 < room < 40_000
    for first in range(0, 30_000, 1_000):
        verifier.remove(keys[first : first + 1_000])
        verifier.add(keys[first + 36_000 : first + 38_000])
        verifier.remove(keys[first + 37_000 : first + 38_000])
        now = slice(first + 1_000, first + 37_000)
        assert torch.equal(
            verifier.contains(keys),
            torch.isin(keys, keys[now]),
        )
    assert verifier.signature == signature
    assert verifier.nbytes == memory
    assert verifier._tables[0].slots is slots
    verifier.add(keys[: room + 1])
    assert verifier.signature != signature
    assert verifier.nbytes > 1.9 * memory
    verifier.add(keys)
    assert verifier.contains(keys).all()
    assert verifier.n_ids == len(keys)


def test_a_full_table_at_load_six_tenths_has_short_windows() -> None:
    generator = torch.Generator().manual_seed(5)
    keys = torch.randint(0, 512**3, (650_000,), generator=generator).unique()[:629_000]
    verifier = HashTableVerifier(CatalogueKeys(keys, (512, 512, 512)))
    table = verifier._tables[-1]
    assert verifier.n_ids > 0.599 * table.capacity
    assert table.window <= 20
    assert verifier.nbytes <= 16 * len(keys)
