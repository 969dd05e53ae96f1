"""The decoders of the bench, by name, and the bare forward pass that they are measured against."""

from __future__ import annotations

from typing import Protocol

import torch

from nezha_lite.decoding import (
    AutoregressiveDecoder,
    CapturedDecoder,
    DecodeResult,
    GenerateDecoder,
    NezhaDecoder,
    ParallelHeadsDecoder,
    SpeculativeDecoder,
    Verification,
)
from nezha_lite.decoding.beam_search import BeamSearch, BeamSearchDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.verifiers import Verifier

FORWARDS = ("forward", "forward-captured")
CAPTURED: dict[str, type[BeamSearchDecoder]] = {
    "nezha": NezhaDecoder,
    "parallel-heads": ParallelHeadsDecoder,
    "autoregressive": AutoregressiveDecoder,
}
EAGER: dict[str, type[BeamSearchDecoder]] = {
    "nezha-eager": NezhaDecoder,
    "autoregressive-eager": AutoregressiveDecoder,
}
UNCAPTURABLE = ("hash-set", "isin")  # verifiers whose answer waits for the device
GENERATES: dict[str, Verification] = {"generate": "off", "generate-constrained": "prefix"}
DECODERS = (*FORWARDS, *CAPTURED, *EAGER, "speculative", *GENERATES)
"""All names: "forward" is the backbone's ordinary call, those of `CAPTURED` are compiled (on CUDA
one graph), "-eager" ones are the readable reference; the others cannot be captured."""
USUAL = ("forward", "nezha", "nezha-eager", "autoregressive", "speculative", "generate-constrained")


class Contestant(Protocol):
    """What is timed."""

    def decode(self, prompts: Prompts, beam: int) -> DecodeResult | None:
        """Do the work once."""


class HuggingFaceForward:
    """One pass of the backbone over the prompt as transformers' users call it: eager, no head."""

    def __init__(self, model: NezhaModel) -> None:
        self.backbone = model.backbone.base_model

    @torch.inference_mode()
    def decode(self, prompts: Prompts, beam: int) -> None:
        """See `Contestant.decode`; there is nothing to decode."""
        self.backbone(
            input_ids=prompts.input_ids, attention_mask=prompts.attention_mask, use_cache=False
        )


class BareForward(BeamSearchDecoder):
    """The pass that NEZHA makes, and no search: what `CapturedDecoder` makes of it is the least
    that a captured decoder can cost."""

    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """See `BeamSearchDecoder.run`."""
        hidden = self.model.draft_states(prompts)  # (B, L+1, D)
        # A compiler would leave out a pass whose result nobody reads.
        search.scores = hidden[:, -1:, 0].to(search.scores.dtype)
        return 1


def make_contestant(
    name: str,
    model: NezhaModel,
    verifier: Verifier,
    verification: Verification,
    compile: bool | None,
) -> Contestant:
    """The decoder of this name.

    Args:
        name: one of `DECODERS`.
        model: in eval mode.
        verifier: the catalogue.
        verification: of the beam-search decoders; `generate` has its own.
        compile: see `CapturedDecoder`.

    Raises:
        ValueError: if this model cannot be decoded so.
    """
    if name == "forward":
        return HuggingFaceForward(model)
    if name == "forward-captured":
        return CapturedDecoder(BareForward(model, None, "off"), compile)
    if name in CAPTURED:
        return CapturedDecoder(CAPTURED[name](model, verifier, verification), compile)
    if name in GENERATES:
        return GenerateDecoder(model, verifier, GENERATES[name])
    if name in EAGER:
        return EAGER[name](model, verifier, verification)
    return SpeculativeDecoder(model, verifier, verification)
