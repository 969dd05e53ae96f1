"""Figures against slow, obvious versions and cases worked out by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.datasets import InteractionDataset, Split
from nezha_lite.decoding import DecodeResult, NezhaDecoder
from nezha_lite.decoding.item_lists import item_lists
from nezha_lite.evaluation import (
    Evaluation,
    agreement,
    bootstrap_interval,
    evaluate,
    evaluate_popularity,
    ndcg_at,
    overlap_at,
    recall_at,
)
from nezha_lite.model.prompts import Prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import SortedVerifier
from tests.helpers.toys import shared_ids, toy_dataset, toy_ids, toy_model


class Scripted:
    """A decoder that answers with prepared keys, user after user."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows, self.served = rows, 0

    def decode(self, prompts: Prompts, beam: int, trace: bool = False) -> DecodeResult:
        rows = self.rows[self.served : self.served + len(prompts)]
        self.served += len(prompts)
        keys = torch.tensor([[*row, *[-1] * (beam - len(row))] for row in rows])
        scores = torch.zeros(keys.shape).masked_fill(keys < 0, -torch.inf)
        return DecodeResult(keys, scores, backbone_calls=1, trace=None)


def split_of(targets: Sequence[int]) -> Split:
    n = len(targets)
    return Split(tuple(range(n)), tuple((0, 1) for _ in range(n)), tuple(targets))


def scripted(
    rows: Sequence[Sequence[int]],
    targets: Sequence[int],
    semantic_ids: SemanticIds,
    beam: int = 4,
    **arguments,
) -> Evaluation:
    model = toy_model(semantic_ids).eval()
    return evaluate(Scripted(rows), model, semantic_ids, split_of(targets), beam, **arguments)


# ---- recall and NDCG -----------------------------------------------------------------------------


@given(
    st.lists(st.permutations(range(6)), min_size=1, max_size=8),
    st.lists(st.integers(0, 9), min_size=8, max_size=8),
    st.integers(1, 8),
)
def test_metrics_equal_brute_force(rankings: list[list[int]], targets: list[int], k: int) -> None:
    ranks = np.array(
        [
            ranking.index(target) if target in ranking else -1
            for ranking, target in zip(rankings, targets, strict=False)
        ]
    )
    hits, gains = [], []
    for ranking, target in zip(rankings, targets, strict=False):
        relevance = [1.0 if item == target else 0.0 for item in ranking[:k]]
        hits.append(sum(relevance))
        dcg = sum(gain / math.log2(place + 1) for place, gain in enumerate(relevance, start=1))
        gains.append(dcg / 1.0)  # the ideal ranking of one target has DCG 1
    assert recall_at(ranks, k).tolist() == hits
    assert ndcg_at(ranks, k).tolist() == pytest.approx(gains)

    full = np.full(len(ranks), 6)
    figures = Evaluation(ranks, ranks, rankings, full, full, 6).metrics((k,))
    assert figures[f"recall@{k}"] == pytest.approx(np.mean(hits))
    assert figures[f"ndcg@{k}"] == pytest.approx(np.mean(gains))
    assert figures[f"sid_recall@{k}"] == figures[f"recall@{k}"]


def test_a_target_that_was_not_found_counts_nothing() -> None:
    ranks = np.array([-1, 0])
    assert recall_at(ranks, 10).tolist() == [0.0, 1.0]
    assert ndcg_at(ranks, 10).tolist() == [0.0, 1.0]


# ---- from keys to items --------------------------------------------------------------------------


def test_shared_ids_expand_by_popularity_and_push_later_items_down() -> None:
    ids = shared_ids()  # items 2j and 2j + 1 share the key of item 2j
    keys = ids.keys[[4, 0, 8]].view(1, 3)
    popularity = [0] * 20
    assert item_lists(keys, ids) == [[4, 5, 0, 1, 8, 9]]
    popularity[5], popularity[8] = 3, 1
    assert item_lists(keys, ids, popularity) == [[5, 4, 0, 1, 8, 9]]
    assert item_lists(keys, ids, popularity) == [[5, 4, 0, 1, 8, 9]]  # nothing was sorted in place

    found = scripted([keys[0].tolist()] * 4, [4, 1, 8, 9], ids, popularity=popularity)
    assert found.ranks.tolist() == [1, 3, 4, 5]
    assert found.sid_ranks.tolist() == [0, 1, 2, 2]
    figures = found.metrics((2, 4))
    # On IDs the second place of the list is worth as much as the fourth place on items.
    assert figures["recall@2"] == 1 / 4
    assert figures["sid_recall@2"] == 2 / 4
    assert figures["recall@4"] == 2 / 4
    assert figures["sid_recall@4"] == 1.0


