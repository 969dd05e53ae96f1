"""Counting equal lists: what is identical, what is a tie, and what is neither."""

import pytest
import torch

from nezha_lite.bench.equality import PAIRS, bench_equality, same_lists
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import DecodeResult
from nezha_lite.semantic_ids import SemanticIds
from tests.helpers.builders import tiny_model

INF = float("inf")


def listed(keys: list[int], scores: list[float]) -> DecodeResult:
    return DecodeResult(torch.tensor([keys]), torch.tensor([scores]), 1, None)


@pytest.mark.parametrize(
    ("keys", "scores", "identical", "tied"),
    [
        ([4, 2, 9], [-1.0, -2.0, -3.0], True, True),
        ([4, 2, 9], [-1.5, -2.0, -3.0], True, True),  # the same list is the same list
        ([2, 4, 9], [-1.0, -2.0, -3.0], False, False),  # swapped, though far apart
        ([4, 2, 7], [-1.0, -2.0, -3.0], False, True),  # another last one, as good
        ([4, 7, 9], [-1.0, -2.0, -3.0], False, False),  # another one in the middle
        ([4, 2, -1], [-1.0, -2.0, -INF], False, False),  # shorter
    ],
)
def test_same_lists(keys: list[int], scores: list[float], identical: bool, tied: bool) -> None:
    expected = listed([4, 2, 9], [-1.0, -2.0, -3.0])
    assert same_lists(listed(keys, scores), expected) == [(identical, tied)]
    assert same_lists(expected, listed(keys, scores)) == [(identical, tied)]


def test_neighbours_closer_than_a_tie_may_change_places() -> None:
    one = listed([4, 2, 9], [-1.0, -1.000004, -3.0])
    other = listed([2, 4, 9], [-1.0, -1.000004, -3.0])
    assert same_lists(one, other) == [(False, True)]
    assert same_lists(one, other, tie=1e-6) == [(False, False)]
    empty = listed([-1, -1], [-INF, -INF])
    assert same_lists(empty, empty) == [(True, True)]


def test_every_path_gives_the_lists_that_it_must() -> None:
    ids = SemanticIds.from_codes([[0, 1, 1], [2, 3, 0], [1, 1, 1], [2, 0, 0], [0, 2, 1]], (3, 4, 2))
    shop = InteractionDataset(
        "shop",
        tuple("abcde"),
        tuple("uvwx"),
        ((0, 1, 2, 3), (4, 3, 2), (1, 0, 4), (2, 2, 1, 0)),
        None,
        None,
    )
    rows = list(
        bench_equality(tiny_model(ids).double(), ids, shop, beams=(2, 9), users=4, compile=False)
    )
    assert [(row.decoder, row.beam) for row in rows] == [(p, b) for b in (2, 9) for p in PAIRS]
    for row in rows:
        assert row.metrics["identical"] == row.metrics["identical_up_to_ties"] == 1
        assert row.metrics["widest_gap"] < 1e-5
        assert row.settings["reference"] == PAIRS[str(row.decoder)]
    with pytest.raises(ValueError, match="path is 'magic', but must be one of nezha, auto"):
        list(bench_equality(tiny_model(ids), ids, shop, paths=("magic",)))
    with pytest.raises(ValueError, match="users is 0, but must be at least 1"):
        list(bench_equality(tiny_model(ids), ids, shop, users=0))
