"""The four ways out of collisions: each guarantee, and brute force where spaces are tiny."""

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.collisions import resolve
from nezha_lite.semantic_ids.collisions.nearest_free import Occupancy, nearest_free
from nezha_lite.semantic_ids.quantizers import (
    QUANTIZERS,
    Quantizer,
    RQKMeans,
    RQKMeansConfig,
    make_quantizer,
)
from tests.helpers.fake_quantizer import (
    FakeQuantizer,
    by_prefix,
    cases,
    least_total,
    ranked_ids,
    slow_next_best,
)
from tests.helpers.slow_quantizing import clustered

WAYS = ("shared", "extra-level", "optimal", "next-best")
Case = tuple[FakeQuantizer, Tensor]


def resolved(
    quantizer: Quantizer, vectors: Tensor, how: str, popularity: list[int] | None = None
) -> SemanticIds:
    return resolve(quantizer.encode(vectors), quantizer, vectors, how, None, popularity)


def popularities(n: int) -> st.SearchStrategy[list[int] | None]:
    return st.none() | st.lists(st.integers(0, 3), min_size=n, max_size=n)


def rows(ids: SemanticIds) -> list[tuple[int, ...]]:
    return [tuple(codes) for codes in ids.codes.tolist()]


# ---- shared -------------------------------------------------------------------------------------


@given(case=cases())
def test_shared_ids_are_the_quantizers(case: Case) -> None:
    quantizer, vectors = case
    ids = resolved(quantizer, vectors, "shared")
    assert torch.equal(ids.codes, quantizer.encode(vectors))
    assert ids.radices == quantizer.radices


# ---- extra level --------------------------------------------------------------------------------


@given(case=cases(), data=st.data())
def test_an_extra_level_numbers_the_items_of_an_id(case: Case, data: st.DataObject) -> None:
    quantizer, vectors = case
    popularity = data.draw(popularities(len(vectors)))
    codes = quantizer.encode(vectors)
    groups = Counter(map(tuple, codes.tolist()))
    ids = resolved(quantizer, vectors, "extra-level", popularity)
    levels = len(quantizer.radices)
    assert ids.n_distinct == len(vectors)
    assert torch.equal(ids.codes[:, :levels], codes)
    if max(groups.values()) == 1:
        assert ids.radices == quantizer.radices
        return
    assert ids.radices == (*quantizer.radices, max(groups.values()))
    counts = popularity or [0] * len(vectors)
    for own in groups:
        members = [item for item, codes in enumerate(rows(ids)) if codes[:levels] == own]
        members.sort(key=lambda item: rows(ids)[item][-1])
        assert [rows(ids)[item][-1] for item in members] == list(range(len(members)))
        assert members == sorted(members, key=lambda item: (-counts[item], item))


# ---- optimal ------------------------------------------------------------------------------------


@given(case=cases())
@settings(max_examples=200)
def test_optimal_last_codes_cost_least_in_every_group(case: Case) -> None:
    quantizer, vectors = case
    codes = quantizer.encode(vectors)
    plain = SemanticIds.from_codes(codes, quantizer.radices)
    if max(map(len, by_prefix(plain).values())) > quantizer.radices[-1]:
        with pytest.raises(ValueError, match="'next-best' or 'extra-level'"):
            resolved(quantizer, vectors, "optimal")
        return
    ids = resolved(quantizer, vectors, "optimal")
    assert ids.n_distinct == len(vectors)
    assert ids.radices == quantizer.radices
    assert torch.equal(ids.codes[:, :-1], codes[:, :-1])
    costs = quantizer.level_costs(vectors, codes[:, :-1]).numpy()
    outside = np.isinf(costs)
    if outside.any():  # then what counts is first how many of these, and then the detours
        costs -= costs.min(axis=1, keepdims=True)
        costs[outside] = 10_000
    for members in by_prefix(plain).values():
        now = ids.codes[members, -1].tolist()
        if len(set(codes[members, -1].tolist())) == len(members):
            assert now == codes[members, -1].tolist()
        spent = sum(costs[item, code] for item, code in zip(members, now, strict=True))
        assert spent == least_total(costs[members], range(quantizer.radices[-1]))


