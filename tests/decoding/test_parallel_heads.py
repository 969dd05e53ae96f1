"""Parallel heads: the draft head without its transition."""

import itertools
from collections.abc import Sequence

import pytest
import torch

from nezha_lite.decoding import VERIFICATIONS, NezhaDecoder, Verification
from nezha_lite.decoding.nezha import ParallelHeadsDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import build_prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import RequestFilter, SortedVerifier, TrieVerifier
from tests.helpers.builders import BACKBONES, catalogue, tiny_model
from tests.helpers.slow_decoding import LogProbs, best_first, check_list, check_shape, slow_search

IDS = catalogue(9, seed=2)
HISTORIES: list[list[int]] = [[3, 1, 4], [], [5], [0, 1, 2, 3, 4, 5]]


def independent_log_probs(model: NezhaModel, history: Sequence[int], ids: SemanticIds) -> LogProbs:
    """softmax(W_l (h_l + h_0)) after a plain pass of the backbone, by the length of the prefix."""
    prompt = build_prompts([history], ids, model.vocabulary, model.config.max_items).input_ids
    hidden = model.backbone.base_model(prompt).last_hidden_state[0, -ids.levels - 1 :]
    table = [
        torch.softmax(classifier(hidden[level] + hidden[0]), dim=-1).log().tolist()
        for level, classifier in enumerate(model.head.classifiers, start=1)
    ]
    return lambda prefix: table[len(prefix)]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("verification", VERIFICATIONS)
@torch.inference_mode()
def test_against_the_slow_version(backbone: str, verification: Verification) -> None:
    model = tiny_model(IDS, backbone, max_items=4)
    prompts = model.build_prompts(HISTORIES, IDS)
    tables = [independent_log_probs(model, history, IDS) for history in HISTORIES]
    decoder = ParallelHeadsDecoder(model, SortedVerifier(IDS), verification)
    for beam in (1, 2, 5, 24, 27):
        result = decoder.decode(prompts, beam)
        check_shape(result, len(HISTORIES), beam)
        assert result.backbone_calls == 1
        for row, table in enumerate(tables):
            check_list(result, row, slow_search(table, IDS, beam, verification)[0], IDS)


@torch.inference_mode()
def test_a_wide_beam_is_brute_force_over_the_catalogue() -> None:
    model = tiny_model(IDS)
    existing = sorted({tuple(row) for row in IDS.codes.tolist()})
    result = ParallelHeadsDecoder(model, TrieVerifier(IDS)).decode(
        model.build_prompts(HISTORIES, IDS), 12
    )
    for row, history in enumerate(HISTORIES):
        table = independent_log_probs(model, history, IDS)
        scores = {
            codes: sum(table(codes[:level])[code] for level, code in enumerate(codes))
            for codes in existing
        }
        check_list(result, row, [(codes, scores[codes]) for codes in best_first(scores)], IDS)


@pytest.mark.parametrize("verification", VERIFICATIONS)
def test_it_is_nezha_without_a_transition(verification: Verification) -> None:
    for transition, equal in (("none", True), ("rnn", False), ("gru", False)):
        model = tiny_model(IDS, transition=transition)
        prompts = model.build_prompts(HISTORIES, IDS)
        verifier = SortedVerifier(IDS)
        for trace in (False, True):
            heads = ParallelHeadsDecoder(model, verifier, verification).decode(prompts, 6, trace)
            nezha = NezhaDecoder(model, verifier, verification).decode(prompts, 6, trace)
            assert torch.equal(heads.keys, nezha.keys) == equal
            # One row a prompt or one a beam: some processors round these products differently.
            assert torch.allclose(heads.scores, nezha.scores, atol=1e-5) == equal
        assert heads.trace is not None
        assert nezha.trace is not None
        first, others = heads.trace.levels[0], nezha.trace.levels[0]
        assert torch.allclose(first.scores, others.scores), "at level 1 there is nothing to forget"


def test_the_codes_are_independent_of_the_beam() -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts(HISTORIES, IDS)
    trace = ParallelHeadsDecoder(model, None, "off").decode(prompts, 24, trace=True).trace
    assert trace is not None
    for before, level in itertools.pairwise(trace.levels):
        beam_scores = before.scores.flatten(1).gather(1, before.kept).unsqueeze(-1)  # (B, K, 1)
        gains = level.scores - beam_scores
        torch.testing.assert_close(gains, gains[:, :1].expand_as(gains))


def test_a_batch_equals_its_prompts_one_by_one() -> None:
    model = tiny_model(IDS).double()
    decoder = ParallelHeadsDecoder(model, SortedVerifier(IDS))
    together = decoder.decode(model.build_prompts(HISTORIES, IDS), 6)
    for row, history in enumerate(HISTORIES):
        alone = decoder.decode(model.build_prompts([history], IDS), 6)
        assert torch.equal(alone.keys[0], together.keys[row])
        torch.testing.assert_close(alone.scores[0], together.scores[row])


@torch.inference_mode()
def test_small_catalogues() -> None:
    for ids in (
        SemanticIds.from_codes([[1], [3]], (5,)),
        SemanticIds.from_codes([[0, 2, 0], [0, 1, 0]], (1, 3, 1)),
        SemanticIds.from_codes([[2, 1, 3]], (3, 2, 5)),
    ):
        model = tiny_model(ids)
        histories = [[0], []]
        result = ParallelHeadsDecoder(model, TrieVerifier(ids)).decode(
            model.build_prompts(histories, ids), 4
        )
        check_shape(result, 2, 4)
        for row, history in enumerate(histories):
            table = independent_log_probs(model, history, ids)
            check_list(result, row, slow_search(table, ids, 4, "prefix")[0], ids)


@torch.inference_mode()
def test_requests_are_obeyed() -> None:
    model, verifier = tiny_model(IDS), TrieVerifier(IDS)
    prompts = model.build_prompts(HISTORIES, IDS)
    requests = RequestFilter.build(IDS, verifier, deny=[{1}, {2, 3}, None, set(range(9))])
    result = ParallelHeadsDecoder(model, verifier).decode(prompts, 12, requests=requests)
    for row, denied in enumerate(({1}, {2, 3}, set(), set(range(9)))):
        remaining = set(range(9)) - denied
        keys = {int(IDS.keys[item]) for item in remaining}
        assert {key for key in result.keys[row].tolist() if key >= 0} == keys


def test_bad_input_is_named() -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts([[1]], IDS)
    with pytest.raises(ValueError, match="beam is 0, but must be at least 1"):
        ParallelHeadsDecoder(model, SortedVerifier(IDS)).decode(prompts, 0)
    with pytest.raises(ValueError, match="'prefix' needs a verifier, but it is None"):
        ParallelHeadsDecoder(model)
    other_verifier = SortedVerifier(SemanticIds.from_codes([[0, 0, 0]], (3, 2, 4)))
    with pytest.raises(ValueError, match=r"verifier.radices is \(3, 2, 4\).*\(3, 4, 2\)"):
        ParallelHeadsDecoder(model, other_verifier)