def test_an_id_without_item_wastes_its_place() -> None:
    ids = toy_ids()
    missing = next(key for key in range(ids.space) if not ids.items_of(key))
    one, two = int(ids.keys[3]), int(ids.keys[7])
    assert item_lists(torch.tensor([[missing, one, -1, two]]), ids) == [[-1, 3, 7]]
    found = scripted([[missing, one, two], [one, missing, two]], [3, 3], ids)
    assert found.ranks.tolist() == [1, 0]
    assert found.lists == [[-1, 3, 7], [3, -1, 7]]
    figures = found.metrics((1,))
    assert figures["recall@1"] == 0.5
    assert figures["valid"] == pytest.approx(4 / 6)
    assert figures["filled"] == pytest.approx(4 / 8)


def test_valid_and_filled_differ_where_lists_are_short() -> None:
    ids = toy_ids()
    existing = ids.keys.tolist()
    missing = next(key for key in range(ids.space) if not ids.items_of(key))
    short = scripted([existing[:1], [], existing[:3]], [0, 0, 2], ids)  # as a final verifier does
    assert short.returned.tolist() == short.existing.tolist() == [1, 0, 3]
    assert short.ranks.tolist() == [0, -1, 2]
    assert short.metrics()["valid"] == 1.0
    assert short.metrics()["filled"] == pytest.approx(4 / 12)
    loose = scripted([[*existing[:3], missing]] * 2, [0, 0], ids)
    assert loose.metrics()["valid"] == loose.metrics()["filled"] == 0.75
    nothing = scripted([[], []], [0, 1], ids)
    assert nothing.metrics()["valid"] == nothing.metrics()["filled"] == 0.0


def test_removed_items_are_not_listed_and_their_ids_no_longer_exist() -> None:
    ids = shared_ids()
    keys = ids.keys[[4, 0]].tolist()
    found = scripted([keys] * 3, [5, 0, 1], ids, removed=[4, 0, 1])
    assert found.lists == [[5, -1]] * 3
    assert found.ranks.tolist() == [0, -1, -1]
    assert found.existing.tolist() == [1, 1, 1]
    assert found.returned.tolist() == [2, 2, 2]


@given(st.integers(0, 10**6), st.integers(1, 7), st.booleans())
def test_evaluate_equals_a_loop_over_users(seed: int, batch_size: int, shared: bool) -> None:
    random = np.random.default_rng(seed)
    ids, beam, n = (shared_ids() if shared else toy_ids()), 6, 9
    rows = [
        random.permutation(ids.space)[: random.integers(0, beam + 1)].tolist() for _ in range(n)
    ]
    targets, popularity = random.integers(0, 20, n).tolist(), random.integers(0, 4, 20).tolist()
    found = scripted(
        rows, targets, ids, beam, popularity=popularity, batch_size=batch_size, progress=False
    )

    codes = [tuple(row) for row in ids.codes.tolist()]
    for user, (row, target) in enumerate(zip(rows, targets, strict=True)):
        listed, exist, sid_rank = [], 0, -1
        for place, key in enumerate(row):
            digits, rest = [], key
            for radix in ids.radices:
                rest, digit = divmod(rest, radix)
                digits.append(digit)
            carriers = [item for item in range(20) if codes[item] == tuple(digits)]
            carriers.sort(key=lambda item: (-popularity[item], item))
            listed += carriers or [-1]
            exist += bool(carriers)
            if target in carriers:
                sid_rank = place
        assert found.lists[user] == listed
        assert found.ranks[user] == (listed.index(target) if target in listed else -1)
        assert found.sid_ranks[user] == sid_rank
        assert found.returned[user] == len(row)
        assert found.existing[user] == exist
    assert len(found.ranks) == n
    assert found.beam == beam


def test_evaluating_a_model_does_not_depend_on_the_batch() -> None:
    ids, split = toy_ids(), toy_dataset().split("test")
    model = toy_model().eval()
    decoder = NezhaDecoder(model, SortedVerifier(ids), "final")
    together = evaluate(decoder, model, ids, split, 10)
    alone = evaluate(decoder, model, ids, split, 10, batch_size=1)
    assert together.lists == alone.lists
    assert together.ranks.tolist() == alone.ranks.tolist()
    assert together.metrics() == alone.metrics()
    assert together.metrics()["valid"] == 1.0
    assert 0 < together.metrics()["filled"] < 1.0
    assert len({tuple(row) for row in together.lists}) > 1