def test_optimal_looks_at_all_items_of_a_prefix_together() -> None:
    # Both at 0.1; 0 and 1 are codes, and so is -1.2. Moving one to 1 costs less than to -1.2,
    # but the item at 0.9 sits there: it stays, as moving it on would cost more.
    quantizer = RQKMeans(RQKMeansConfig(levels=1, codes=3)).fit(torch.tensor([[0.0], [1], [-1.2]]))
    vectors = torch.tensor([[0.1], [0.1], [0.9]])
    points = quantizer.decode(resolved(quantizer, vectors, "optimal").codes).flatten()
    assert points[2] == 1
    assert sorted(points[:2].tolist()) == pytest.approx([-1.2, 0.0])


def test_optimal_works_in_chunks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(60)
    quantizer = RQKMeans(RQKMeansConfig(levels=2, codes=(12, 20))).fit(vectors[:30])
    whole = resolved(quantizer, vectors, "optimal")
    assert not torch.equal(whole.codes, quantizer.encode(vectors))
    monkeypatch.setattr("nezha_lite.semantic_ids.collisions.assign_last_level._ROWS_AT_ONCE", 3)
    assert torch.equal(resolved(quantizer, vectors, "optimal").codes, whole.codes)


def test_a_prefix_with_too_many_items_is_named() -> None:
    quantizer = FakeQuantizer((2, 3))
    vectors = torch.ones(5, 1)
    prefix = int(quantizer.encode(vectors)[0, 0])
    message = rf"5 items start with codes \({prefix},\), but level 2 has only 3 codes.*at least 5"
    with pytest.raises(ValueError, match=message):
        resolved(quantizer, vectors, "optimal")
    with pytest.raises(ValueError, match=r"4 items have only this one level.*only 3 codes"):
        resolved(FakeQuantizer((3,)), vectors[:4], "optimal")


# ---- next best ----------------------------------------------------------------------------------


@given(case=cases())
def test_ids_come_nearest_first(case: Case) -> None:
    quantizer, vectors = case
    vector = vectors[:1]

    def costs_after(prefixes: Sequence[tuple[int, ...]]) -> np.ndarray:
        same = vector.expand(len(prefixes), -1)
        return quantizer.level_costs(same, torch.tensor(prefixes, dtype=torch.int64)).numpy()

    nearest = list(nearest_free(Occupancy(quantizer.radices), costs_after))
    assert nearest == ranked_ids(quantizer, vector)
    assert nearest[0] == tuple(quantizer.encode(vector)[0].tolist())


@given(case=cases(), seed=st.integers(0, 99))
def test_where_costs_add_up_nearest_means_least_total_cost(case: Case, seed: int) -> None:
    radices = case[0].radices
    quantizer = FakeQuantizer(radices, seed=seed, additive=True)
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    totals = np.zeros(radices)
    for level, radix in enumerate(radices):
        prefix = nothing.new_zeros(1, level)
        shape = [1] * level + [radix] + [1] * (len(radices) - level - 1)
        totals += quantizer.level_costs(case[1][:1], prefix).numpy().reshape(shape)
    ranked = [totals[codes] for codes in ranked_ids(quantizer, case[1][0])]
    assert ranked == sorted(ranked)


@given(case=cases(fits="space"), data=st.data())
@settings(max_examples=200)
def test_next_best_is_what_enumeration_finds(case: Case, data: st.DataObject) -> None:
    quantizer, vectors = case
    popularity = data.draw(popularities(len(vectors)))
    ids = resolved(quantizer, vectors, "next-best", popularity)
    assert ids.n_distinct == len(vectors)
    assert ids.radices == quantizer.radices
    assert rows(ids) == slow_next_best(quantizer, vectors, popularity)
    own = [tuple(codes) for codes in quantizer.encode(vectors).tolist()]
    counts = Counter(own)
    assert all(ids == own[i] for i, ids in enumerate(rows(ids)) if counts[own[i]] == 1)
    assert set(own) <= set(rows(ids))


