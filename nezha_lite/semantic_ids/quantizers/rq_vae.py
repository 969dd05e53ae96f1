"""RQ-VAE: an autoencoder whose latent is residual-quantized (TIGER, arXiv 2305.05065, sec. 3.1).

Unlike RQ-KMeans, the space in which the codes are chosen is learned together with them. Left
alone, such codebooks collapse onto few codes; three measures work against it here: k-means starts
the codebooks, a commitment loss keeps latents near their codes, and unused codes are moved
onto the data again.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from tqdm import tqdm

from nezha_lite.common.checks import Count, CountOrZero, Valid
from nezha_lite.semantic_ids.quantizers.base import (
    QuantizerConfig,
    check_rows,
    check_shape,
    check_vectors,
)
from nezha_lite.semantic_ids.quantizers.residual import ResidualQuantizer, nearest_codes
from nezha_lite.semantic_ids.quantizers.rq_kmeans import RQKMeans, RQKMeansConfig

_WIDTHS = Valid(
    lambda widths: all(type(width) is int and width >= 1 for width in widths),
    "whole numbers of at least 1",
)


@dataclass(frozen=True)
class RQVAEConfig(QuantizerConfig):
    """How to build and train an `RQVAE`.

    Attributes:
        hidden: the encoder's hidden widths; the decoder mirrors them.
        latent: the width of the space in which codes are chosen.
        epochs, batch_size, lr: of the training with Adam.
        beta: weight of the commitment loss.
        revive_every: after so many epochs, and at the end, codes that no item uses are moved onto
            random residuals; 0 switches that off.

    Raises:
        ValueError: naming the field that is out of range.
    """

    hidden: Annotated[tuple[int, ...], _WIDTHS] = (128,)
    latent: Count = 32
    epochs: Count = 200
    batch_size: Count = 256
    lr: Annotated[float, Valid(lambda lr: 0 < lr < inf, "a finite number above 0")] = 1e-3
    beta: Annotated[float, Valid(lambda b: 0 <= b < inf, "a finite number of at least 0")] = 0.25
    revive_every: CountOrZero = 10


class RQVAE(ResidualQuantizer):
    """A residual-quantized autoencoder; its codebooks (C_l, latent) lie in the latent space.

    Trains and encodes on the CPU, where a seed fixes the result (for one machine and number of
    threads); the global random state is left as it was.
    """

    kind = "rq-vae"
    config_class = RQVAEConfig
    config: RQVAEConfig
    codebook_name = "codebooks"
    _network: "_Network"

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Train on `vectors` (N, D) and return self; `progress` shows a bar over the epochs.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf;
        FloatingPointError if the loss stops being finite.
        """
        config = self.config
        vectors = check_rows(vectors)
        generator = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            # Layers draw their weights from the default generator. torch.manual_seed would also
            # seed the accelerators, which fork_rng does not restore here.
            torch.default_generator.manual_seed(config.seed)
            network = _Network(vectors.shape[1], config)
            vectors = network.standardise(vectors)
            network.start_codebooks(vectors, config.seed, generator)
            optimizer = Adam(network.parameters(), lr=config.lr)
            bar = tqdm(range(1, config.epochs + 1), "RQ-VAE", unit="epoch", disable=not progress)
            for epoch in bar:
                total = network.train_epoch(vectors, optimizer, generator)
                if not isfinite(total):
                    raise FloatingPointError(
                        f"RQ-VAE diverged in epoch {epoch} (loss {total}): "
                        f"use a learning rate below lr={config.lr}"
                    )
                bar.set_postfix(loss=f"{total / len(vectors):.4f}", refresh=False)
                if config.revive_every and epoch % config.revive_every == 0 < config.epochs - epoch:
                    network.revive(vectors, generator)
            if config.revive_every:
                # No training follows, so each code must be the nearest of an item where it is put.
                network.revive(vectors, generator, tries=20)
        self._network, self._state = network, network.state_dict()
        return self

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See `Quantizer.restore`."""
        check_shape("mean", tensors["mean"], range(1, 2**31))
        with torch.device("meta"):  # no weights are drawn, since they are replaced at once
            network = _Network(len(tensors["mean"]), self.config)
        network.load_state_dict(tensors, assign=True)
        self._network, self._state = network, network.state_dict()

    @torch.no_grad()
    def _inputs(self, vectors: Tensor) -> Tensor:
        mean, scale = self.state["mean"], self.state["scale"]
        parts = torch.split(check_vectors(vectors, len(mean)), 2**16)
        return torch.cat([self._network.latents((x.double() - mean) / scale) for x in parts])

    @torch.no_grad()
    def _reconstruct(self, codewords: list[Tensor]) -> Tensor:
        output: Tensor = self._network.decoder(super()._reconstruct(codewords))
        return output * self.state["scale"] + self.state["mean"]


class _Network(nn.Module):
    """Encoder (D -> latent), L codebooks, decoder (latent -> D), and the input's mean and scale."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, config: RQVAEConfig) -> None:
        super().__init__()
        self.config = config
        widths = (width, *config.hidden, config.latent)
        self.encoder = _mlp(widths)
        self.decoder = _mlp(widths[::-1])
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.zeros(codes, config.latent)) for codes in config.radices
        )
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    def standardise(self, vectors: Tensor) -> Tensor:
        """Set mean and scale from `vectors` (N, D); return them centred, at unit mean square."""
        # One scale for all coordinates keeps distances in proportion, and makes lr and beta mean
        # the same for unit-length text vectors as for any other input.
        self.mean = vectors.double().mean(0).float()
        scale = (vectors - self.mean).double().square().mean().sqrt().float()
        self.scale = scale if scale > 0 else torch.ones(())
        return (vectors - self.mean) / self.scale

    @torch.no_grad()
    def start_codebooks(self, vectors: Tensor, seed: int, generator: torch.Generator) -> None:
        """Set the codebooks by residual k-means of the untrained encoder's latents."""
        latents = self.encoder(vectors)  # (N, latent)
        radices = tuple(len(book) for book in self.codebooks)
        kmeans = RQKMeans(RQKMeansConfig(len(radices), radices, seed, iterations=20, restarts=1))
        for book, start in zip(self.codebooks, kmeans.fit(latents).codebooks, strict=True):
            # k-means gives fewer rows when there are fewer distinct vectors than codes.
            book.normal_(std=float(latents.square().mean().sqrt()), generator=generator)
            book[: len(start)] = start

    def train_epoch(self, vectors: Tensor, optimizer: Adam, generator: torch.Generator) -> float:
        """One pass over standardised `vectors` (N, D) in random order: the sum of their losses."""
        total = 0.0
        order = torch.randperm(len(vectors), generator=generator)
        for batch in torch.split(order, self.config.batch_size):
            loss = self.loss(vectors[batch], self.config.beta)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        return total

    def loss(self, vectors: Tensor, beta: float) -> Tensor:
        """Mean reconstruction, codebook and commitment loss of standardised `vectors` (B, D)."""
        latents = self.encoder(vectors)  # (B, latent)
        residual, quantized = latents, torch.zeros_like(latents)
        loss = torch.zeros(())
        for book in self.codebooks:
            with torch.no_grad():  # squared distances, less a term that all codes share
                costs = book.square().sum(1) - 2 * residual @ book.T  # (B, C)
            codewords = book[costs.argmin(1)]  # (B, latent)
            loss = loss + F.mse_loss(codewords, residual.detach())
            loss = loss + beta * F.mse_loss(residual, codewords.detach())
            residual = residual - codewords.detach()
            quantized = quantized + codewords.detach()
        # Straight-through: forward uses the codes, backward passes the latent's gradient.
        straight = latents + (quantized - latents).detach()
        return loss + F.mse_loss(self.decoder(straight), vectors)

    @torch.no_grad()
    def latents(self, vectors: Tensor) -> Tensor:
        """The encoder's output for standardised `vectors` (N, D): float32 (N, latent)."""
        # A matrix product adds in an order that depends on the batch's shape. Rounding a float64
        # product to float32 hides that, so that equal vectors get equal latents in any batch.
        output: Tensor = deepcopy(self.encoder).double()(vectors.double())
        return output.float()

    @torch.no_grad()
    def revive(self, vectors: Tensor, generator: torch.Generator, tries: int = 1) -> None:
        """Move each code that none of `vectors` (N, D) uses onto a randomly drawn residual.

        A moved code may take the last item of another one, which the next of the `tries` moves.
        Adam's averages need no reset: an unused code has had zero gradients.
        """
        residual = self.latents(vectors).double()  # (N, latent)
        for book in self.codebooks:
            for _ in range(tries):
                codes = nearest_codes(residual, book)  # (N,)
                dead = (torch.bincount(codes, minlength=len(book)) == 0).nonzero()[:, 0]
                # A residual that a code already equals gains nothing from another code.
                inexact = (residual.float() != book[codes]).any(1).nonzero()[:, 0]
                drawn = inexact[torch.randperm(len(inexact), generator=generator)[: len(dead)]]
                if not len(drawn):
                    break
                book[dead[: len(drawn)]] = residual[drawn].float()
            residual = residual - book[nearest_codes(residual, book)]


def _mlp(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # the last layer is linear
