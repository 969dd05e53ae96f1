"""Which structure a name stands for."""

import re

import pytest
import torch

from nezha_lite.verifiers import (
    VERIFIER_KINDS,
    BitsetVerifier,
    CatalogueKeys,
    TrieVerifier,
    make_verifier,
)


@pytest.mark.parametrize("kind", VERIFIER_KINDS)
def test_every_name_makes_its_structure(kind: str) -> None:
    verifier = make_verifier(kind, CatalogueKeys(torch.tensor([3]), (2, 4)))
    assert type(verifier) is VERIFIER_KINDS[kind]


def test_an_unknown_name() -> None:
    message = "There is no verifier 'tree': the kinds are auto, hash-set, bitset, sorted, "
    with pytest.raises(ValueError, match=re.escape(message)):
        make_verifier("tree", CatalogueKeys(torch.tensor([3]), (2, 4)))


@pytest.mark.parametrize(
    ("items", "radices", "expected"),
    [
        (15, (4, 4, 4), TrieVerifier),
        (16, (4, 4, 4), BitsetVerifier),
        (64, (4, 4, 4), BitsetVerifier),
        (50, (512, 512, 512), TrieVerifier),
        (50, (2**20, 2**20, 2**20), TrieVerifier),  # no bitset could hold it
    ],
)
def test_dense_catalogues_get_a_bitset(
    items: int, radices: tuple[int, ...], expected: type[object]
) -> None:
    verifier = make_verifier("auto", CatalogueKeys(torch.arange(items), radices))
    assert type(verifier) is expected
    assert verifier.contains(torch.tensor([items - 1, items])).tolist() == [True, False]
