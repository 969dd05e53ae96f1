"""A catalogue that changes while lists are made: each call sees one state of it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from nezha_lite.decoding.recommender import Recommender
from nezha_lite.model.prompts import Prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import Verifier
from tests.decoding.test_recommender import HISTORIES, items, recommender
from tests.helpers.toys import N_ITEMS, shared_ids, toy_ids

BOTH = pytest.mark.parametrize("ids", [toy_ids(), shared_ids()], ids=["own", "shared"])


def during_the_pass(trained: Recommender, change: Callable[[], None]) -> None:
    """Let something happen while the model reads the prompts."""
    original = trained.model.draft_states

    def draft_states(prompts: Prompts) -> Tensor:
        change()
        return original(prompts)

    trained.model.draft_states = draft_states


@BOTH
@pytest.mark.parametrize("verification", ["off", "final", "prefix"])
def test_a_call_finishes_with_the_catalogue_it_began_with(
    ids: SemanticIds, verification: str
) -> None:
    for ask in ({}, {"deny": [[1, 2, 3]]}, {"allow": [range(12)], "exclude_seen": True}):
        trained = recommender(ids)
        trained.remove_items([5, 6])
        before = trained.recommend(HISTORIES, verification=verification, **ask)
        best = {ranked[0].item for ranked in before if ranked}

        def change(trained: Recommender = trained, best: set[int] = best) -> None:
            trained.restore_items([5, 6])
            trained.remove_items(best | {11, 12})

        during_the_pass(trained, change)
        assert trained.recommend(HISTORIES, verification=verification, **ask) == before
        assert trained.removed == best | {11, 12}
        after = trained.recommend(HISTORIES, verification=verification, **ask)
        assert not best & {item for ranked in after for item in items(ranked)}


@BOTH
def test_changes_made_at_once_are_all_made(
    ids: SemanticIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Verifier.remove

    def slow(self: Verifier, keys: Tensor) -> None:
        time.sleep(0.005)  # time for all others to begin
        original(self, keys)

    monkeypatch.setattr(Verifier, "remove", slow)
    trained = recommender(ids)
    together = threading.Barrier(8)

    def change(part: int) -> None:
        together.wait(30)
        for item in range(part, 16, 8):
            trained.remove_items([item])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(8)))
    assert trained.removed == frozenset(range(16))
    assert set(trained.verifier.contains(ids.keys).tolist()) == {True, False}
    assert trained.verifier.contains(ids.keys).tolist() == [item >= 16 for item in range(N_ITEMS)]
    (ranked,) = trained.recommend([[0]], k=N_ITEMS)
    assert sorted(items(ranked)) == [16, 17, 18, 19]


def test_a_change_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = recommender()
    trained.remove_items([3])
    verifier, before = trained.verifier, trained.recommend(HISTORIES)

    remove = Verifier.remove

    def fail(self: Verifier, keys: Tensor) -> None:
        remove(self, keys)
        raise MemoryError("too large")

    with monkeypatch.context() as patch:
        patch.setattr(Verifier, "remove", fail)  # after the removed ones have left
        with pytest.raises(MemoryError, match="too large"):
            trained.remove_items([4, 5])
    assert trained.removed == {3}
    assert trained.verifier is verifier
    assert trained.recommend(HISTORIES) == before
    trained.remove_items([4, 5])  # the failed change holds no lock
    assert trained.removed == {3, 4, 5}


def test_what_was_at_hand_before_a_change_stays_as_it_was() -> None:
    trained = recommender()
    held: Verifier = trained.verifier
    with torch.inference_mode():
        trained.remove_items([0, 1])
    trained.remove_items([2])
    every = trained.semantic_ids.keys
    assert held.contains(every).all()
    assert trained.verifier.contains(every).tolist() == [item > 2 for item in range(N_ITEMS)]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every thread that a test started has ended."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before
