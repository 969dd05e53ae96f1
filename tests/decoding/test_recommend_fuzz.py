"""Any call of `recommend`, alone and among threads: right lists, and always the same ones.

    NEZHA_FUZZ_CALLS=10000 pytest tests/test_recommend_fuzz.py

makes more calls; `nezha-lite bench recommend` makes the same ones and keeps the figures.
"""

import logging
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite import load_dataset
from nezha_lite.bench.equality import TIE, same_lists
from nezha_lite.common.results import read_results
from nezha_lite.decoding import DecodeResult
from nezha_lite.decoding.recommender import Recommendation, Recommender
from tests.decoding.test_recommender import recommender
from tests.helpers.toys import N_ITEMS, shared_ids, toy_dataset, toy_ids
from tests.stress.concurrent_calls import bench_recommend
from tests.stress.random_calls import Lists, RandomCall

CALLS = int(os.environ.get("NEZHA_FUZZ_CALLS", "300"))
DATA = Path(__file__).parents[2] / "data"

ITEMS = st.integers(0, N_ITEMS - 1)
HISTORIES = st.lists(st.lists(ITEMS, max_size=12).map(tuple), min_size=1, max_size=4).map(tuple)
EVERYTHING = frozenset(range(N_ITEMS))
SET = st.one_of(st.none(), st.just(EVERYTHING), st.frozensets(ITEMS))
MODES = st.sampled_from(["prefix", "prefix", "final", "off"])
WORLDS = st.tuples(
    st.sampled_from(["own", "shared"]), st.sampled_from([torch.float32, torch.bfloat16])
)
# Two paths that pad differently round differently, and a bfloat16 has 8 bits: scores of the toy
# model lie between -1 and -7, and 0.016 was the widest gap met between two of its paths.
TIES = {torch.float32: TIE, torch.bfloat16: 0.05}


@st.composite
def calls(draw: st.DrawFn) -> RandomCall:
    """Also lists and beams longer than the catalogue, and sets that leave nothing."""
    histories = draw(HISTORIES)
    sets = st.one_of(
        st.none(),
        st.tuples(SET),
        st.lists(SET, min_size=len(histories), max_size=len(histories)).map(tuple),
    )
    return RandomCall(
        histories,
        k=draw(st.one_of(st.integers(1, N_ITEMS + 5), st.just(10**12))),
        beam=draw(st.one_of(st.integers(1, 60), st.just(10**12))),
        verification=draw(MODES),
        allow=draw(sets),
        deny=draw(sets),
        exclude_seen=draw(st.booleans()),
    )


@cache
def world(ids: str, precision: torch.dtype) -> Recommender:
    trained = recommender(toy_ids() if ids == "own" else shared_ids())
    trained.model.to(precision)
    return trained


@given(call=calls(), where=WORLDS, removed=st.frozensets(ITEMS))
@settings(max_examples=150)
@pytest.mark.slow
def test_every_list_is_right_and_the_same_again(
    call: RandomCall, where: tuple[str, torch.dtype], removed: frozenset[int]
) -> None:
    trained = world(*where)
    trained.restore_items(EVERYTHING)
    trained.remove_items(removed)
    lists = call.ask(trained)
    assert call.fault(lists, trained.semantic_ids, removed) is None
    assert call.ask(trained) == lists


@given(call=calls(), where=WORLDS)
@settings(max_examples=60)
def test_a_history_gets_alone_what_it_gets_among_others(
    call: RandomCall, where: tuple[str, torch.dtype]
) -> None:
    trained = world(*where)
    trained.restore_items(EVERYTHING)
    call = replace(call, beam=99)  # drops nothing: what is left to chance is the order of ties
    together = call.ask(trained)
    for row, history in enumerate(call.histories):
        (alone,) = replace(
            call,
            histories=(history,),
            allow=call.allow and (call.allow[row % len(call.allow)],),
            deny=call.deny and (call.deny[row % len(call.deny)],),
        ).ask(trained)
        ((_, tied),) = same_lists(as_result(alone), as_result(together[row]), TIES[where[1]])
        assert tied, f"{alone}\n{together[row]}"


def as_result(ranked: list[Recommendation]) -> DecodeResult:
    items = torch.tensor([[entry.item for entry in ranked]])
    return DecodeResult(items, torch.tensor([[entry.score for entry in ranked]]), 1, None)


@given(call=calls(), where=WORLDS)
@settings(max_examples=40)
def test_a_beam_without_end_is_one_that_drops_nothing(
    call: RandomCall, where: tuple[str, torch.dtype]
) -> None:
    trained = world(*where)
    trained.restore_items(EVERYTHING)
    assert replace(call, beam=10**15).ask(trained) == replace(call, beam=99).ask(trained)


