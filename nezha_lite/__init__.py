"""nezha-lite: fast decoding for generative recommendation, to learn, try and trust.

The way of the data, one call an arrow:

    InteractionDataset → SemanticIds → prompts → NezhaModel → Decoder(Verifier) → DecodeTrace

Training, evaluation, plots and widgets are imported from their own modules, so that this import
stays as light as transformers' own.
"""

from nezha_lite.datasets import InteractionDataset, load_dataset
from nezha_lite.decoding import (
    AutoregressiveDecoder,
    CapturedDecoder,
    DecodeResult,
    DecodeTrace,
    NezhaDecoder,
)
from nezha_lite.model import NezhaModel
from nezha_lite.model.config import NezhaConfig
from nezha_lite.semantic_ids import SemanticIds, released_semantic_ids
from nezha_lite.verifiers import (
    HashSetVerifier,
    RequestFilter,
    SortedVerifier,
    Verifier,
    make_verifier,
)

__version__ = "0.1.0"

__all__ = [
    "AutoregressiveDecoder",
    "CapturedDecoder",
    "DecodeResult",
    "DecodeTrace",
    "HashSetVerifier",
    "InteractionDataset",
    "NezhaConfig",
    "NezhaDecoder",
    "NezhaModel",
    "RequestFilter",
    "SemanticIds",
    "SortedVerifier",
    "Verifier",
    "load_dataset",
    "make_verifier",
    "released_semantic_ids",
]
