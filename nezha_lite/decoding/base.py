"""The one interface of all decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from torch import Tensor

from nezha_lite.decoding.trace import DecodeTrace
from nezha_lite.prompts import Prompts
from nezha_lite.verifiers import RequestFilter

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
