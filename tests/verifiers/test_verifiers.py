"""Verifiers against the whole ID space, and against plain sets."""

import itertools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import VERIFIER_KINDS, CatalogueKeys, make_verifier
from tests.helpers.id_spaces import (
    FAST_KINDS,
    KINDS,
    as_keys,
    catalogues,
    check_answers,
    every_kind,
    key_lists,
)


@st.composite
def named_catalogues(draw: st.DrawFn) -> SemanticIds:
    radices = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, radix - 1) for radix in radices))
    return SemanticIds.from_codes(draw(st.lists(row, min_size=1, max_size=12)), radices)


@given(ids=named_catalogues())
@settings(max_examples=40)
def test_every_prefix_of_the_whole_space(ids: SemanticIds) -> None:
    rows = ids.codes.tolist()
    for kind in KINDS:
        verifier = make_verifier(kind, ids)
        assert verifier.radices == ids.radices
        assert verifier.n_ids == ids.n_distinct
        for level in range(1, ids.levels + 1):
            every = list(itertools.product(*(range(radix) for radix in ids.radices[:level])))
            exists = [any(tuple(row[:level]) == prefix for row in rows) for prefix in every]
            keys = ids.keys_of(torch.tensor(every))
            assert verifier.prefix_contains(level, keys).tolist() == exists
            if level == ids.levels:
                assert verifier.contains(keys).tolist() == exists


@given(catalogue=catalogues(), data=st.data())
@settings(max_examples=80)
def test_all_structures_answer_as_sets_do(catalogue: CatalogueKeys, data: st.DataObject) -> None:
    verifiers = every_kind(catalogue)
    probes = data.draw(key_lists(verifiers["hash-set"].space))
    for verifier in verifiers.values():
        check_answers(verifier, catalogue.keys.tolist(), probes)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_kept(kind: str) -> None:
    ids = SemanticIds.from_codes([[0, 1], [2, 3]], (3, 4))
    verifier = make_verifier(kind, ids)
    keys = torch.arange(12)
    expected = torch.zeros(12, dtype=torch.bool)
    expected[[3, 11]] = True
    for shape in ((12,), (3, 4), (2, 3, 2), (1, 12, 1)):
        found = verifier.contains(keys.view(shape))
        assert found.dtype == torch.bool
        assert torch.equal(found, expected.view(shape))
    # Columns that do not lie one after the other in memory, as a decoder's gathers may leave them.
    assert torch.equal(verifier.contains(keys.view(3, 4).T), expected.view(3, 4).T)
    assert verifier.contains(torch.tensor(3)).shape == ()
    assert verifier.contains(keys[:0]).shape == (0,)
    assert verifier.contains(keys[:0].view(2, 0)).shape == (2, 0)
    prefixes = torch.tensor([[2, 0], [0, 1]]).T
    verifier.candidates(2, prefixes)
    assert verifier.candidates(2, prefixes[:0]).exists.shape[0] == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bitset"])
@pytest.mark.parametrize("radices", [(2**63 - 1,), (2**32 - 1, 2**31), (1, 2**63 - 1, 1)])
def test_keys_near_the_largest_integer(kind: str, radices: tuple[int, ...]) -> None:
    space = (2**32 - 1) * 2**31 if len(radices) == 2 else 2**63 - 1
    ids = {space - 1, space - 2**31, 0}
    verifier = VERIFIER_KINDS[kind](CatalogueKeys(as_keys(ids), radices))
    keys = as_keys([2**63 - 1, space - 1, space - 2, 0, -1])
    assert verifier.contains(keys).tolist() == [False, True, False, True, False]
    if kind == "trie":  # the others would test every code of a level
        for level, radix in enumerate(radices, start=1):
            stride = space // radix if level == 2 and len(radices) == 2 else 1
            prefixes = torch.tensor([[(space - 1) % stride]])
            found = verifier.candidates(level, prefixes)
            codes = {key // stride % radix for key in ids if key % stride == (space - 1) % stride}
            assert sorted(found.index[found.exists].tolist()) == sorted(codes)
    verifier.remove(as_keys([space - 1]))
    assert verifier.contains(keys).tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("radices", [(128, 128, 128), (100, 90, 80)])
def test_a_catalogue_of_200_000(radices: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    space = radices[0] * radices[1] * radices[2]
    keys = torch.randint(0, space, (200_000,), generator=generator)
    keys = torch.cat([keys, keys[:5_000]])
    prefixes = torch.unique(keys % (space // radices[2]))[:64].view(2, 32)
    existing = torch.zeros(space, dtype=torch.bool)
    existing[keys] = True
    probes = torch.randint(0, space, (20_000,), generator=generator)
    grid = prefixes.unsqueeze(-1) + torch.arange(radices[2]) * (space // radices[2])
    for kind in FAST_KINDS:
        verifier = make_verifier(kind, CatalogueKeys(keys, radices))
        assert verifier.n_ids == int(existing.sum())
        assert torch.equal(verifier.contains(probes), existing[probes])
        found = verifier.candidates(3, prefixes)
        exists = found.exists
        if found.index is not None:
            exists = torch.zeros(2, 32 * radices[2], dtype=torch.bool)
            for row in range(2):
                exists[row, found.index[row][found.exists[row]]] = True
        assert torch.equal(exists, existing[grid].flatten(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (as_keys([3, 24]), "Key 24 lies outside the ID space of radices (4, 6), where keys are 0 "),
        (as_keys([-1, 3]), "Key -1 lies outside"),
        (torch.tensor([[3]]), "keys is (1, 1) of torch.int64, but must be (N,) of torch.int64."),
        (torch.tensor([3.0]), "keys is (1,) of torch.float32"),
        (torch.tensor([3], dtype=torch.int32), "keys is (1,) of torch.int32"),
    ],
)
def test_keys_that_are_none(kind: str, keys: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make_verifier(kind, CatalogueKeys(keys, (4, 6)))
    verifier = make_verifier(kind, CatalogueKeys(as_keys([3, 5]), (4, 6)))
    for change in (verifier.add, verifier.remove):
        with pytest.raises(ValueError, match=re.escape(message)):
            change(keys)
        check_answers(verifier, {3, 5}, range(24))


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_space_beyond_64_bits(kind: str) -> None:
    with pytest.raises(ValueError, match="radices \\(4294967296, 2147483648\\) span"):
        make_verifier(kind, CatalogueKeys(as_keys([3]), (2**32, 2**31)))


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_counted_and_grows_with_the_catalogue(kind: str) -> None:
    radices = (50, 50, 50)
    small = make_verifier(kind, CatalogueKeys(torch.arange(0, 125_000, 500), radices))
    large = make_verifier(kind, CatalogueKeys(torch.arange(0, 125_000, 5), radices))
    assert small.nbytes > 0
    if kind == "bitset":
        assert small.nbytes == large.nbytes
    else:
        assert 10 * small.nbytes < large.nbytes < 1000 * small.nbytes


def test_what_the_bitset_takes() -> None:
    verifier = make_verifier("bitset", CatalogueKeys(as_keys([0]), (3, 9, 16)))
    # Rows of 1, 2 and 2 bytes for 1, 3 and 27 prefixes, an empty one each, and 256 bytes unpacked.
    assert verifier.nbytes == 2 * 1 + 4 * 2 + 28 * 2 + 256 * 8
    with pytest.raises(ValueError, match=r"A bitset of radices \(8192, .* takes 64\.0 GiB, .*trie"):
        make_verifier("bitset", CatalogueKeys(as_keys([0]), (2**13, 2**13, 2**13)))
