"""The decoders of the benches by name, and the bare forward passes they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from nezha_lite.common.results import ResultRow
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
from nezha_lite.model import NezhaModel, Prompts
from nezha_lite.verifiers import Verifier


class TimedDecoder(Protocol):
    """What a bench times."""

    def decode(self, prompts: Prompts, beam: int) -> DecodeResult | None:
        """Do the work once."""


class HuggingFaceForward:
    """One pass of the backbone over the prompt as transformers' users call it: eager, no head."""

    def __init__(self, model: NezhaModel) -> None:
        self.backbone = model.backbone.base_model

    @torch.inference_mode()
    def decode(self, prompts: Prompts, beam: int) -> None:
        """See `TimedDecoder.decode`; there is nothing to decode."""
        self.backbone(
            input_ids=prompts.input_ids, attention_mask=prompts.attention_mask, use_cache=False
        )


class BareForward(BeamSearchDecoder):
    """NEZHA's forward pass without a search. Captured, it is the least a captured decoder costs."""

    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """See `BeamSearchDecoder.run`."""
        hidden = self.model.draft_states(prompts)  # (B, L+1, D)
        # A compiler drops a pass whose result is not used.
        search.scores = hidden[:, -1:, 0].to(search.scores.dtype)
        return 1


@dataclass(frozen=True)
class DecoderKind:
    """How a decoder is made, and what it is compared with.

    Attributes:
        make: from the model, a verifier and a verification mode.
        captured: one compiled program (on CUDA one graph), compared with the captured forward
            pass; the others are eager and compared with the eager one.
        verification: the mode, where the name implies it.
        forward: a bare forward pass: no beam, no verifier.
    """

    make: Callable[[NezhaModel, Verifier, Verification], TimedDecoder]
    captured: bool = False
    verification: Verification | None = None
    forward: bool = False


DECODERS: Mapping[str, DecoderKind] = {
    "forward": DecoderKind(lambda model, *_: HuggingFaceForward(model), forward=True),
    "forward-captured": DecoderKind(
        lambda model, *_: BareForward(model, None, "off"), captured=True, forward=True
    ),
    "nezha": DecoderKind(NezhaDecoder, captured=True),
    "parallel-heads": DecoderKind(ParallelHeadsDecoder, captured=True),
    "autoregressive": DecoderKind(AutoregressiveDecoder, captured=True),
    "nezha-eager": DecoderKind(NezhaDecoder),
    "parallel-heads-eager": DecoderKind(ParallelHeadsDecoder),
    "autoregressive-eager": DecoderKind(AutoregressiveDecoder),
    "speculative": DecoderKind(SpeculativeDecoder),
    "generate": DecoderKind(GenerateDecoder, verification="off"),
    "generate-constrained": DecoderKind(GenerateDecoder, verification="prefix"),
}
USUAL = ("forward", "nezha", "nezha-eager", "autoregressive", "speculative", "generate-constrained")


def make_decoder(
    name: str,
    model: NezhaModel,
    verifier: Verifier,
    verification: Verification,
    compile: bool | None = None,
) -> TimedDecoder:
    """The decoder of this name.

    Args:
        name: one of `DECODERS`.
        model: in eval mode.
        verifier: the catalogue.
        verification: for decoders whose name leaves it open.
        compile: for captured decoders, see `CapturedDecoder`.

    Raises:
        ValueError: if this model or verifier cannot be decoded so.
    """
    kind = DECODERS[name]
    decoder = kind.make(model, verifier, kind.verification or verification)
    if not kind.captured:
        return decoder
    assert isinstance(decoder, BeamSearchDecoder)
    return CapturedDecoder(decoder, compile, background=False)


def forward_ratio(row: ResultRow) -> tuple[float | None, str]:
    """A latency row's median over the median of a forward pass of its own kind, and which kind.

    Captured decoders are compared with the captured forward pass, eager ones with the eager one:
    never one with the other. Older rows call the ratio to the eager pass `ratio_to_forward`.

    Returns:
        The ratio, None where that pass was not measured; "captured", "eager", or "" for a row of no
        decoder of `DECODERS`.
    """
    kind = DECODERS.get(row.decoder or "")
    if kind is None:
        return None, ""
    if kind.captured:
        return row.metrics.get("ratio_to_captured_forward"), "captured"
    eager = row.metrics.get("ratio_to_forward")
    return row.metrics.get("ratio_to_eager_forward", eager), "eager"
