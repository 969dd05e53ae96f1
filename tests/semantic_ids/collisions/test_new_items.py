"""Items that arrive later: nothing old changes, and every new one is placed or counted."""

import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.collisions import NewItems, add_items, resolve
from nezha_lite.semantic_ids.quantizers import RQKMeans, RQKMeansConfig
from tests.helpers.fake_quantizer import FakeQuantizer, cases, slow_next_best
from tests.helpers.slow_quantizing import clustered

WAYS = ("shared", "extra-level", "optimal", "next-best")
Case = tuple[FakeQuantizer, Tensor]


def names(n: int) -> list[str]:
    return [f"new {row}" for row in range(n)]


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1)


def arrivals() -> st.SearchStrategy[Tensor]:
    return st.lists(st.integers(0, 6), max_size=8).map(lambda values: column(*values))


def named(quantizer: FakeQuantizer, vectors: Tensor, how: str) -> SemanticIds | None:
    try:
        return resolve(quantizer.encode(vectors), quantizer, vectors, how)
    except ValueError:  # no room: tested where catalogues are
        return None


def rows(codes: Tensor) -> list[tuple[int, ...]]:
    return [tuple(row) for row in codes.tolist()]


# ---- what holds for every way -------------------------------------------------------------------


@pytest.mark.parametrize("how", WAYS)
@given(case=cases(), new=arrivals(), data=st.data())
def test_the_old_stays_and_the_counts_are_right(
    how: str, case: Case, new: Tensor, data: st.DataObject
) -> None:
    quantizer, vectors = case
    old = named(quantizer, vectors, how)
    if old is None:
        return
    n = len(new)
    popularity = data.draw(st.none() | st.lists(st.integers(0, 3), min_size=n, max_size=n))
    added = add_items(old, quantizer, new, names(n), how, popularity)
    ids = added.semantic_ids
    assert ids.radices == old.radices
    assert torch.equal(ids.codes[: old.n_items], old.codes)
    assert ids.items == (*old.items, *names(n))

    levels = len(quantizer.radices)
    encoded = rows(quantizer.encode(new)) if n else []
    assert rows(added.encoded) == encoded
    final, before = rows(ids.codes)[old.n_items :], rows(old.codes)
    together, everyone = Counter(encoded), Counter(rows(ids.codes))
    plain = [(*codes, *[0] * (old.levels - levels)) for codes in encoded]
    moved = [a != b and everyone[a] == 1 for a, b in zip(final, plain, strict=True)]
    close = max(1, levels - 1)
    assert added.metrics() == {
        "old_items": len(vectors),
        "new_items": n,
        "landed_on_old": sum(codes in {row[:levels] for row in before} for codes in encoded),
        "landed_together": sum(together[codes] > 1 for codes in encoded),
        "moved": sum(moved),
        "sharing": sum(everyone[codes] > 1 for codes in final),
        "known_first_code": sum(codes[:1] in {row[:1] for row in before} for codes in encoded),
        "known_prefix": sum(codes[:close] in {row[:close] for row in before} for codes in encoded),
    }
    assert json.loads(json.dumps(added.metrics())) == added.metrics()
    if how in ("shared", "extra-level"):
        assert [codes[:levels] for codes in final] == encoded
    if how == "optimal":
        assert [codes[:-1] for codes in final] == [codes[:-1] for codes in encoded]


@pytest.mark.parametrize("how", WAYS)
@given(case=cases(), new=arrivals())
@settings(max_examples=50)
def test_items_share_only_where_there_is_no_room(how: str, case: Case, new: Tensor) -> None:
    quantizer, vectors = case
    old = named(quantizer, vectors, how)
    if old is None or how == "shared":
        return
    ids = add_items(old, quantizer, new, names(len(new)), how).semantic_ids
    used = Counter(rows(ids.codes))
    kept = {"extra-level": ids.levels - 1, "optimal": ids.levels - 1, "next-best": 0}[how]
    if ids.radices == quantizer.radices and how == "extra-level":
        kept = ids.levels  # no level to number in
    room = ids.space // ids.strides[kept] if kept < ids.levels else 1
    for codes in rows(ids.codes)[old.n_items :]:
        if used[codes] > 1:
            assert sum(other[:kept] == codes[:kept] for other in used) == room


# ---- way by way ---------------------------------------------------------------------------------


def test_the_lowest_free_number_then_the_least_shared() -> None:
    quantizer = FakeQuantizer((5,), highest=1000)
    a, b = 0, 3
    assert quantizer.encode(column(a)).tolist() != quantizer.encode(column(b)).tolist()
    old = named(quantizer, column(a, a, a, b), "extra-level")
    assert old.radices == (5, 3)
    added = add_items(old, quantizer, column(b, a, b, b, a), names(5), "extra-level")
    numbers = added.semantic_ids.codes[4:, 1].tolist()
    assert numbers == [1, 0, 2, 0, 1]
    assert (added.moved, added.sharing) == (2, 3)
    popular_first = add_items(
        old, quantizer, column(b, a, b, b, a), names(5), "extra-level", [1, 1, 5, 9, 2]
    )
    # b: the fourth, the third, then the first; a: the fifth, then the second.
    assert popular_first.semantic_ids.codes[4:, 1].tolist() == [0, 1, 2, 1, 0]


def test_without_an_extra_level_none_is_added() -> None:
    quantizer = FakeQuantizer((3, 3))
    old = named(quantizer, column(1), "extra-level")
    added = add_items(old, quantizer, column(1, 1), names(2), "extra-level")
    assert added.semantic_ids.radices == (3, 3)
    assert (added.landed_on_old, added.landed_together, added.sharing) == (2, 2, 2)


