"""The one interface of all decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from torch import Tensor

from nezha_lite.decoding.trace import DecodeTrace
from nezha_lite.prompts import Prompts

Verification = Literal["off", "final", "prefix"]
VERIFICATIONS: tuple[Verification, ...] = get_args(Verification)


@dataclass(frozen=True, eq=False)
class DecodeResult:
    """A ranked list of semantic IDs per prompt.

    Attributes:
        keys: (B, K) int64, best first; -1 marks an empty place: the draft was rejected, or fewer
            IDs exist than the beam is wide. Empty places come last.
        scores: (B, K) float32, log-probabilities; -inf in empty places.
        backbone_calls: forward passes of the backbone for this batch.
        trace: per level what was proposed, rejected, pruned and kept; None unless asked for.
    """

    keys: Tensor
    scores: Tensor
    backbone_calls: int
    trace: DecodeTrace | None


class Decoder(Protocol):
    """A pure function of its model, the prompts, its verifier and the beam width."""

    def decode(self, prompts: Prompts, beam: int, trace: bool = False) -> DecodeResult:
        """Decode a batch of prompts (mixed history lengths welcome) with `beam` beams."""
