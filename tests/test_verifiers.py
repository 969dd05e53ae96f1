"""Verifiers against the whole ID space."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import HashSetVerifier, SortedVerifier, Verifier

VERIFIERS = (HashSetVerifier, SortedVerifier)


@st.composite
def catalogues(draw: st.DrawFn) -> SemanticIds:
    radices = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, radix - 1) for radix in radices))
    return SemanticIds.from_codes(draw(st.lists(row, min_size=1, max_size=12)), radices)


@given(ids=catalogues())
@settings(max_examples=60)
def test_every_prefix_of_the_whole_space(ids: SemanticIds) -> None:
    rows = ids.codes.tolist()
    for verifier in (HashSetVerifier(ids), SortedVerifier(ids)):
        assert verifier.radices == ids.radices
        for level in range(1, ids.levels + 1):
            every = list(itertools.product(*(range(radix) for radix in ids.radices[:level])))
            exists = [any(tuple(row[:level]) == prefix for row in rows) for prefix in every]
            keys = ids.keys_of(torch.tensor(every))
            assert verifier.prefix_contains(level, keys).tolist() == exists
            if level == ids.levels:
                assert verifier.contains(keys).tolist() == exists


@given(ids=catalogues())
@settings(max_examples=30)
def test_keys_outside_the_space_never_exist(ids: SemanticIds) -> None:
    keys = torch.tensor([-1, -2, -(2**63), 2**63 - 1, ids.space, ids.space + 1])
    if ids.space == 2**63 - 1:
        return
    for verifier in (HashSetVerifier(ids), SortedVerifier(ids)):
        assert not verifier.contains(keys).any()
        space = 1
        for level, radix in enumerate(ids.radices, start=1):
            space *= radix
            beyond = torch.tensor([-1, space, space + 1])
            assert not verifier.prefix_contains(level, beyond).any()


@pytest.mark.parametrize("verifier_class", VERIFIERS)
def test_shapes_are_kept(verifier_class: type[HashSetVerifier | SortedVerifier]) -> None:
    ids = SemanticIds.from_codes([[0, 1], [2, 3]], (3, 4))
    verifier: Verifier = verifier_class(ids)
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


@pytest.mark.parametrize("verifier_class", VERIFIERS)
def test_keys_near_the_largest_integer(
    verifier_class: type[HashSetVerifier | SortedVerifier],
) -> None:
    largest = 2**63 - 1
    verifier = verifier_class(SemanticIds.from_codes([[largest - 1]], [largest]))
    keys = torch.tensor([largest, largest - 1, largest - 2, 0, -1])
    assert verifier.contains(keys).tolist() == [False, True, False, False, False]
