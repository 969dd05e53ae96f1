"""A living catalogue: items come and go, and every structure stays exact."""

import math

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nezha_lite.verifiers import CatalogueKeys, make_verifier
from tests.helpers.id_spaces import (
    FAST_KINDS,
    KINDS,
    RADICES,
    as_keys,
    check_answers,
    every_kind,
    key_lists,
)

IN_PLACE = ("hash-set", "bitset")  # the hash table too, as long as there is room


class ChangingCatalogue(RuleBasedStateMachine):
    """All structures through the same changes, beside a plain set of keys."""

    @initialize(radices=RADICES, data=st.data())
    def build(self, radices: list[int], data: st.DataObject) -> None:
        self.radices = tuple(radices)
        self.space = math.prod(radices)
        keys = data.draw(key_lists(self.space), label="keys")
        self.ids = set(keys)
        self.verifiers = every_kind(CatalogueKeys(as_keys(keys), self.radices))
        self.probes = keys

    @rule(data=st.data())
    def add(self, data: st.DataObject) -> None:
        self.change("add", data.draw(key_lists(self.space), label="add"))

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        keys = data.draw(key_lists(self.space), label="remove")
        if self.ids:
            keys += data.draw(st.lists(st.sampled_from(sorted(self.ids))), label="and remove")
        self.change("remove", keys)

    @rule()
    def remove_everything(self) -> None:
        self.change("remove", sorted(self.ids))

    def change(self, name: str, keys: list[int]) -> None:
        self.ids = self.ids | set(keys) if name == "add" else self.ids - set(keys)
        for verifier in self.verifiers.values():
            getattr(verifier, name)(as_keys(keys))
        self.probes = keys

    @invariant()
    def every_answer_is_right(self) -> None:
        for verifier in getattr(self, "verifiers", {}).values():
            check_answers(verifier, self.ids, self.probes)


ChangingCatalogue.TestCase.settings = settings(max_examples=40, stateful_step_count=8)
TestChangingCatalogue = ChangingCatalogue.TestCase


@pytest.mark.parametrize("kind", FAST_KINDS)
def test_many_changes_of_a_large_catalogue(kind: str) -> None:
    generator = torch.Generator().manual_seed(2)
    radices = (60, 60, 60)
    space = 60**3
    exists = torch.rand(space, generator=generator) < 0.1
    verifier = make_verifier(kind, CatalogueKeys(exists.nonzero().flatten(), radices))
    for share in (0.001, 0.2, 0.05, 0.5):
        for value, change in ((True, verifier.add), (False, verifier.remove)):
            chosen = torch.rand(space, generator=generator) < share
            keys = chosen.nonzero().flatten()
            change(keys[torch.randperm(len(keys), generator=generator)])
            exists[chosen] = value
            assert verifier.n_ids == int(exists.sum())
            assert torch.equal(verifier.contains(torch.arange(space)), exists)
            for level in (1, 2):
                prefixes = exists.view(-1, 60**level).any(dim=0)
                keys = torch.arange(60**level)
                assert torch.equal(verifier.prefix_contains(level, keys), prefixes)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_answers_as_built_anew(kind: str) -> None:
    radices = (7, 9, 11)
    generator = torch.Generator().manual_seed(3)
    keys = torch.randperm(7 * 9 * 11, generator=generator)
    verifier = make_verifier(kind, CatalogueKeys(keys[:300], radices))
    verifier.remove(keys[100:200])
    verifier.add(keys[250:400])
    rebuilt = make_verifier(kind, CatalogueKeys(torch.cat([keys[:100], keys[200:400]]), radices))
    prefixes = torch.arange(63).view(1, 63)
    was, now = rebuilt.candidates(3, prefixes), verifier.candidates(3, prefixes)
    assert torch.equal(was.exists, now.exists)
    if was.index is not None:
        assert torch.equal(was.index[was.exists], now.index[now.exists])
    if kind != "hash-table":  # its tables do not shrink
        assert rebuilt.nbytes == verifier.nbytes or kind == "hash-set"


@pytest.mark.parametrize("kind", KINDS)
def test_generation_tells_replaced_tensors(kind: str) -> None:
    verifier = make_verifier(kind, CatalogueKeys(torch.arange(0, 400, 4), (10, 40)))
    assert verifier.generation == 0
    verifier.add(torch.tensor([0, 4, 4]))  # there already
    verifier.remove(torch.tensor([1, 2]))  # not there
    verifier.add(torch.tensor([], dtype=torch.int64))
    verifier.remove(torch.tensor([], dtype=torch.int64))
    assert verifier.generation == 0
    verifier.add(torch.tensor([1]))
    added = verifier.generation
    verifier.remove(torch.tensor([1]))
    if kind in (*IN_PLACE, "hash-table"):
        assert verifier.generation == added == 0
    else:
        assert verifier.generation > added > 0


@pytest.mark.parametrize("kind", KINDS)
def test_inference_mode_leaves_nothing_behind(kind: str) -> None:
    with torch.inference_mode():
        verifier = make_verifier(kind, CatalogueKeys(torch.tensor([3, 5]), (4, 6)))
        verifier.add(torch.tensor([7]))
    verifier.add(torch.tensor([11, 23]))
    verifier.remove(torch.tensor([3]))
    check_answers(verifier, {5, 7, 11, 23}, range(24))
