"""Quantizers against slow, obvious versions; their edges; their files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from nezha_lite.quantizers import RQVAE, Quantizer, RQKMeans, RQKMeansConfig, RQVAEConfig
from nezha_lite.quantizers.residual import encode_residuals
from nezha_lite.quantizers.rq_vae import _Network
from nezha_lite.semantic_ids import SemanticIds

SMALL_VAE = RQVAEConfig(levels=2, codes=(4, 6), hidden=(16,), latent=8, epochs=30, revive_every=5)


def clustered(n: int, width: int = 16, clusters: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(clusters, width, generator=generator)
    noise = 0.3 * torch.randn(n, width, generator=generator)
    return centres[torch.randint(clusters, (n,), generator=generator)] + noise


def error(vectors: Tensor, decoded: Tensor) -> float:
    return float((vectors - decoded).square().sum(1).mean())


def slow_codes(vectors: Tensor, codebooks: tuple[Tensor, ...]) -> Tensor:
    """Nearest codebook row of the residual, one pair at a time; first of equals."""
    rows = []
    for vector in vectors.double().numpy():
        left, codes = vector.copy(), []
        for book in codebooks:
            distances = [float(((left - row) ** 2).sum()) for row in book.double().numpy()]
            codes.append(distances.index(min(distances)))
            left = left - book[codes[-1]].double().numpy()
        rows.append(codes)
    return torch.tensor(rows)


def use(codes: Tensor, radices: tuple[int, ...]) -> list[float]:
    return SemanticIds.from_codes(codes, radices).codebook_use()


# ---- both quantizers ----------------------------------------------------------------------------


@pytest.fixture(params=["rq-kmeans", "rq-vae"])
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    if request.param == "rq-kmeans":
        return RQKMeans(RQKMeansConfig(levels=2, codes=(4, 6)))
    return RQVAE(SMALL_VAE)


def test_codes_have_the_configured_ranges(quantizer: Quantizer) -> None:
    codes = quantizer.fit(clustered(200)).encode(clustered(50, seed=1))
    assert codes.shape == (50, 2)
    assert codes.dtype == torch.int64
    assert quantizer.radices == (4, 6)
    assert [len(book) for book in quantizer.codebooks] == [4, 6]
    assert (codes >= 0).all()
    assert (codes < torch.tensor([4, 6])).all()


def test_same_seed_gives_the_same_codes_and_global_random_state_is_kept(
    quantizer: Quantizer,
) -> None:
    vectors = clustered(200)
    fitted = []
    with torch.random.fork_rng(devices=[]):
        for state_seed in (11, 12):  # what others left in the global generator must not matter
            torch.manual_seed(state_seed)
            before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
            fitted.append(type(quantizer)(quantizer.config).fit(vectors))
            assert torch.equal(before, torch.get_rng_state())
            assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002
    first, second = fitted
    for a, b in zip(first.codebooks, second.codebooks, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(first.encode(vectors), second.encode(vectors))

    other = type(quantizer)(replace(quantizer.config, seed=1)).fit(vectors)
    assert not torch.equal(first.codebooks[0], other.codebooks[0])


def test_codes_do_not_depend_on_the_batch(quantizer: Quantizer) -> None:
    vectors = clustered(60)
    codes = quantizer.fit(vectors).encode(vectors)
    assert torch.equal(codes, torch.cat([quantizer.encode(row[None]) for row in vectors]))
    assert quantizer.encode(vectors[:0]).shape == (0, 2)


def test_equal_vectors_get_equal_codes(quantizer: Quantizer) -> None:
    vectors = clustered(20).repeat(5, 1)
    codes = quantizer.fit(vectors).encode(vectors).view(5, 20, 2)
    assert (codes == codes[0]).all()


def test_one_vector_is_reconstructed(quantizer: Quantizer) -> None:
    vectors = torch.tensor([[3.0, -4.0, 0.5]])
    decoded = quantizer.fit(vectors).decode(quantizer.encode(vectors))
    torch.testing.assert_close(decoded, vectors, atol=0.1, rtol=0)


def test_fewer_vectors_than_codes_stay_apart(quantizer: Quantizer) -> None:
    vectors = torch.eye(3)
    codes = quantizer.fit(vectors).encode(vectors)
    assert len(codes.unique(dim=0)) == 3


def test_save_and_load_give_the_same_codes(quantizer: Quantizer, tmp_path: Path) -> None:
    vectors = clustered(100)
    quantizer.fit(vectors)
    path = tmp_path / "quantizer.safetensors"
    path.write_text("an older file")
    quantizer.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["quantizer.safetensors"]
    state = torch.get_rng_state()
    loaded = type(quantizer).load(path)
    assert torch.equal(state, torch.get_rng_state())
    assert loaded.config == quantizer.config
    codes = quantizer.encode(vectors)
    assert torch.equal(loaded.encode(vectors), codes)
    assert torch.equal(loaded.decode(codes), quantizer.decode(codes))


def test_a_failed_save_leaves_the_old_file(
    quantizer: Quantizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    quantizer.fit(clustered(30))
    path = tmp_path / "q.safetensors"
    path.write_text("an older file")
    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        quantizer.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["q.safetensors"]
    assert path.read_text() == "an older file"


def test_load_says_what_is_wrong(quantizer: Quantizer, tmp_path: Path) -> None:
    path = tmp_path / "q.safetensors"
    with pytest.raises(FileNotFoundError, match="no quantizer file"):
        type(quantizer).load(path)
    path.write_text("not tensors")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        type(quantizer).load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="kind None"):
        type(quantizer).load(path)
    other = RQVAE(SMALL_VAE) if isinstance(quantizer, RQKMeans) else RQKMeans()
    quantizer.fit(clustered(30)).save(path)
    with pytest.raises(ValueError, match="is needed"):
        type(other).load(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_first_row_that_is_not_finite_is_named(quantizer: Quantizer, bad: float) -> None:
    vectors = clustered(30)
    vectors[7, 2] = vectors[9, 0] = bad
    with pytest.raises(ValueError, match="row 7 holds NaN or inf"):
        quantizer.fit(vectors)
    quantizer.fit(clustered(30))
    with pytest.raises(ValueError, match="row 7 holds NaN or inf"):
        quantizer.encode(vectors)


def test_wrong_inputs_are_named(quantizer: Quantizer) -> None:
    for unfitted in (lambda: quantizer.codebooks, lambda: quantizer.encode(torch.zeros(2, 3))):
        with pytest.raises(RuntimeError, match="call fit or load first"):
            unfitted()
    for shape in ((5,), (5, 0), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"shape .*: \(N, D\) needed"):
            quantizer.fit(torch.zeros(shape))
    with pytest.raises(ValueError, match="vectors has no rows"):
        quantizer.fit(torch.zeros(0, 4))
    quantizer.fit(clustered(30))
    with pytest.raises(ValueError, match=r"shape \(2, 5\): \(N, 16\) needed"):
        quantizer.encode(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"l in 1\.\.2"):
        quantizer.decode(torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"code 6 at level 1 .* 0\.\.5"):
        quantizer.decode(torch.tensor([[0, 0], [3, 6]]))
    with pytest.raises(ValueError, match="code -1 at level 0"):
        quantizer.decode(torch.tensor([[-1, 0]]))


def test_the_bar_is_shown_on_request_only(
    quantizer: Quantizer, capfd: pytest.CaptureFixture[str]
) -> None:
    quantizer.fit(clustered(30))
    assert capfd.readouterr().err == ""
    quantizer.fit(clustered(30), progress=True)
    assert "RQ-" in capfd.readouterr().err


@pytest.mark.parametrize("config", [RQKMeansConfig, RQVAEConfig])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": 0}, "levels is 0"),
        ({"codes": 0}, "codes is 0"),
        ({"codes": 2.5}, "codes is 2.5"),
        ({"codes": (4, 4)}, r"codes is \(4, 4\): one number, or one per level \(3\)"),
        ({"codes": (4, 0, 4)}, "codes is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_configs_name_the_field(config: type, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden", (8, 0)),
        ("latent", 0),
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("beta", -0.1),
        ("revive_every", -1),
    ],
)
def test_rq_vae_config_names_the_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} is "):
        RQVAEConfig(**{field: value})


# ---- RQ-KMeans ----------------------------------------------------------------------------------


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


# ---- RQ-VAE -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> tuple[Tensor, RQVAE]:
    vectors = clustered(600, width=24, clusters=40)
    return vectors, RQVAE(RQVAEConfig(levels=3, codes=32, epochs=80)).fit(vectors)


def test_rq_vae_uses_its_codes(trained: tuple[Tensor, RQVAE]) -> None:
    vectors, quantizer = trained
    assert min(use(quantizer.encode(vectors), quantizer.radices)) >= 0.9


def test_rq_vae_reconstructs_better_level_by_level_and_beats_the_mean(
    trained: tuple[Tensor, RQVAE],
) -> None:
    vectors, quantizer = trained
    codes = quantizer.encode(vectors)
    errors = [error(vectors, quantizer.decode(codes[:, :level])) for level in (1, 2, 3)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.3 * error(vectors, vectors.mean(0))
    shuffled = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))]
    assert errors[2] < 0.3 * error(vectors, quantizer.decode(shuffled))


def test_rq_vae_does_not_depend_on_the_vectors_scale_or_offset(
    trained: tuple[Tensor, RQVAE],
) -> None:
    vectors, _ = trained
    config = replace(SMALL_VAE, epochs=3)
    plain, scaled = RQVAE(config).fit(vectors), RQVAE(config).fit(vectors * 1024)
    assert torch.equal(plain.encode(vectors), scaled.encode(vectors * 1024))
    codes = plain.encode(vectors)
    torch.testing.assert_close(plain.decode(codes) * 1024, scaled.decode(codes))


def test_rq_vae_codes_equal_a_slow_loop_over_its_latents(trained: tuple[Tensor, RQVAE]) -> None:
    vectors, quantizer = trained
    network = quantizer._trained
    with torch.no_grad():
        latents = network.encoder((vectors[:40] - network.mean) / network.scale)
    assert torch.equal(quantizer.encode(vectors[:40]), slow_codes(latents, quantizer.codebooks))


def test_loss_equals_its_definition_and_reaches_every_weight() -> None:
    vectors = clustered(10, width=5)
    network = _Network(5, SMALL_VAE)
    network.start_codebooks(vectors, 0, torch.Generator().manual_seed(0))
    loss = network.loss(vectors, beta=0.25)
    loss.backward()

    with torch.no_grad():
        latents = network.encoder(vectors)
        left, expected = latents, torch.zeros(())
        for book, codes in zip(
            network.codebooks, slow_codes(latents, tuple(network.codebooks)).T, strict=True
        ):
            expected = expected + 1.25 * (left - book[codes]).square().mean()
            left = left - book[codes]
        output = network.decoder(latents - left)
        expected = expected + (output - vectors).square().mean()
    torch.testing.assert_close(loss.detach(), expected)
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name


def test_the_straight_through_gradient_skips_the_codebooks() -> None:
    """With beta 0 the encoder's gradient is the decoder's at the quantized latent."""
    vectors = clustered(10, width=5)
    network = _Network(5, SMALL_VAE)
    network.start_codebooks(vectors, 0, torch.Generator().manual_seed(0))
    network.loss(vectors, beta=0.0).backward()
    got = network.encoder[0].weight.grad.clone()

    latents = network.encoder(vectors)
    codes = slow_codes(latents.detach(), tuple(book.detach() for book in network.codebooks))
    books = network.codebooks
    quantized = sum(book[column] for book, column in zip(books, codes.T, strict=True)).detach()
    quantized.requires_grad_()
    (network.decoder(quantized) - vectors).square().mean().backward()
    (expected,) = torch.autograd.grad(latents, network.encoder[0].weight, quantized.grad)
    torch.testing.assert_close(got, expected)


def test_revival_moves_dead_codes_onto_data_and_leaves_the_others() -> None:
    vectors = clustered(50, width=5)
    network = _Network(5, SMALL_VAE)
    network.start_codebooks(vectors, 0, torch.Generator().manual_seed(0))
    book = network.codebooks[0]
    with torch.no_grad():
        book[1] = 1e6
        latents = network.encoder(vectors)
    kept = book.detach().clone()
    network.revive(vectors, torch.Generator().manual_seed(0))
    assert (latents == book[1]).all(1).any()
    assert torch.equal(book[[0, 2, 3]], kept[[0, 2, 3]])


def test_revival_raises_use_where_codes_die() -> None:
    vectors = clustered(300, width=8, clusters=5)
    config = RQVAEConfig(levels=2, codes=64, hidden=(16,), latent=4, epochs=40, lr=3e-3)
    shares = []
    for every in (0, 5):
        quantizer = RQVAE(replace(config, revive_every=every)).fit(vectors)
        shares.append(sum(use(quantizer.encode(vectors), quantizer.radices)))
    assert shares[1] > shares[0]


def test_rq_vae_says_when_training_diverges() -> None:
    config = replace(SMALL_VAE, lr=1e30)
    with pytest.raises(RuntimeError, match=r"diverged in epoch \d+ .* below lr=1e\+30"):
        RQVAE(config).fit(clustered(30))


def test_rq_vae_trains_inside_no_grad() -> None:
    with torch.no_grad():
        inside = RQVAE(SMALL_VAE).fit(clustered(30))
    outside = RQVAE(SMALL_VAE).fit(clustered(30))
    assert torch.equal(inside.codebooks[1], outside.codebooks[1])
    assert not inside.codebooks[0].requires_grad