# ---- the baseline --------------------------------------------------------------------------------


def test_popularity_counts_the_training_part_only() -> None:
    # Training parts: (0, 1), (1, 1, 2), (2,); items 3 and 4 occur in held-out places only.
    sequences = ((0, 1, 3, 4), (1, 1, 2, 3, 4), (2, 4, 4), (3,))
    dataset = InteractionDataset("d", tuple("abcde"), tuple("wxyz"), sequences)
    assert dataset.popularity() == [1, 3, 2, 0, 0]
    found = evaluate_popularity(dataset, dataset.split("test"), 3)
    assert found.lists == [[1, 2, 0]] * 3
    assert found.ranks.tolist() == [-1, -1, -1]
    everything = evaluate_popularity(dataset, dataset.split("test"), 5)
    assert everything.lists[0] == [1, 2, 0, 3, 4]  # equals stay in catalogue order
    assert everything.ranks.tolist() == [4, 4, 4]
    assert evaluate_popularity(dataset, dataset.split("validation"), 5).ranks.tolist() == [3, 3, 4]
    assert everything.metrics((5,))["recall@5"] == 1.0
    assert everything.metrics((5,))["ndcg@5"] == pytest.approx(1 / math.log2(6))


# ---- comparing -----------------------------------------------------------------------------------


def test_overlap_is_the_mean_share_of_common_items() -> None:
    left = [[1, 2, 3, 4], [5, -1, 7], []]
    right = [[2, 1, 9, 4], [-1, 8, 5], [1]]
    # At 2: {1,2} & {2,1} = 2; {5,-1} & {-1,8} share a wasted place, no item; none.
    assert overlap_at(left, right, 2) == pytest.approx((2 + 0 + 0) / 6)
    assert overlap_at(left, right, 4) == pytest.approx((3 + 1 + 0) / 12)
    assert overlap_at(left, left, 3) == pytest.approx((3 + 2 + 0) / 9)
    assert overlap_at(left, right, 4) == overlap_at(right, left, 4)
    with pytest.raises(ValueError, match="not 3 and 2"):
        overlap_at(left, right[:2], 2)
    with pytest.raises(ValueError, match="not 0 and 0"):
        overlap_at([], [], 2)


@pytest.mark.slow
def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = {0.9: 0, 0.5: 0}
    for _ in range(200):
        values = (random.random(120) < 0.3).astype(np.float64)
        for level in covered:
            low, high = bootstrap_interval(values, level, samples=300)
            covered[level] += low <= 0.3 <= high
    # Four standard errors of 200 draws, and the coarseness of a mean of 120 zeros and ones.
    assert covered[0.9] / 200 == pytest.approx(0.9, abs=0.09)
    assert covered[0.5] / 200 == pytest.approx(0.5, abs=0.15)


def test_the_interval_is_deterministic_and_about_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, 900)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert (low, high) != bootstrap_interval(values, seed=1)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 30, rel=0.1)
    assert bootstrap_interval(np.ones(5)) == (1.0, 1.0)


def test_agreement_is_paired_user_by_user() -> None:
    ids = toy_ids()
    key = ids.keys.tolist()
    hit, miss = [[key[3], key[4]]] * 20, [[key[5], key[4]]] * 20
    one = scripted(hit[:15] + miss[:5], [3] * 20, ids)
    other = scripted(hit[:10] + miss[:10], [3] * 20, ids)
    found = agreement(one, other, k=2)
    assert found["recall@2_gain"] == pytest.approx(0.25)  # five users more
    assert found["overlap@2"] == pytest.approx((15 * 1.0 + 5 * 0.5) / 20)
    assert found["recall@2_gain_low"] < 0.25 < found["recall@2_gain_high"]
    assert found["recall@2_gain_low"] > 0  # pairing: no user is worse off
    turned = agreement(other, one, k=2)
    assert turned["recall@2_gain"] == pytest.approx(-0.25)


def test_nobody_to_evaluate_is_an_error() -> None:
    dataset = replace(toy_dataset(), sequences=((0, 1),) * 30)
    model = toy_model().eval()
    decoder = NezhaDecoder(model, SortedVerifier(toy_ids()))
    with pytest.raises(ValueError, match="no users to evaluate"):
        evaluate(decoder, model, toy_ids(), dataset.split("test"), 5)
    with pytest.raises(ValueError, match="no users to evaluate"):
        evaluate_popularity(dataset, dataset.split("test"), 5)
