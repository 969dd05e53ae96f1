"""RQ-VAE: its codes, its loss and gradients, the revival of dead codes."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nezha_lite.semantic_ids.quantizers import RQVAE, RQVAEConfig
from nezha_lite.semantic_ids.quantizers.rq_vae import _Network
from tests.helpers.slow_quantizing import SMALL_VAE, clustered, error, slow_codes, use


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
    network = quantizer._network
    with torch.no_grad():
        float32 = network.encoder((vectors[:40] - network.mean) / network.scale)
        latents = quantizer._inputs(vectors[:40])
    torch.testing.assert_close(latents, float32)
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
    latents = network.latents(vectors)
    kept = book.detach().clone()
    network.revive(vectors, torch.Generator().manual_seed(0))
    assert (latents == book[1]).all(1).any()
    assert torch.equal(book[[0, 2, 3]], kept[[0, 2, 3]])


def test_the_last_revival_leaves_no_code_dead() -> None:
    vectors = clustered(300, width=8, clusters=5)
    network = _Network(8, replace(SMALL_VAE, codes=(64, 64)))
    generator = torch.Generator().manual_seed(0)
    network.start_codebooks(vectors, 0, generator)
    with torch.no_grad():
        for book in network.codebooks:
            book[5:] = 1e6
    network.revive(vectors, generator, tries=20)
    codes = slow_codes(network.latents(vectors), tuple(b.detach() for b in network.codebooks))
    assert use(codes, (64, 64)) == [1.0, 1.0]


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
    with pytest.raises(FloatingPointError, match=r"diverged in epoch \d+ .* below lr=1e\+30"):
        RQVAE(config).fit(clustered(30))


def test_rq_vae_trains_inside_no_grad() -> None:
    with torch.no_grad():
        inside = RQVAE(SMALL_VAE).fit(clustered(30))
    outside = RQVAE(SMALL_VAE).fit(clustered(30))
    assert torch.equal(inside.codebooks[1], outside.codebooks[1])
    assert not inside.codebooks[0].requires_grad
