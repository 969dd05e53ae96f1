"""LSH and random codes: what they keep of the vectors, and what they do not."""

import pytest
import torch

from nezha_lite.semantic_ids.quantizers import LSH, LSHConfig, QuantizerConfig, RandomCodes
from tests.helpers.slow_quantizing import clustered


def test_lsh_needs_powers_of_two() -> None:
    with pytest.raises(ValueError, match=r"codes is 6, but must be a power of two"):
        LSHConfig(levels=2, codes=(4, 6))
    assert LSHConfig(levels=3, codes=(1, 2, 256)).bits == (0, 1, 8)


def test_lsh_bits_are_the_sides_of_its_planes() -> None:
    vectors = clustered(100)
    quantizer = LSH(LSHConfig(levels=2, codes=(4, 8))).fit(vectors)
    mean, normals = quantizer.state["mean"], quantizer.state["normals"]
    torch.testing.assert_close(mean, vectors.mean(0))
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(5, dtype=torch.float64))
    for vector, codes in zip(vectors, quantizer.encode(vectors).tolist(), strict=True):
        bits = [int((vector - mean).double() @ normal > 0) for normal in normals]
        assert codes == [bits[0] + 2 * bits[1], bits[2] + 2 * bits[3] + 4 * bits[4]]


def test_lsh_costs_are_the_distances_to_the_planes_crossed() -> None:
    vectors = clustered(20)
    quantizer = LSH(LSHConfig(levels=2, codes=(4, 8))).fit(vectors)
    mean, normals = quantizer.state["mean"], quantizer.state["normals"]
    codes = quantizer.encode(vectors)
    costs = quantizer.level_costs(vectors, codes[:, :1])
    for row, vector in enumerate(vectors):
        margins = [float((vector - mean).double() @ normal) for normal in normals[2:]]
        for code in range(8):
            flipped = code ^ int(codes[row, 1])
            crossed = sum(abs(m) for bit, m in enumerate(margins) if flipped >> bit & 1)
            assert float(costs[row, code]) == pytest.approx(crossed, abs=1e-6)


def test_lsh_keeps_neighbours_together_and_random_codes_do_not() -> None:
    vectors = clustered(400, width=32, clusters=8)
    near = torch.cdist(vectors, vectors).fill_diagonal_(torch.inf).argmin(1)
    shares = []
    for quantizer in (LSH(LSHConfig(3, 16)), RandomCodes(QuantizerConfig(3, 16))):
        codes = quantizer.fit(vectors).encode(vectors)
        shares.append(float((codes == codes[near]).float().mean()))
    lsh, random = shares
    assert lsh > 0.3
    assert 0.03 < random < 0.1  # one in 16


def test_random_codes_are_uniform_and_independent_over_levels() -> None:
    vectors = torch.randn(8000, 4, generator=torch.Generator().manual_seed(0))
    codes = RandomCodes(QuantizerConfig(levels=3, codes=(8, 5, 8))).fit(vectors).encode(vectors)
    for column, radix in zip(codes.T, (8, 5, 8), strict=True):
        counts = torch.bincount(column, minlength=radix)
        expected = 8000 / radix
        assert float(((counts - expected) ** 2 / expected).sum()) < 30  # chi squared, 7 d.o.f.
    pairs = torch.bincount(codes[:, 0] * 8 + codes[:, 2], minlength=64)
    assert float(((pairs - 125.0) ** 2 / 125).sum()) < 120  # 63 d.o.f.


def test_random_codes_are_the_same_wherever_they_are_made() -> None:
    row = torch.tensor([[0.5, -0.0, 3.0]])
    one = RandomCodes(QuantizerConfig(4, 256, seed=7)).fit(row)
    other = RandomCodes(QuantizerConfig(4, 256, seed=7)).fit(clustered(9, width=3))
    assert torch.equal(one.encode(row), other.encode(row))
    assert torch.equal(one.encode(row), one.encode(row.abs()))  # -0 equals 0
    assert torch.equal(one.encode(row), one.encode(row.double().t().contiguous().t()))
    assert one.encode(row).tolist() == [[216, 177, 209, 84]]  # on any machine, for ever


def test_random_costs_count_up_cyclically() -> None:
    vectors = clustered(10)
    quantizer = RandomCodes(QuantizerConfig(levels=2, codes=(4, 5))).fit(vectors)
    codes = quantizer.encode(vectors)
    costs = quantizer.level_costs(vectors, codes[:, :1])
    for row, code in zip(costs.tolist(), codes[:, 1].tolist(), strict=True):
        assert [row[(code + step) % 5] for step in range(5)] == [0, 1, 2, 3, 4]
