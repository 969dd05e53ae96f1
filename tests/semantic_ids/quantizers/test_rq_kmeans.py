"""RQ-KMeans against a slow loop over codebooks; its edges."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.semantic_ids.quantizers import RQKMeans, RQKMeansConfig
from nezha_lite.semantic_ids.quantizers.residual import encode_residuals
from tests.helpers.slow_quantizing import clustered, error, slow_codes, use


def test_each_level_lowers_the_error_and_codes_beat_random_ones() -> None:
    vectors = clustered(400)
    quantizer = RQKMeans(RQKMeansConfig(levels=4, codes=8)).fit(vectors)
    codes = quantizer.encode(vectors)
    errors = [error(vectors, quantizer.decode(codes[:, :level])) for level in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.9 * errors[2] < 0.8 * errors[1] < 0.7 * errors[0]
    random = torch.randint(8, codes.shape, generator=torch.Generator().manual_seed(0))
    assert errors[3] < 0.1 * error(vectors, quantizer.decode(random))
    assert use(codes, quantizer.radices) == [1.0] * 4


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 9), st.integers(1, 5))
def test_encode_equals_a_slow_loop(seed: int, levels: int, codes: int, width: int) -> None:
    random = np.random.default_rng(seed)
    # Small integers make exact ties, which must go to the lowest code.
    books = tuple(
        torch.from_numpy(random.integers(-2, 3, (codes, width))).float() for _ in range(levels)
    )
    vectors = torch.from_numpy(random.integers(-4, 5, (20, width))).float()
    assert torch.equal(encode_residuals(vectors, books), slow_codes(vectors, books))


def test_fitted_codes_equal_a_slow_loop_and_decode_sums_centroids() -> None:
    vectors = clustered(60)
    quantizer = RQKMeans(RQKMeansConfig(levels=3, codes=(5, 3, 7))).fit(vectors)
    codes = quantizer.encode(vectors)
    assert torch.equal(codes, slow_codes(vectors, quantizer.codebooks))
    a, b, c = quantizer.codebooks
    expected = torch.stack([a[i] + b[j] + c[k] for i, j, k in codes.tolist()])
    torch.testing.assert_close(quantizer.decode(codes), expected)


def test_ties_go_to_the_lowest_code() -> None:
    book = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert encode_residuals(torch.zeros(1, 2), [book]).tolist() == [[0]]
    assert encode_residuals(torch.zeros(1, 2), [book[1:]]).tolist() == [[0]]
    assert encode_residuals(torch.tensor([[1.0, 0.0]]), [book]).tolist() == [[0]]


@pytest.mark.parametrize("distinct", [1, 2, 3, 5])
def test_as_many_codes_as_there_are_distinct_vectors(distinct: int) -> None:
    vectors = clustered(distinct, clusters=distinct).repeat(6, 1)
    quantizer = RQKMeans(RQKMeansConfig(levels=3, codes=5)).fit(vectors)
    codes = quantizer.encode(vectors)
    assert [len(book) for book in quantizer.codebooks] == [distinct, 1, 1]
    assert quantizer.radices == (5, 5, 5)
    assert len(codes.unique(dim=0)) == distinct
    assert use(codes, quantizer.radices) == pytest.approx([distinct / 5, 0.2, 0.2])
    torch.testing.assert_close(quantizer.decode(codes), vectors)


def test_duplicates_with_fewer_codes_than_distinct_vectors_need_no_warning() -> None:
    vectors = clustered(7, clusters=7).repeat(9, 1)
    quantizer = RQKMeans(RQKMeansConfig(levels=8, codes=4)).fit(vectors)
    codes = quantizer.encode(vectors)
    assert len(codes.unique(dim=0)) == 7
    assert len(quantizer.codebooks[0]) == 4
    torch.testing.assert_close(quantizer.decode(codes), vectors, atol=1e-5, rtol=0)
    # Once nothing but rounding is left, no code is spent on it.
    assert [len(book) for book in quantizer.codebooks[-2:]] == [1, 1]


def test_zero_vectors_are_quantized() -> None:
    quantizer = RQKMeans(RQKMeansConfig(levels=2, codes=4)).fit(torch.zeros(6, 3))
    assert not quantizer.encode(torch.zeros(6, 3)).any()


def test_near_equal_vectors_share_codes_and_need_no_warning() -> None:
    # Distinct, but their squared distances vanish beside the two clusters' squared norms.
    vectors = torch.stack([torch.tensor([1.0, -1.0] * 25), 1e-10 * torch.arange(50.0)], dim=1)
    quantizer = RQKMeans(RQKMeansConfig(levels=2, codes=16)).fit(vectors)
    codes = quantizer.encode(vectors)
    assert len(quantizer.codebooks[0]) < 16
    assert len(codes[:, 0].unique()) == len(quantizer.codebooks[0])
    torch.testing.assert_close(quantizer.decode(codes), vectors, atol=1e-5, rtol=0)


def test_one_code_per_level_is_the_mean() -> None:
    vectors = clustered(40)
    quantizer = RQKMeans(RQKMeansConfig(levels=1, codes=1)).fit(vectors)
    assert not quantizer.encode(vectors).any()
    torch.testing.assert_close(quantizer.codebooks[0][0], vectors.mean(0))


def test_mini_batches_come_close_to_full_k_means() -> None:
    vectors = clustered(600)
    config = RQKMeansConfig(levels=2, codes=12)
    errors = []
    for above in (600, 599):
        quantizer = RQKMeans(replace(config, minibatch_above=above)).fit(vectors)
        errors.append(error(vectors, quantizer.decode(quantizer.encode(vectors))))
    full, mini = errors
    assert mini != full
    assert mini < 1.2 * full
