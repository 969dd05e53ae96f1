"""Vectors from behaviour: items of the same baskets are alike, whatever they are called."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.semantic_ids.vectors.collaborative import collaborative_vectors

# Two worlds that never meet: users stay among items 0-4 or among items 5-9. Nobody takes item 10.
WORLDS = [[(start + step * stride) % 5 + world for step in range(6)]
          for world in (0, 5) for start in range(5) for stride in (1, 2, 3)]  # fmt: skip


def information_by_hand(sequences: list[list[int]], n_items: int, window: int) -> torch.Tensor:
    """The matrix that is factorised, pair by pair: (N, N) float64."""
    counts: Counter[tuple[int, int]] = Counter()
    for sequence in sequences:
        for place, item in enumerate(sequence):
            for other_place, other in enumerate(sequence):
                distance = abs(place - other_place)
                if item != other and 0 < distance <= window:
                    counts[item, other] += 1 / distance
    everything = sum(counts.values())
    matrix = torch.zeros(n_items, n_items, dtype=torch.float64)
    for (item, other), count in counts.items():
        times = [sum(c for pair, c in counts.items() if pair[0] == i) for i in (item, other)]
        mutual = math.log(count * everything / (times[0] * times[1]))
        matrix[item, other] = max(mutual, 0.0) * count / (count + 1)
    return matrix


def cosines(rows: torch.Tensor) -> torch.Tensor:
    unit = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return unit @ unit.T


@pytest.mark.parametrize("window", [1, 3, 10])
def test_with_all_columns_the_cosines_are_those_of_the_discounted_information(window: int) -> None:
    sequences = [*WORLDS, [0, 7, 3], [4, 4, 9, 1, 2, 8, 0, 5], [6], []]
    expected = cosines(information_by_hand(sequences, 11, window)).float()
    vectors = collaborative_vectors(sequences, 11, dim=11, window=window)
    torch.testing.assert_close(vectors @ vectors.T, expected, atol=1e-4, rtol=0)


def test_items_of_one_world_are_closer_than_items_of_two() -> None:
    vectors = collaborative_vectors(WORLDS, n_items=11, dim=2)
    likeness = vectors @ vectors.T
    # PMI of pairs is about log 2 within a world and 0 across: two orthogonal groups.
    assert float(likeness[:5, 5:10].abs().max()) < 0.01
    assert float(likeness[:5, :5].mean()) > 0.9
    assert float(likeness[5:10, 5:10].mean()) > 0.9


def test_rows_have_length_one_and_unseen_items_none() -> None:
    vectors = collaborative_vectors(WORLDS, n_items=11, dim=16)
    assert vectors.shape == (11, 16)
    assert vectors.dtype == torch.float32
    assert torch.allclose(vectors[:10].norm(dim=1), torch.ones(10), atol=1e-5)
    assert not vectors[10].any()
    assert not vectors[:, 11:].any()  # beyond the number of items there is nothing


def test_the_same_seed_gives_the_same_vectors() -> None:
    assert torch.equal(
        collaborative_vectors(WORLDS, 11, seed=3), collaborative_vectors(WORLDS, 11, seed=3)
    )


def test_pairs_farther_apart_than_the_window_do_not_count() -> None:
    sequence = [[0, 1, 2, 3]]
    near = collaborative_vectors(sequence, 4, dim=4, window=1)
    far = collaborative_vectors(sequence, 4, dim=4, window=3)
    assert not torch.allclose(near @ near.T, far @ far.T, atol=1e-3)


def test_one_users_last_item_is_no_neighbour_of_the_next_users_first() -> None:
    vectors = collaborative_vectors([[0, 1], [2, 3]], 4, dim=4)
    likeness = vectors @ vectors.T
    assert likeness[:2, 2:].abs().max() < 1e-6


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=5), st.integers(1, 8))
def test_any_sequences_give_unit_or_zero_rows_or_one_clear_error(
    sequences: list[list[int]], dim: int
) -> None:
    if all(len(set(sequence)) < 2 for sequence in sequences):
        with pytest.raises(ValueError, match="holds two different items"):
            collaborative_vectors(sequences, 6, dim)
        return
    vectors = collaborative_vectors(sequences, 6, dim)
    assert vectors.shape == (6, dim)
    alone = [all(i not in s or len(set(s)) < 2 for s in sequences) for i in range(6)]
    for item, length in enumerate(vectors.norm(dim=1).tolist()):
        assert length == pytest.approx(1.0, abs=1e-5) or length == 0.0
        assert length == 0.0 or not alone[item]


@pytest.mark.parametrize(
    ("sequences", "settings", "message"),
    [
        ([[1], []], {}, "holds two different items"),
        ([[1, 1, 1]], {}, "holds two different items"),
        ([], {}, "holds two different items"),
        ([[0, 3]], {}, "sequences hold item 3, but there are 3 items"),
        ([[0, -1]], {}, "sequences hold item -1"),
        ([[0, 1]], {"dim": 0}, "dim is 0"),
        ([[0, 1]], {"window": 0}, "window is 0"),
    ],
)
def test_what_cannot_work_is_named(
    sequences: list[list[int]], settings: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        collaborative_vectors(sequences, 3, **settings)
