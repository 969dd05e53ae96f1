"""Item-kNN against dictionaries and loops."""

import math
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.evaluation.baselines import ItemKnn, ItemKnnConfig, evaluate_scorer
from tests.helpers.toys import toy_dataset

N = 6
EVERYTHING = ItemKnnConfig(neighbours=N, window=99, shrinkage=0.0, decay=1.0)


def slow_similarity(
    sequences: Sequence[Sequence[int]], config: ItemKnnConfig
) -> dict[int, dict[int, float]]:
    """Of every item to every other, before only the nearest are kept."""
    taken = {item: sum(list(sequence).count(item) for sequence in sequences) for item in range(N)}
    near: dict[int, dict[int, float]] = {item: {} for item in range(N)}
    for one in range(N):
        for other in range(N):
            together = 0.0
            for sequence in sequences:
                for i, left in enumerate(sequence):
                    for j, right in enumerate(sequence):
                        if (left, right) == (one, other) and 0 < abs(i - j) <= config.window:
                            together += 1 / abs(i - j)
            if together and one != other:
                normaliser = math.sqrt(taken[one] * taken[other]) + config.shrinkage
                near[one][other] = together / normaliser
    return near


def slow_score(
    near: dict[int, dict[int, float]], history: Sequence[int], config: ItemKnnConfig
) -> list[float]:
    scores = [0.0] * N
    for place, item in enumerate(history):
        for other, similarity in near[item].items():
            scores[other] += config.decay ** (len(history) - 1 - place) * similarity
    return scores


sequence_lists = st.lists(st.lists(st.integers(0, N - 1), max_size=7), max_size=6)
configs = st.builds(
    ItemKnnConfig,
    neighbours=st.integers(1, N),
    window=st.integers(1, 8),
    shrinkage=st.sampled_from([0.0, 1.0, 2.5]),
    decay=st.sampled_from([1.0, 0.6, 0.1]),
)


@given(sequences=sequence_lists, config=configs)
@settings(max_examples=60)
def test_each_item_keeps_its_nearest(sequences: list[list[int]], config: ItemKnnConfig) -> None:
    expected = slow_similarity(sequences, config)
    found = ItemKnn(sequences, N, config).similarity.toarray()
    for item in range(N):
        kept = {other: float(found[item, other]) for other in range(N) if found[item, other]}
        best = sorted(expected[item].values(), reverse=True)[: config.neighbours]
        assert sorted(kept.values(), reverse=True) == pytest.approx(best)
        for other, similarity in kept.items():
            assert similarity == pytest.approx(expected[item][other])


@given(sequences=sequence_lists, config=configs, histories=sequence_lists)
@settings(max_examples=60)
def test_a_score_sums_what_is_near_to_the_history(
    sequences: list[list[int]], config: ItemKnnConfig, histories: list[list[int]]
) -> None:
    knn = ItemKnn(sequences, N, config)
    nearest = {
        item: {int(other): row[other] for other in row.nonzero()[0]}
        for item, row in enumerate(knn.similarity.toarray())
    }
    scores = knn.scores(histories)
    assert scores.shape == (len(histories), N)
    assert scores.dtype == torch.float32
    for row, history in zip(scores.tolist(), histories, strict=True):
        assert row == pytest.approx(slow_score(nearest, history, config), rel=1e-5)


def test_of_equally_near_items_the_lower_index_stays() -> None:
    sequences = [[0, other] for other in (5, 3, 4, 2, 1)]
    knn = ItemKnn(sequences, N, ItemKnnConfig(neighbours=2))
    assert knn.similarity.toarray()[0].nonzero()[0].tolist() == [1, 2]


def test_the_figures_by_hand() -> None:
    # 0 and 1 are neighbours twice, 0 and 2 two steps apart once; 0 is taken twice.
    knn = ItemKnn([[0, 1, 2], [1, 0]], N, EVERYTHING)
    row = knn.similarity.toarray()[0]
    assert row.tolist() == pytest.approx([0, 2 / 2, 0.5 / math.sqrt(2), 0, 0, 0])
    narrow = ItemKnn([[0, 1, 2], [1, 0]], N, ItemKnnConfig(window=1, shrinkage=1.0))
    assert narrow.similarity.toarray()[0].tolist() == pytest.approx([0, 2 / 3, 0, 0, 0, 0])


def test_an_item_that_comes_again_is_not_its_own_neighbour() -> None:
    knn = ItemKnn([[0, 0, 0, 1]], N, EVERYTHING)
    assert not knn.similarity.diagonal().any()


@pytest.mark.parametrize("sequences", [[], [[]], [[0], [1], [2, 2]]])
def test_where_no_items_occur_together_all_scores_are_zero(sequences: list[list[int]]) -> None:
    knn = ItemKnn(sequences, N)
    assert knn.similarity.shape == (N, N)
    assert knn.similarity.nnz == 0
    assert torch.equal(knn.scores([[0, 1], []]), torch.zeros(2, N))


def test_items_with_the_same_counts_are_equally_near() -> None:
    # 1/2, 1/3 and 1/7 add up to other numbers in another order, and the lower item would lose.
    together = [[0, *[3] * (distance - 1), 2] for distance in (2, 3, 7)]
    backwards = [[0, *[3] * (distance - 1), 1] for distance in (7, 3, 2)]
    row = ItemKnn([*together, *backwards], N, ItemKnnConfig(shrinkage=0.0)).similarity[[0]]
    assert row[0, 1] == row[0, 2] > 0
    nearest = ItemKnn([*together, *backwards], N, ItemKnnConfig(neighbours=2)).similarity[[0]]
    assert nearest.indices.tolist() == [1, 3]


def test_memory_is_that_of_the_pairs() -> None:
    sequences = np.random.default_rng(0).integers(0, 5000, (1000, 50)).tolist()
    tracemalloc.start()
    knn = ItemKnn(sequences, 5000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    pairs = 2 * sum(50 - distance for distance in range(1, 11)) * 1000
    assert knn.similarity.nnz > pairs / 3
    assert peak < 64 * pairs, "a dictionary takes 200 bytes a pair"


def test_it_finds_the_next_item_of_a_walk() -> None:
    dataset = toy_dataset(users=60)
    knn = ItemKnn(dataset.train_sequences(), dataset.n_items, ItemKnnConfig(decay=0.5))
    found = evaluate_scorer(knn, dataset.split("test"), 5)
    # Items behind are as near as those ahead: the next one is among the first three.
    assert found.metrics([3])["recall@3"] > 0.8


@pytest.mark.parametrize(
    ("field", "value", "valid"),
    [
        ("neighbours", 0, "a whole number of at least 1"),
        ("window", 0, "a whole number of at least 1"),
        ("shrinkage", -0.5, "0 or more"),
        ("shrinkage", math.nan, "0 or more"),
        ("decay", 0, r"in \(0, 1\]"),
        ("decay", 1.5, r"in \(0, 1\]"),
        ("decay", math.nan, r"in \(0, 1\]"),
    ],
)
def test_config_errors_name_field_and_value(field: str, value: float, valid: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}, but must be {valid}"):
        ItemKnnConfig(**{field: value})
