"""OPQ: its rotation, its parts, and what the rotation is for."""

import pytest
import torch

from nezha_lite.semantic_ids.quantizers import OPQ, OPQConfig
from nezha_lite.semantic_ids.quantizers.opq import _procrustes
from tests.helpers.slow_quantizing import clustered, error, slow_codes


@pytest.mark.parametrize(("width", "levels"), [(16, 4), (16, 3), (5, 2), (3, 5), (1, 2)])
def test_the_rotation_keeps_lengths_at_any_width(width: int, levels: int) -> None:
    vectors = clustered(120, width=width)
    quantizer = OPQ(OPQConfig(levels=levels, codes=4, rounds=3)).fit(vectors)
    share = -(-width // levels)
    assert quantizer.rotation.shape == (width, levels * share)
    identity = torch.eye(width, dtype=torch.float64)
    torch.testing.assert_close(quantizer.rotation @ quantizer.rotation.T, identity)
    assert {book.shape[1] for book in quantizer.codebooks} == {share}


def test_codes_equal_a_slow_loop_over_the_parts_and_decode_rotates_back() -> None:
    vectors = clustered(80)
    quantizer = OPQ(OPQConfig(levels=3, codes=(4, 6, 5), rounds=5)).fit(vectors)
    mean = vectors.double().mean(0)
    rotated = (vectors.double() - mean) @ quantizer.rotation
    codes = quantizer.encode(vectors)
    books = quantizer.codebooks
    for level, part in enumerate(rotated.chunk(3, dim=1)):
        slow = slow_codes(part.float(), (books[level],))[:, 0]
        assert torch.equal(codes[:, level], slow)
    chosen = torch.cat([book[column] for book, column in zip(books, codes.T, strict=True)], dim=1)
    expected = chosen.double() @ quantizer.rotation.T + mean
    torch.testing.assert_close(quantizer.decode(codes), expected.float())
    errors = [error(vectors, quantizer.decode(codes[:, :level])) for level in (1, 2, 3)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.5 * error(vectors, vectors.mean(0))


def test_a_level_does_not_depend_on_the_prefix() -> None:
    vectors = clustered(80)
    quantizer = OPQ(OPQConfig(levels=2, codes=4, rounds=2)).fit(vectors)
    one, other = torch.zeros(80, 1, dtype=torch.int64), torch.full((80, 1), 3)
    assert torch.equal(quantizer.level_costs(vectors, one), quantizer.level_costs(vectors, other))


def test_the_rotation_pays_where_parts_of_the_vectors_depend_on_each_other() -> None:
    # Coordinates 0 and 4 always agree, 1 and 5 and so on: cut in two, both halves say the same.
    half = clustered(400, width=4, clusters=60)
    vectors = torch.cat([half, half], dim=1)
    errors = []
    for rounds in (1, 30):
        quantizer = OPQ(OPQConfig(levels=2, codes=16, rounds=rounds)).fit(vectors)
        errors.append(error(vectors, quantizer.decode(quantizer.encode(vectors))))
    plain = 0.0
    for part in vectors.chunk(2, dim=1):
        single = OPQ(OPQConfig(levels=1, codes=16)).fit(part)
        plain += error(part, single.decode(single.encode(part)))
    assert max(errors) < 0.8 * plain
    assert errors[1] <= errors[0]


def test_the_rotation_does_no_harm_where_the_vectors_are_cut_well_already() -> None:
    # Two independent halves, each of 16 points: codes for the halves as they are have no error.
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2, 16, 4, generator=generator)
    chosen = torch.randint(16, (2, 400), generator=generator)
    vectors = torch.cat([points[0, chosen[0]], points[1, chosen[1]]], dim=1)
    quantizer = OPQ(OPQConfig(levels=2, codes=16)).fit(vectors)
    assert error(vectors, quantizer.decode(quantizer.encode(vectors))) < 1e-6


def test_procrustes_recovers_a_rotation() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    square = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(square).Q[:4]  # orthonormal rows: (4, 6)
    torch.testing.assert_close(_procrustes(vectors, vectors @ rotation), rotation)


def test_a_sample_of_the_rows_comes_close_to_all_of_them() -> None:
    vectors = clustered(600)
    errors = []
    for sample in (600, 300):
        quantizer = OPQ(OPQConfig(levels=2, codes=12, sample=sample)).fit(vectors)
        errors.append(error(vectors, quantizer.decode(quantizer.encode(vectors))))
    assert errors[1] != errors[0]
    assert errors[1] < 1.2 * errors[0]


def test_opq_config_names_the_field() -> None:
    for field in ("rounds", "iterations", "sample"):
        with pytest.raises(ValueError, match=f"{field} is 0"):
            OPQConfig(**{field: 0})
