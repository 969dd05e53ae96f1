"""Decoders: from prompts to ranked lists of semantic IDs.

All have one method, `decode`, one result and one trace:

    NezhaDecoder            one pass of the backbone, a beam search over the draft head
    ParallelHeadsDecoder    the same without the head's transition: every level on its own
    AutoregressiveDecoder   the strong baseline: beam search through the backbone, prompt kept once
    GenerateDecoder         Hugging Face's `generate`, what users reach for
    SpeculativeDecoder      drafts with the head, verifies with the backbone: autoregressive results
    ExactDecoder            no search: scores the whole catalogue, the oracle
    CapturedDecoder         any of the first three as one compiled program
"""

from nezha_lite.decoding.autoregressive import AutoregressiveDecoder
from nezha_lite.decoding.base import VERIFICATIONS, Decoder, DecodeResult, Verification
from nezha_lite.decoding.captured import CapturedDecoder
from nezha_lite.decoding.exact import ExactDecoder
from nezha_lite.decoding.generate import GenerateDecoder
from nezha_lite.decoding.nezha import NezhaDecoder, ParallelHeadsDecoder
from nezha_lite.decoding.speculative import SpeculativeDecoder
from nezha_lite.decoding.trace import DecodeTrace, LevelTrace

__all__ = [
    "VERIFICATIONS",
    "AutoregressiveDecoder",
    "CapturedDecoder",
    "DecodeResult",
    "DecodeTrace",
    "Decoder",
    "ExactDecoder",
    "GenerateDecoder",
    "LevelTrace",
    "NezhaDecoder",
    "ParallelHeadsDecoder",
    "SpeculativeDecoder",
    "Verification",
]