def test_optimal_takes_the_free_codes_of_the_prefix_and_then_shares() -> None:
    points = column(0, 1, 2, 3)
    quantizer = RQKMeans(RQKMeansConfig(levels=1, codes=4)).fit(points)
    old = resolve(quantizer.encode(points[:2]), quantizer, points[:2], "optimal")
    # Free: 2 and 3. Of three new items near 0 and 1, the two that lose least by moving move:
    # (0.0 → 2 costs 4 - 0; 0.9 → 2 costs 1.21 - 0.01; 1.1 → 3 costs 3.61 - 0.01).
    added = add_items(old, quantizer, column(0.0, 0.9, 1.1), names(3), "optimal")
    got = quantizer.decode(added.semantic_ids.codes[2:]).flatten().tolist()
    assert got in ([0.0, 2.0, 3.0], [0.0, 3.0, 2.0])  # equal totals: 0.9 and 1.1 may change places
    assert (added.landed_on_old, added.moved, added.sharing) == (3, 2, 1)
    full = add_items(added.semantic_ids, quantizer, column(2.2), ["late"], "optimal")
    assert full.semantic_ids.codes[-1].tolist() == quantizer.encode(column(2.2))[0].tolist()
    assert full.sharing == 1


@given(case=cases(fits="space"), new=arrivals(), data=st.data())
def test_next_best_is_what_enumeration_finds(case: Case, new: Tensor, data: st.DataObject) -> None:
    quantizer, vectors = case
    old = named(quantizer, vectors, "next-best")
    n = len(new)
    popularity = data.draw(st.none() | st.lists(st.integers(0, 3), min_size=n, max_size=n))
    added = add_items(old, quantizer, new, names(n), "next-best", popularity)
    expected = slow_next_best(quantizer, new, popularity, set(rows(old.codes))) if n else []
    assert rows(added.semantic_ids.codes)[old.n_items :] == expected
    assert added.sharing <= max(0, added.semantic_ids.n_items - old.space) * 2


def test_items_can_be_added_again_and_again() -> None:
    vectors = clustered(60, width=4)
    quantizer = RQKMeans(RQKMeansConfig(levels=2, codes=12)).fit(vectors[:30])
    ids = resolve(quantizer.encode(vectors[:30]), quantizer, vectors[:30], "next-best")
    for row in range(30, 60):
        ids = add_items(
            ids, quantizer, vectors[row : row + 1], [f"n{row}"], "next-best"
        ).semantic_ids
    assert ids.n_distinct == ids.n_items == 60
    start = resolve(quantizer.encode(vectors[:30]), quantizer, vectors[:30], "next-best")
    assert torch.equal(ids.codes[:30], start.codes)


def test_no_new_items() -> None:
    quantizer = FakeQuantizer((3, 3))
    old = named(quantizer, column(1, 2), "next-best")
    added = add_items(old, quantizer, torch.zeros(0, 1), [], "next-best")
    assert added.semantic_ids is old
    assert set(added.metrics().values()) == {0, 2}


def test_the_sentence_holds_every_count() -> None:
    ids = SemanticIds.from_codes(
        [[0, 0], [1, 1], [0, 0], [0, 2], [0, 1], [2, 2], [2, 2]], (3, 3), list("abcdefg")
    )
    encoded = torch.tensor([[0, 0], [0, 0], [0, 0], [2, 2], [2, 2]])
    assert NewItems(ids, encoded).sentence() == (
        "New items: 5. Of these, 3 were encoded to an existing item's ID and 5 to the same ID as "
        "another new item; 2 were told apart, 3 share their ID. The first code is an existing "
        "item's for 3, the first 1 of 2 codes for 3."
    )


# ---- bad input ----------------------------------------------------------------------------------


def test_bad_input_is_named() -> None:
    quantizer = FakeQuantizer((2, 3))
    old = resolve(quantizer.encode(column(1, 2)), quantizer, column(1, 2), "shared", ["a", "b"])
    with pytest.raises(ValueError, match="New item 'b' has a name that is taken"):
        add_items(old, quantizer, column(1, 2), ["c", "b"], "shared")
    with pytest.raises(ValueError, match="New item 'c' has a name that is taken"):
        add_items(old, quantizer, column(1, 2), ["c", "c"], "shared")
    with pytest.raises(ValueError, match="vectors has 1 rows, but there are 2 items"):
        add_items(old, quantizer, column(1), ["c", "d"], "shared")
    with pytest.raises(ValueError, match="popularity has 1 values, but there are 2 items"):
        add_items(old, quantizer, column(1, 2), ["c", "d"], "next-best", [1])
    with pytest.raises(ValueError, match="collisions is 'free', but must be one of"):
        add_items(old, quantizer, column(1), ["c"], "free")
    with pytest.raises(ValueError, match=r"radices \(2, 3\), but the quantizer has \(2, 4\)"):
        add_items(old, FakeQuantizer((2, 4)), column(1), ["c"], "shared")
    with pytest.raises(ValueError, match=r"radices \(2, 3\), but the quantizer has \(3,\)"):
        add_items(old, FakeQuantizer((3,)), column(1), ["c"], "shared")


@pytest.mark.parametrize("how", ["shared", "optimal", "next-best"])
def test_an_extra_level_can_only_be_continued(how: str) -> None:
    quantizer = FakeQuantizer((2, 3))
    old = named(quantizer, column(1, 1), "extra-level")
    with pytest.raises(ValueError, match="only 'extra-level' can continue it"):
        add_items(old, quantizer, column(1), ["c"], how)
