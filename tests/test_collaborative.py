"""Vectors from behaviour: items of the same baskets are alike, whatever they are called."""

import pytest
import torch

from nezha_lite.collaborative import collaborative_vectors

# Two worlds that never meet: users stay among items 0-4 or among items 5-9. Nobody takes item 10.
WORLDS = [[(start + step * stride) % 5 + world for step in range(6)]
          for world in (0, 5) for start in range(5) for stride in (1, 2, 3)]  # fmt: skip


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


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="holds two items"):
        collaborative_vectors([[1], []], 3)