@given(
    call=calls(),
    unknown=st.one_of(st.integers(max_value=-1), st.integers(min_value=N_ITEMS)),
    where=st.sampled_from(["history", "allow", "deny"]),
)
@settings(max_examples=60)
def test_an_unknown_item_is_refused_wherever_it_stands(
    call: RandomCall, unknown: int, where: str
) -> None:
    if where == "history":
        first, *others = call.histories
        call = replace(call, histories=((*first, unknown), *others))
    else:
        call = replace(call, **{where: (frozenset({0, unknown}),)})
    with pytest.raises(ValueError, match=f"holds item {unknown}, but the catalogue's items are 0"):
        call.ask(world("own", torch.float32))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.slow
def test_threads_get_what_each_call_gets_alone(
    precision: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nezha_lite")
    trained = Recommender.load(DATA / "checkpoints" / "sample")
    trained.model.to(precision)
    n_calls = CALLS if precision == torch.float32 else CALLS // 3
    row = bench_recommend(trained, load_dataset("sample"), n_calls, threads=3, phases=5)
    assert (row.metrics["tried"], row.metrics["kept"]) == (n_calls, n_calls), caplog.messages
    assert len(caplog.messages) == 5, "a line for each phase, and nothing else"


@pytest.mark.data
def test_the_kept_run_made_ten_thousand_calls_with_each_precision() -> None:
    rows = read_results(DATA / "results" / "reliability-sample-recommend.json")
    assert [row.settings["precision"] for row in rows] == ["float32", "bfloat16"]
    for row in rows:
        assert row.metrics["tried"] == row.metrics["kept"] == 10_000
        assert row.settings["threads"] > 1


# ---- a judge that says yes to everything would be of no use -------------------------------------

CALL = RandomCall(((0, 1), (2,)), 3, 10, "prefix", None, (frozenset({4, 5}),), True)


def changed(change: str) -> Lists:
    """The right answer to CALL, with one thing wrong in its first list."""
    lists = CALL.ask(world("own", torch.float32))
    first = lists[0]
    if change == "a list short":
        return lists[:1]
    if change == "a seen item":
        first[2] = replace(first[2], item=1, name="i1")
    elif change == "a denied item":
        first[2] = replace(first[2], item=4, name="i4")
    elif change == "no item":
        first[2] = replace(first[2], item=-1, name="i19")
    elif change == "one twice":
        first[2] = first[1]
    elif change == "another's name":
        first[0] = replace(first[0], name=first[1].name)
    elif change == "order":
        first.reverse()
    elif change == "minus infinity":
        first[2] = replace(first[2], score=float("-inf"))
    elif change == "too short":
        first.pop()
    elif change == "too long":
        item = min(EVERYTHING - {0, 1, 4, 5} - {entry.item for entry in first})
        first.append(replace(first[2], item=item, name=f"i{item}"))
    return lists


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("nothing", None),
        ("a list short", "1 lists for 2 histories"),
        ("a seen item", "list 0 holds item 1, which it must not"),
        ("a denied item", "list 0 holds item 4, which it must not"),
        ("no item", "list 0 holds item -1, which it must not"),
        ("one twice", "list 0 holds an item twice"),
        ("another's name", "list 0 calls an item by another's name"),
        ("order", "list 0 has scores that do not fall"),
        ("minus infinity", "not finite"),
        ("too short", "list 0 has 2 items, not 3"),
        ("too long", "list 0 has 4 items, not 3"),
    ],
)
def test_each_fault_is_seen(change: str, sentence: str | None) -> None:
    world("own", torch.float32).restore_items(EVERYTHING)
    fault = CALL.fault(changed(change), toy_ids())
    assert (fault is None) == (sentence is None)
    assert sentence is None or sentence in (fault or "")


def test_a_removed_item_is_a_fault_and_a_short_list_is_not_once_nothing_is_left() -> None:
    trained = world("own", torch.float32)
    trained.restore_items(EVERYTHING)
    lists = CALL.ask(trained)
    best = lists[0][0].item
    assert f"holds item {best}" in (CALL.fault(lists, toy_ids(), {best}) or "")
    assert CALL.fault([[], []], toy_ids(), EVERYTHING) is None
    assert CALL.fault([[], []], toy_ids()) is not None
    off = replace(CALL, verification="off")
    assert off.fault([[], []], toy_ids()) is None


def test_answers_that_differ_among_threads_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = recommender()
    original = Recommender.recommend

    def wrong(self: Recommender, *arguments: object, **options: object) -> Lists:
        lists = original(self, *arguments, **options)
        if self is trained and lists[0]:  # a score that is off by a little
            lists[0][0] = replace(lists[0][0], score=lists[0][0].score + 1e-6)
        return lists

    dataset = toy_dataset()
    assert bench_recommend(trained, dataset, 40, 2, phases=2).metrics["kept"] == 40
    monkeypatch.setattr(Recommender, "recommend", wrong)
    row = bench_recommend(trained, dataset, 40, 2, phases=2)
    assert row.metrics["tried"] == 40
    assert 0 < row.metrics["kept"] < 20
    with pytest.raises(ValueError, match="phases, calls and threads are 3, 2 and 1"):
        bench_recommend(trained, dataset, 2, 1, phases=3)
