"""Decoders of models in training mode, and of models whose weights are not numbers."""

from collections.abc import Callable

import pytest
import torch

from nezha_lite.datasets import Split
from nezha_lite.decoding import (
    VERIFICATIONS,
    AutoregressiveDecoder,
    CapturedDecoder,
    Decoder,
    ExactDecoder,
    GenerateDecoder,
    NezhaDecoder,
    ParallelHeadsDecoder,
    SpeculativeDecoder,
    Verification,
)
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.evaluation.metrics import evaluate
from nezha_lite.model import NezhaModel
from nezha_lite.verifiers import TrieVerifier
from tests.helpers.builders import tiny_model
from tests.helpers.toys import toy_ids

IDS = toy_ids()
HISTORIES = [[3, 1, 4], [], [5], [0, 1, 2, 3, 4, 5]]
DECODERS: dict[str, Callable[[NezhaModel], Decoder]] = {
    "nezha": lambda model: NezhaDecoder(model, TrieVerifier(IDS)),
    "parallel heads": lambda model: ParallelHeadsDecoder(model, TrieVerifier(IDS)),
    "autoregressive": lambda model: AutoregressiveDecoder(model, TrieVerifier(IDS)),
    "speculative": lambda model: SpeculativeDecoder(model, TrieVerifier(IDS)),
    "generate": lambda model: GenerateDecoder(model, TrieVerifier(IDS)),
    "exact, draft": lambda model: ExactDecoder(model, IDS),
    "exact, backbone": lambda model: ExactDecoder(model, IDS, "backbone"),
    "captured": lambda model: CapturedDecoder(NezhaDecoder(model, TrieVerifier(IDS)), False),
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_model_in_training_mode_gives_the_lists_of_evaluation_mode(name: str) -> None:
    model = tiny_model(IDS, dropout=0.5)
    decoder = DECODERS[name](model)
    prompts = model.build_prompts(HISTORIES, IDS)
    expected = decoder.decode(prompts, 6)
    model.train()
    model.head.eval()  # a part that is frozen stays so
    for _ in range(2):
        result = decoder.decode(prompts, 6)
        assert torch.equal(result.keys, expected.keys)
        assert torch.equal(result.scores, expected.scores)
        assert model.training
        assert model.backbone.training
        assert not model.head.training


def test_evaluation_of_a_model_in_training_mode() -> None:
    model = tiny_model(IDS, dropout=0.5)
    split = Split((0, 1, 2, 3), tuple(map(tuple, HISTORIES)), (1, 2, 3, 4))
    decoder = NezhaDecoder(model, TrieVerifier(IDS))
    expected = evaluate(decoder, model, IDS, split, beam=6).lists
    model.train()
    assert evaluate(decoder, model, IDS, split, beam=6).lists == expected
    assert model.training


def test_the_mode_is_restored_after_an_error() -> None:
    model = tiny_model(IDS, dropout=0.5).train()
    model.head.embeddings[0].weight.data[:] = torch.nan
    with pytest.raises(ValueError, match="scores is NaN"):
        NezhaDecoder(model, TrieVerifier(IDS)).decode(model.build_prompts(HISTORIES, IDS), 6)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_no_number_is_an_error(name: str, value: float) -> None:
    model = tiny_model(IDS)
    with torch.no_grad():
        for parameter in model.backbone.base_model.layers[0].parameters():
            parameter.view(-1)[0] = value
    with pytest.raises(ValueError, match="scores is NaN, but must be numbers: the model's weights"):
        DECODERS[name](model).decode(model.build_prompts(HISTORIES, IDS), 6)


@pytest.mark.parametrize("verification", VERIFICATIONS)
@pytest.mark.parametrize("trace", [False, True])
def test_nan_of_a_single_code_is_an_error_in_every_mode(
    verification: Verification, trace: bool
) -> None:
    model = tiny_model(IDS)
    model.head.classifiers[1].bias.data[0] = torch.nan  # the softmax spreads it over the level
    decoder = NezhaDecoder(model, TrieVerifier(IDS), verification)
    with pytest.raises(ValueError, match="scores is NaN"):
        decoder.decode(model.build_prompts(HISTORIES, IDS), 6, trace)


def test_a_recommender_reports_nan_instead_of_an_empty_list() -> None:
    model = tiny_model(IDS)
    model.head.classifiers[0].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="scores is NaN"):
        Recommender(model, IDS).recommend(HISTORIES)
