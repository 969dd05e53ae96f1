"""Decoders: from prompts to ranked lists of semantic IDs."""

from nezha_lite.decoding.autoregressive import AutoregressiveDecoder
from nezha_lite.decoding.base import VERIFICATIONS, Decoder, DecodeResult, Verification
from nezha_lite.decoding.nezha import NezhaDecoder
from nezha_lite.decoding.trace import DecodeTrace, LevelTrace

__all__ = [
    "VERIFICATIONS",
    "AutoregressiveDecoder",
    "DecodeResult",
    "DecodeTrace",
    "Decoder",
    "LevelTrace",
    "NezhaDecoder",
    "Verification",
]
