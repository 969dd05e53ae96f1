"""NEZHA's drafts at temperatures other than 1, against a slow search over dictionaries."""

import math
from collections.abc import Sequence

import pytest
import torch

from nezha_lite.decoding import CapturedDecoder, NezhaDecoder, Verification
from nezha_lite.model import NezhaModel
from nezha_lite.verifiers import SortedVerifier
from tests.decoding.test_decoding import nezha_log_probs
from tests.helpers.builders import catalogue, tiny_model
from tests.helpers.slow_decoding import LogProbs, Prefix, check_list, slow_search

IDS = catalogue(9, seed=2)
HISTORIES = [[3, 1, 4], [], [5]]


@pytest.fixture(scope="module")
def model() -> NezhaModel:
    return tiny_model(IDS, max_items=4)


def tempered(log_probs: LogProbs, temperature: float) -> LogProbs:
    """p^(1/τ), normalized by plain sums."""

    def of(prefix: Prefix) -> Sequence[float]:
        powers = [math.exp(value / temperature) for value in log_probs(prefix)]
        return [math.log(power / sum(powers)) for power in powers]

    return of


@pytest.mark.parametrize("temperature", [0.25, 0.7, 3.0])
@pytest.mark.parametrize("verification", ["off", "final", "prefix"])
@torch.inference_mode()
def test_lists_equal_a_slow_search(
    model: NezhaModel, temperature: float, verification: Verification
) -> None:
    decoder = NezhaDecoder(model, SortedVerifier(IDS), verification, temperature)
    result = decoder.decode(model.build_prompts(HISTORIES, IDS), beam=4)
    for row, history in enumerate(HISTORIES):
        log_probs = tempered(nezha_log_probs(model, history, IDS), temperature)
        expected, _ = slow_search(log_probs, IDS, 4, verification)
        check_list(result, row, expected, IDS)


def test_temperature_1_changes_no_bit(model: NezhaModel) -> None:
    prompts, verifier = model.build_prompts(HISTORIES, IDS), SortedVerifier(IDS)
    plain = NezhaDecoder(model, verifier).decode(prompts, 5)
    temperature_one = NezhaDecoder(model, verifier, temperature=1.0).decode(prompts, 5)
    assert torch.equal(plain.keys, temperature_one.keys)
    assert torch.equal(plain.scores, temperature_one.scores)


def test_a_captured_decoder_keeps_the_temperature(model: NezhaModel) -> None:
    prompts = model.build_prompts(HISTORIES, IDS)
    decoder = NezhaDecoder(model, SortedVerifier(IDS), temperature=2.0)
    captured = CapturedDecoder(decoder, compile=False).decode(prompts, 4)
    torch.testing.assert_close(captured.scores, decoder.decode(prompts, 4).scores)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_temperatures_that_mean_nothing_are_refused(model: NezhaModel, temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature is {temperature}, but must be above 0"):
        NezhaDecoder(model, SortedVerifier(IDS), temperature=temperature)