@pytest.mark.parametrize("kind", sorted({*QUANTIZERS} - {"rq-vae"}))
def test_next_best_is_what_enumeration_finds_on_real_codebooks(kind: str) -> None:
    vectors = clustered(40, width=4)
    quantizer = make_quantizer(kind, 3, (2, 4, 8)).fit(vectors)
    popularity = [random.Random(1).randrange(5) for _ in range(40)]
    ids = resolved(quantizer, vectors, "next-best", popularity)
    assert rows(ids) == slow_next_best(quantizer, vectors, popularity)
    assert SemanticIds.from_codes(quantizer.encode(vectors)).collision_rate > 0.1


@pytest.mark.parametrize("additive", [False, True])
def test_a_space_filled_to_the_last_id(additive: bool) -> None:
    quantizer = FakeQuantizer((4, 5, 10), (4, 4, 8), highest=1000, additive=additive)
    vectors = torch.tensor([[float(n // 2)] for n in range(200)])  # every vector twice
    ids = resolved(quantizer, vectors, "next-best")
    assert sorted(ids.keys.tolist()) == list(range(200))
    with pytest.raises(ValueError, match=r"201 items, but radices \(4, 5, 10\) span only 200 IDs"):
        resolved(quantizer, torch.cat([vectors, vectors[:1]]), "next-best")


def test_a_crowded_catalogue_needs_few_calls_for_each_item_that_moves() -> None:
    # 600 items near one point fill 3 of 8 first codes; a search that looked at IDs in use would
    # open dozens of prefixes for each item.
    vectors = torch.cat([clustered(40, width=4), 1 + clustered(600, width=4, clusters=1) / 100])
    quantizer = RQKMeans(RQKMeansConfig(levels=3, codes=(8, 16, 16))).fit(vectors[:60])
    codes = quantizer.encode(vectors)
    moving = len(vectors) - len(codes.unique(dim=0))
    counted = CountedCalls(quantizer)
    ids = resolve(codes, counted, vectors, "next-best")
    assert moving > 100
    assert ids.n_distinct == len(vectors)
    assert counted.calls < 7 * moving


@pytest.mark.parametrize("lookahead", [1, 3, 100])
def test_how_many_siblings_are_computed_ahead_decides_nothing(
    monkeypatch: pytest.MonkeyPatch, lookahead: int
) -> None:
    vectors = clustered(80, width=4)[torch.arange(120) % 80]
    quantizer = RQKMeans(RQKMeansConfig(levels=2, codes=12)).fit(vectors[:30])
    whole = resolved(quantizer, vectors, "next-best")
    monkeypatch.setattr("nezha_lite.semantic_ids.collisions.nearest_free._LOOKAHEAD", lookahead)
    assert torch.equal(resolved(quantizer, vectors, "next-best").codes, whole.codes)


class CountedCalls:
    """A quantizer that counts the calls of `level_costs`."""

    def __init__(self, quantizer: Quantizer) -> None:
        self.quantizer, self.radices, self.calls = quantizer, quantizer.radices, 0

    def level_costs(self, vectors: Tensor, prefix: Tensor) -> Tensor:
        self.calls += 1
        return self.quantizer.level_costs(vectors, prefix)


def test_equal_vectors_share_one_search() -> None:
    quantizer = FakeQuantizer((4, 4, 16), rows=(2, 4, 16), highest=0)  # every known ID is as near
    same = torch.ones(200, 1)
    ids = resolve(quantizer.encode(same), quantizer, same, "next-best")
    assert rows(ids) == ranked_ids(quantizer, same[0])[:200]


# ---- edges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("radices", [(1,), (5,), (3, 1), (1, 1, 1), (4, 4, 4)])
def test_one_item_keeps_its_id(how: str, radices: tuple[int, ...]) -> None:
    quantizer = FakeQuantizer(radices)
    ids = resolved(quantizer, torch.ones(1, 2), how)
    assert torch.equal(ids.codes, quantizer.encode(torch.ones(1, 2)))
    assert ids.radices == radices


def test_duplicates_only() -> None:
    vectors = torch.ones(20, 8)
    quantizer = RQKMeans(RQKMeansConfig(levels=2, codes=(4, 5))).fit(vectors)  # one row a level
    assert [len(book) for book in quantizer.codebooks] == [1, 1]
    assert resolved(quantizer, vectors, "shared").n_distinct == 1
    numbered = resolved(quantizer, vectors, "extra-level")
    assert numbered.radices == (4, 5, 20)
    assert numbered.codes[:, -1].tolist() == list(range(20))
    # The first level's only row first, with every last code; only then codes without meaning.
    expected = [(first, last) for first in range(4) for last in range(5)]
    assert rows(resolved(quantizer, vectors, "next-best")) == expected
    few = resolved(quantizer, vectors[:5], "optimal")
    assert sorted(rows(few)) == expected[:5]
    with pytest.raises(ValueError, match=r"20 items start with codes \(0,\)"):
        resolved(quantizer, vectors, "optimal")


def test_a_last_codebook_of_one() -> None:
    quantizer = FakeQuantizer((3, 1))
    vectors = torch.tensor([[0.0], [0.0], [1.0]])
    with pytest.raises(ValueError, match="level 2 has only 1 code to"):
        resolved(quantizer, vectors, "optimal")
    assert sorted(rows(resolved(quantizer, vectors, "next-best"))) == [(0, 0), (1, 0), (2, 0)]


def test_codes_without_a_row_are_the_last_resort() -> None:
    quantizer = FakeQuantizer((3, 6), rows=(3, 4))
    vectors = torch.ones(12, 1)
    ids = resolved(quantizer, vectors, "next-best")
    assert sorted(rows(ids)) == [(first, last) for first in range(3) for last in range(4)]
    assert set(resolved(quantizer, vectors[:4], "optimal").codes[:, 1].tolist()) == {0, 1, 2, 3}
    assert resolved(quantizer, vectors[:6], "optimal").n_distinct == 6


@pytest.fixture(scope="module", params=sorted(QUANTIZERS))
def fitted(request: pytest.FixtureRequest) -> tuple[Quantizer, Tensor]:
    vectors = clustered(48, width=8, clusters=4)
    vectors[5] = vectors[4]
    with torch.random.fork_rng(devices=[]):
        return make_quantizer(request.param, 2, (8, 64), seed=3).fit(vectors), vectors


@pytest.mark.parametrize("how", WAYS)
def test_every_way_works_with_every_quantizer(fitted: tuple[Quantizer, Tensor], how: str) -> None:
    quantizer, vectors = fitted
    codes = quantizer.encode(vectors)
    names = [f"item {row}" for row in range(48)]
    ids = resolve(codes, quantizer, vectors, how, names, list(range(48)))
    assert ids.items == tuple(names)
    again = resolve(codes, quantizer, vectors, how, names, list(range(48)))
    assert torch.equal(ids.codes, again.codes)
    assert torch.equal(ids.codes[4], ids.codes[5]) == (how == "shared")
    if how != "shared":
        assert ids.n_distinct == 48
    if how != "next-best":
        kept = 1 if how == "optimal" else 2
        assert torch.equal(ids.codes[:, :kept], codes[:, :kept])


def test_bad_input_is_named() -> None:
    quantizer, vectors = FakeQuantizer((2, 2)), torch.ones(3, 1)
    codes = quantizer.encode(vectors)
    with pytest.raises(ValueError, match=r"collisions is 'ignored', .* one of.*'shared'"):
        resolve(codes, quantizer, vectors, "ignored")
    with pytest.raises(ValueError, match="vectors has 2 rows, but there are 3 items"):
        resolve(codes, quantizer, vectors[:2], "next-best")
    with pytest.raises(ValueError, match="popularity has 4 values, but there are 3 items"):
        resolve(codes, quantizer, vectors, "next-best", popularity=[1, 2, 3, 4])
    with pytest.raises(ValueError, match="each of the 3 levels"):
        resolve(torch.cat([codes, codes[:, :1]], dim=1), quantizer, vectors, "shared")
