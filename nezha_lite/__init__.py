"""nezha-lite: fast decoding for generative recommendation (NEZHA, arXiv 2511.18793).

The steps from data to lists, and the folder of each:

    dataset = load_dataset("sample")                    datasets       users' items in time order
    ids = SemanticIds.from_codes(codes, radices)        semantic_ids   L codes for each item
    model = NezhaModel.from_preset("tiny", ids)         model          backbone and draft head
    train(model, ids, dataset, folder)                  training       joint loss, checkpoints
    verifier = make_verifier("auto", ids, "cpu")        verifiers      which IDs exist
    prompts = model.build_prompts(histories, ids)       model          histories as tokens
    NezhaDecoder(model, verifier).decode(prompts, 50)   decoding       ranked IDs and a trace

The classes and functions below are imported from those folders. `training`, `evaluation`, `bench`,
`plots` and `widgets` have imports of their own: this import loads no Trainer and no figures, and
transformers only when a model is asked for.
"""

from typing import TYPE_CHECKING

from nezha_lite.common.lazy import lazy_names
from nezha_lite.datasets import InteractionDataset, load_dataset
from nezha_lite.decoding import (
    AutoregressiveDecoder,
    CapturedDecoder,
    DecodeResult,
    DecodeTrace,
    NezhaDecoder,
)
from nezha_lite.semantic_ids import SemanticIds, released_semantic_ids
from nezha_lite.verifiers import (
    HashSetVerifier,
    RequestFilter,
    SortedVerifier,
    Verifier,
    make_verifier,
)

if TYPE_CHECKING:
    from nezha_lite.model import NezhaConfig, NezhaModel

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

__getattr__ = lazy_names(__name__, NezhaConfig="model", NezhaModel="model")
