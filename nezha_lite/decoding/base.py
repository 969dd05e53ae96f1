"""The one interface of all decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from torch import Tensor
from transformers import PreTrainedConfig

from nezha_lite.decoding.trace import DecodeTrace
from nezha_lite.model.prompts import Prompts
from nezha_lite.verifiers import RequestFilter, Verifier

Verification = Literal["off", "final", "prefix"]
VERIFICATIONS: tuple[Verification, ...] = get_args(Verification)


@dataclass(frozen=True, eq=False)
class DecodeResult:
    """A ranked list of semantic IDs per prompt.

    Equal scores are a tie, and ties are in no order. The same prompts decoded by another path
    (compiled, batched, cached) round differently, so between paths scores within 1e-5 are ties in
    float32; in float64 no such tie was ever met.

    Attributes:
        keys: (B, K) int64, best first; -1 marks an empty place: the draft was rejected, or fewer
            IDs exist than the beam is wide. Empty places come last.
        scores: (B, K) float32, float64 for a float64 model: log-probabilities; -inf in empty
            places.
        backbone_calls: forward passes of the backbone for this batch.
        trace: per level what was proposed, rejected, pruned and kept; None unless asked for.
        accepted: speculative decoding only: (B, L−1) float32, the share of the beams kept after
            each level but the last that the draft had foreseen; None elsewhere.
    """

    keys: Tensor
    scores: Tensor
    backbone_calls: int
    trace: DecodeTrace | None
    accepted: Tensor | None = None


class Decoder(Protocol):
    """A pure function of its model, the prompts, its verifier and the beam width."""

    def decode(
        self,
        prompts: Prompts,
        beam: int,
        trace: bool = False,
        requests: RequestFilter | None = None,
    ) -> DecodeResult:
        """Decode a batch of prompts (mixed history lengths welcome) with `beam` beams.

        Args:
            prompts: B prompts, on the model's device.
            beam: K, how many IDs to keep at every level and to return.
            trace: record every level; otherwise recording costs nothing.
            requests: what each prompt may be given; every decoder obeys it at every level.
        """


def check_verifier(
    radices: tuple[int, ...], verifier: Verifier | None, verification: Verification
) -> None:
    """Raise ValueError for an unknown mode, a missing verifier, or one of other radices."""
    if verification not in VERIFICATIONS:
        raise ValueError(f"verification is {verification!r}, but must be one of {VERIFICATIONS}.")
    if verifier is None and verification != "off":
        raise ValueError(f"verification {verification!r} needs a verifier, but it is None.")
    if verifier is not None and verifier.radices != radices:
        raise ValueError(
            f"The verifier's radices are {verifier.radices}, but the model's are {radices}."
        )


def check_writes_codes(config: PreTrainedConfig) -> None:
    """Raise ValueError for a model whose backbone was taught nothing about next codes."""
    if config.next_code_weight == 0:
        raise ValueError(
            "next_code_weight is 0: this model's backbone was not trained to write codes, so only "
            "its draft head can decode."
        )


def check_call(prompts: Prompts, beam: int, requests: RequestFilter | None) -> None:
    """Raise ValueError if `beam` is below 1, or `requests` are for another number of prompts."""
    if beam < 1:
        raise ValueError(f"beam is {beam}, but must be at least 1.")
    if requests is not None and len(requests) not in (1, len(prompts)):
        raise ValueError(
            f"requests holds sets for {len(requests)} prompts, but there are {len(prompts)}."
        )
