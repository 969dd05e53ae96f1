"""A living catalogue: items come and go, and every structure stays exact."""

import copy
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

IN_PLACE = ("bitset", "sorted", "hash-table", "trie")  # all but the first while there is room


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


@pytest.mark.parametrize("kind", ["bitset", "sorted", "trie"])  # the hash table has its own test
def test_changes_are_in_place_while_there_is_room(kind: str) -> None:
    draw = torch.Generator().manual_seed(4)
    keys = torch.randperm(30**3, generator=draw)
    verifier = make_verifier(kind, CatalogueKeys(keys[:2_000], (30, 30, 30)))
    prefixes = torch.arange(30).unsqueeze(0)
    tensors, signature = [*verifier.tensors], verifier.signature
    shape = verifier.candidates(2, prefixes).exists.shape
    exists = set(keys[:2_000].tolist())
    for first in range(2_000, 4_000, 100):
        verifier.add(keys[first : first + 100])
        verifier.remove(keys[first - 2_000 : first - 1_900])
        exists |= set(keys[first : first + 100].tolist())
        exists -= set(keys[first - 2_000 : first - 1_900].tolist())
        check_answers(verifier, exists, keys[first - 100 : first].tolist())
        assert verifier.candidates(2, prefixes).exists.shape == shape
    verifier.add(keys[4_000:4_200])
    assert verifier.signature == signature
    assert len(verifier.tensors) == len(tensors)
    assert all(now is before for now, before in zip(verifier.tensors, tensors, strict=True))


@pytest.mark.parametrize("kind", ["sorted", "trie", "hash-table"])
def test_without_room_tensors_and_signature_are_new(kind: str) -> None:
    keys = torch.randperm(30**3, generator=torch.Generator().manual_seed(5))
    verifier = make_verifier(kind, CatalogueKeys(keys[:1_000], (30, 30, 30)))
    seen = {verifier.signature}
    for size in (3_000, 9_000, 27_000):
        verifier.add(keys[:size])
        assert verifier.signature not in seen
        seen.add(verifier.signature)
        check_answers(verifier, keys[:size].tolist(), keys[size : size + 50].tolist())
        verifier.remove(keys[10:])
        verifier.add(keys[5:size])
        assert verifier.signature in seen, "the room that was made remains"


def test_a_trie_counts_the_children_of_any_prefixes() -> None:
    # 99 prefixes with one child and a prefix with 40: all further children come to another one.
    keys = torch.cat([torch.arange(100), torch.arange(1, 40) * 100])
    verifier = make_verifier("trie", CatalogueKeys(keys, (100, 100)))
    signature = verifier.signature
    shape = verifier.candidates(2, torch.tensor([[7, 3]])).exists.shape
    verifier.add(torch.arange(1, 9) * 100 + 7)
    assert verifier.candidates(2, torch.tensor([[7, 3]])).exists.shape == shape
    assert verifier.signature == signature
    verifier.add(torch.arange(1, 40) * 100 + 7)  # room for 139 IDs is 173, but not for these two
    assert verifier.signature != signature
    assert int(verifier.candidates(2, torch.tensor([[7, 0]])).exists.sum()) == 80


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_runs_in_its_originals_programs(kind: str) -> None:
    verifier = make_verifier(kind, CatalogueKeys(torch.arange(0, 400, 4), (10, 40)))
    rebuilt = make_verifier(kind, CatalogueKeys(torch.arange(0, 400, 4), (10, 40)))
    assert verifier.signature != rebuilt.signature
    changed = copy.deepcopy(verifier)
    for change, keys in (
        (changed.add, as_keys([0, 4, 4])),  # there already
        (changed.remove, as_keys([1, 2])),  # not there
        (changed.add, as_keys([])),
        (changed.remove, as_keys([])),
    ):
        change(keys)
        assert (changed.signature == verifier.signature) == (kind != "hash-set")
    changed.remove(as_keys([0, 8]))
    changed.add(as_keys([1]))
    assert (changed.signature == verifier.signature) == (kind in IN_PLACE)
    if kind in IN_PLACE:
        asked = torch.arange(400)
        replaced = verifier.with_tensors(changed.tensors)
        assert torch.equal(replaced.contains(asked), changed.contains(asked))
        assert verifier.contains(as_keys([0, 1])).tolist() == [True, False], "the original stays"


@pytest.mark.parametrize("kind", KINDS)
def test_inference_mode_leaves_nothing_behind(kind: str) -> None:
    with torch.inference_mode():
        verifier = make_verifier(kind, CatalogueKeys(torch.tensor([3, 5]), (4, 6)))
        verifier.add(torch.tensor([7]))
    verifier.add(torch.tensor([11, 23]))
    verifier.remove(torch.tensor([3]))
    check_answers(verifier, {5, 7, 11, 23}, range(24))
