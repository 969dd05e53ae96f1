"""Decoders with real models against brute force and a slow beam search; bad input."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch

from nezha_lite.decoding import (
    VERIFICATIONS,
    AutoregressiveDecoder,
    GenerateDecoder,
    NezhaDecoder,
    Verification,
)
from nezha_lite.decoding.speculative import SpeculativeDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import build_prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import HashSetVerifier, SortedVerifier
from tests.helpers.builders import BACKBONES, RADICES, catalogue, tiny_model
from tests.helpers.slow_decoding import (
    LogProbs,
    Prefix,
    best_first,
    check_list,
    check_shape,
    slow_search,
)

IDS = catalogue(9, seed=2)
HISTORIES = [[3, 1, 4], [], [5], [0, 1, 2, 3, 4, 5]]
SPACE = math.prod(RADICES)
DECODERS = (NezhaDecoder, AutoregressiveDecoder, SpeculativeDecoder)
PASSES = {NezhaDecoder: {1}, AutoregressiveDecoder: {3}, SpeculativeDecoder: {2, 3}}


def nezha_log_probs(model: NezhaModel, history: Sequence[int], ids: SemanticIds) -> LogProbs:
    """From teacher forcing over every ID of the space, after one plain pass of the backbone."""
    prompt = build_prompts([history], ids, model.vocabulary, model.config.max_items).input_ids
    hidden = model.backbone.base_model(prompt).last_hidden_state[:, -ids.levels - 1 :]
    every = torch.tensor(list(itertools.product(*(range(radix) for radix in ids.radices))))
    outputs = model.head(hidden.expand(len(every), -1, -1), every)
    table: dict[Prefix, list[float]] = {}
    for level, logits in enumerate(outputs):
        for codes, row in zip(every.tolist(), logits.log_softmax(-1).tolist(), strict=True):
            table[tuple(codes[:level])] = row
    return table.__getitem__


def autoregressive_log_probs(
    model: NezhaModel, history: Sequence[int], ids: SemanticIds
) -> LogProbs:
    """From the whole model, run anew over [history, codes] for every prefix, without a cache."""
    vocabulary = model.vocabulary
    prompt = build_prompts([history], ids, vocabulary, model.config.max_items)
    start = prompt.input_ids[0, : -ids.levels].tolist()
    known: dict[Prefix, list[float]] = {}

    def log_probs(prefix: Prefix) -> list[float]:
        if prefix not in known:
            firsts = vocabulary.level_offsets
            tokens = start + [firsts[level] + code for level, code in enumerate(prefix)]
            logits = model.backbone(torch.tensor([tokens]), use_cache=False).logits[0, -1]
            first = firsts[len(prefix)]
            known[prefix] = logits.log_softmax(-1)[
                first : first + ids.radices[len(prefix)]
            ].tolist()
        return known[prefix]

    return log_probs


SLOW = {
    NezhaDecoder: nezha_log_probs,
    AutoregressiveDecoder: autoregressive_log_probs,
    SpeculativeDecoder: autoregressive_log_probs,
}


@pytest.fixture(scope="module", params=BACKBONES)
def model(request: pytest.FixtureRequest) -> NezhaModel:
    return tiny_model(IDS, request.param, max_items=4)


@pytest.mark.parametrize("decoder_class", DECODERS)
@torch.inference_mode()
def test_decoders_against_the_slow_versions(
    model: NezhaModel, decoder_class: type[NezhaDecoder | AutoregressiveDecoder]
) -> None:
    prompts = model.build_prompts(HISTORIES, IDS)
    tables = [SLOW[decoder_class](model, history, IDS) for history in HISTORIES]
    lists = set()
    for verification, verifier_class in zip(
        VERIFICATIONS, (SortedVerifier, HashSetVerifier, SortedVerifier), strict=True
    ):
        decoder = decoder_class(model, verifier_class(IDS), verification)
        for beam in (1, 2, 3, 5, 8, SPACE, SPACE + 3):
            result = decoder.decode(prompts, beam)
            check_shape(result, len(HISTORIES), beam)
            assert result.backbone_calls in PASSES[decoder_class]
            for row, table in enumerate(tables):
                expected, _ = slow_search(table, IDS, beam, verification)
                check_list(result, row, expected, IDS)
                if beam == 8:
                    lists.add(tuple(result.keys[row].tolist()))
    assert len(lists) > len(HISTORIES), "histories and modes must matter, or this shows nothing"


@pytest.mark.parametrize("decoder_class", DECODERS)
@torch.inference_mode()
def test_a_wide_beam_is_brute_force_over_the_space(
    model: NezhaModel, decoder_class: type[NezhaDecoder | AutoregressiveDecoder]
) -> None:
    prompts = model.build_prompts(HISTORIES, IDS)
    existing = {tuple(row) for row in IDS.codes.tolist()}
    for row, history in enumerate(HISTORIES):
        table = SLOW[decoder_class](model, history, IDS)
        scores = {
            codes: sum(table(codes[:level])[codes[level]] for level in range(3))
            for codes in itertools.product(*(range(radix) for radix in RADICES))
        }
        ranked = [(codes, scores[codes]) for codes in best_first(scores)]
        valid = [(codes, score) for codes, score in ranked if codes in existing]
        # Twelve beams hold every prefix of two codes, so that nothing is lost on the way.
        for beam in (12, SPACE, 40):
            expected = {
                "off": ranked[:beam],
                "final": [pair for pair in ranked[:beam] if pair in valid],
                "prefix": valid[:beam],
            }
            for verification in VERIFICATIONS:
                decoder = decoder_class(model, SortedVerifier(IDS), verification)
                check_list(decoder.decode(prompts, beam), row, expected[verification], IDS)


@pytest.mark.parametrize("transition", ["gru", "none"])
@torch.inference_mode()
def test_nezha_with_other_transitions(transition: str) -> None:
    model = tiny_model(IDS, transition=transition)
    prompts = model.build_prompts(HISTORIES, IDS)
    for verification in VERIFICATIONS:
        result = NezhaDecoder(model, SortedVerifier(IDS), verification).decode(prompts, 5)
        for row, history in enumerate(HISTORIES):
            table = nezha_log_probs(model, history, IDS)
            check_list(result, row, slow_search(table, IDS, 5, verification)[0], IDS)


@pytest.mark.parametrize("decoder_class", DECODERS)
@torch.inference_mode()
def test_a_batch_equals_its_prompts_one_by_one(
    model: NezhaModel, decoder_class: type[NezhaDecoder | AutoregressiveDecoder]
) -> None:
    decoder = decoder_class(model, SortedVerifier(IDS))
    together = decoder.decode(model.build_prompts(HISTORIES, IDS), beam=6)
    for row, history in enumerate(HISTORIES):
        alone = decoder.decode(model.build_prompts([history], IDS), beam=6)
        assert torch.equal(alone.keys[0], together.keys[row])
        torch.testing.assert_close(alone.scores[0], together.scores[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "decoder_class", [NezhaDecoder, AutoregressiveDecoder, SpeculativeDecoder, GenerateDecoder]
)
def test_prompts_longer_than_a_sliding_window_are_seen_whole(
    decoder_class: type[NezhaDecoder | GenerateDecoder],
) -> None:
    ids = catalogue(9, seed=2)
    model = tiny_model(ids, "mistral", max_items=8).double()
    decoder, history = decoder_class(model, SortedVerifier(ids)), [1, 2, 3, 4, 5, 6]
    alone = decoder.decode(model.build_prompts([history], ids), 5)
    padded = decoder.decode(model.build_prompts([history, [0] * 8], ids), 5)
    assert torch.equal(alone.keys[0], padded.keys[0])
    torch.testing.assert_close(alone.scores[0], padded.scores[0])
    changed = decoder.decode(model.build_prompts([[7, *history[1:]]], ids), 5)
    assert (alone.scores - changed.scores).abs().max() > 1e-3, "the first item was seen"


@pytest.mark.parametrize("decoder_class", DECODERS)
@pytest.mark.parametrize("verification", VERIFICATIONS)
def test_tracing_changes_nothing_and_decoding_is_pure(
    decoder_class: type[NezhaDecoder | AutoregressiveDecoder], verification: Verification
) -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts(HISTORIES, IDS)
    before = prompts.input_ids.clone(), prompts.attention_mask.clone()
    decoder = decoder_class(model, SortedVerifier(IDS), verification)
    results = [decoder.decode(prompts, 5, trace=trace) for trace in (False, True, False)]
    for result in results:
        assert torch.equal(result.keys, results[0].keys)
        assert torch.equal(result.scores, results[0].scores)
        assert not result.scores.requires_grad
    assert torch.equal(prompts.input_ids, before[0])
    assert torch.equal(prompts.attention_mask, before[1])
    assert [result.trace is None for result in results] == [True, False, True]
    trace = results[1].trace
    assert trace is not None
    assert trace.backbone_calls == results[1].backbone_calls
    final = IDS.keys_of(trace.prefixes(3)).masked_fill(trace.levels[-1].kept < 0, -1)
    assert torch.equal(final, results[1].keys)


@pytest.mark.parametrize("decoder_class", DECODERS)
def test_off_needs_no_verifier_and_ignores_one(
    decoder_class: type[NezhaDecoder | AutoregressiveDecoder],
) -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts(HISTORIES, IDS)
    without = decoder_class(model, None, "off").decode(prompts, 5, trace=True)
    beside = decoder_class(model, HashSetVerifier(IDS), "off").decode(prompts, 5, trace=True)
    assert torch.equal(without.keys, beside.keys)
    assert without.trace is not None
    assert beside.trace is not None
    with pytest.raises(ValueError, match="needs a verifier"):
        without.trace.acceptance()
    assert min(beside.trace.acceptance()) < 1
    assert all(without.trace.levels[level].rejected(0) == [] for level in range(3))


@pytest.mark.parametrize("decoder_class", DECODERS)
def test_one_level_and_one_code(
    decoder_class: type[NezhaDecoder | AutoregressiveDecoder],
) -> None:
    for ids in (
        SemanticIds.from_codes([[1], [3]], (5,)),
        SemanticIds.from_codes([[0, 2, 0], [0, 1, 0]], (1, 3, 1)),
    ):
        model = tiny_model(ids)
        prompts = model.build_prompts([[0, 1], []], ids)
        result = decoder_class(model, SortedVerifier(ids)).decode(prompts, 4)
        check_shape(result, 2, 4)
        for row, history in enumerate([[0, 1], []]):
            with torch.inference_mode():
                table = SLOW[decoder_class](model, history, ids)
                check_list(result, row, slow_search(table, ids, 4, "prefix")[0], ids)


@pytest.mark.parametrize("decoder_class", DECODERS)
def test_bad_input_is_named(decoder_class: type[NezhaDecoder | AutoregressiveDecoder]) -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts([[1]], IDS)
    for beam in (0, -3):
        with pytest.raises(ValueError, match=f"beam is {beam}, but must be at least 1"):
            decoder_class(model, SortedVerifier(IDS)).decode(prompts, beam)
    for verification in ("final", "prefix"):
        with pytest.raises(ValueError, match=f"'{verification}' needs a verifier, but it is None"):
            decoder_class(model, None, verification)
    with pytest.raises(ValueError, match=r"'sometimes', but must be one of \('off', 'final'"):
        decoder_class(model, SortedVerifier(IDS), "sometimes")
    other_verifier = SortedVerifier(SemanticIds.from_codes([[0, 0, 0]], (3, 2, 4)))
    for verification in VERIFICATIONS:
        with pytest.raises(ValueError, match=r"verifier.radices is \(3, 2, 4\).*\(3, 4, 2\)"):
            decoder_class(model, other_verifier, verification)
