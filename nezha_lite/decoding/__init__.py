"""Decoders: from prompts to ranked lists of semantic IDs.

    from nezha_lite.decoding import NezhaDecoder
    from nezha_lite.decoding.recommender import Recommender     histories of items → lists of items

    NezhaDecoder            one pass of the backbone, then a beam search over the draft head
    ParallelHeadsDecoder    the same without the head's transition: the levels are independent
    AutoregressiveDecoder   the baseline: beam search through the backbone, one pass per code
    GenerateDecoder         the baseline of most users: `generate` of transformers
    SpeculativeDecoder      the head drafts and the backbone verifies: autoregressive lists
    ExactDecoder            no search: scores every existing ID
    CapturedDecoder         one of the first three as compiled programs

Every decoder has the method `decode`, which returns a `DecodeResult`. All but `GenerateDecoder` and
`ExactDecoder` return a `DecodeTrace` on request, the record of every level. Read first `base`,
`trace`, `beam_search` and `nezha`.
"""

from typing import TYPE_CHECKING

from nezha_lite.common.lazy import lazy_names
from nezha_lite.decoding.autoregressive import AutoregressiveDecoder
from nezha_lite.decoding.base import VERIFICATIONS, Decoder, DecodeResult, Verification
from nezha_lite.decoding.captured import CapturedDecoder
from nezha_lite.decoding.exact import ExactDecoder
from nezha_lite.decoding.nezha import NezhaDecoder, ParallelHeadsDecoder
from nezha_lite.decoding.speculative import SpeculativeDecoder
from nezha_lite.decoding.trace import DecodeTrace, LevelTrace

if TYPE_CHECKING:
    from nezha_lite.decoding.generate import GenerateDecoder

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

__getattr__ = lazy_names(__name__, GenerateDecoder="generate")
