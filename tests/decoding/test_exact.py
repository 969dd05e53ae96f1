"""The oracle: brute force over the catalogue, and beam searches too wide to lose anything."""

import itertools
import math
import random
from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.decoding import AutoregressiveDecoder, NezhaDecoder
from nezha_lite.decoding.exact import ExactDecoder, Under
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Vocabulary, build_prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import RequestFilter, SortedVerifier
from tests.decoding.test_decoding import autoregressive_log_probs, nezha_log_probs
from tests.helpers.builders import BACKBONES, catalogue, tiny_model
from tests.helpers.slow_decoding import (
    LogProbs,
    Prefix,
    ScriptedModel,
    best_first,
    check_list,
    check_shape,
)

IDS = catalogue(9, seed=2)
HISTORIES: list[list[int]] = [[3, 1, 4], [], [5], [0, 1, 2, 3, 4, 5]]
UNDER = get_args(Under)
SLOW = {"draft": nezha_log_probs, "backbone": autoregressive_log_probs}
SEARCH = {"draft": NezhaDecoder, "backbone": AutoregressiveDecoder}


@pytest.fixture(scope="module", params=BACKBONES)
def model(request: pytest.FixtureRequest) -> NezhaModel:
    return tiny_model(IDS, request.param, max_items=4)


def brute_force(
    table: LogProbs, ids: SemanticIds, remaining: set[Prefix] | None = None
) -> list[tuple[Prefix, float]]:
    """Every existing ID, or those left, best first."""
    existing = {tuple(row) for row in ids.codes.tolist()}
    scores = {
        codes: sum(table(codes[:level])[code] for level, code in enumerate(codes))
        for codes in existing & (existing if remaining is None else remaining)
    }
    return [(codes, scores[codes]) for codes in best_first(scores)]


@pytest.mark.parametrize("under", UNDER)
@torch.inference_mode()
def test_brute_force_over_the_catalogue(model: NezhaModel, under: Under) -> None:
    prompts = model.build_prompts(HISTORIES, IDS)
    expected = [brute_force(SLOW[under](model, history, IDS), IDS) for history in HISTORIES]
    assert len({tuple(codes for codes, _ in row) for row in expected}) > 1
    for beam in (1, 3, len(expected[0]), 40):
        result = ExactDecoder(model, IDS, under).decode(prompts, beam)
        check_shape(result, len(HISTORIES), beam)
        for row, ranked in enumerate(expected):
            check_list(result, row, ranked[:beam], IDS)


@pytest.mark.parametrize("under", UNDER)
@pytest.mark.parametrize("seed", range(3))
def test_a_search_with_a_beam_as_wide_as_the_catalogue_finds_the_same(
    under: Under, seed: int
) -> None:
    ids = catalogue(60, radices=(4, 3, 5, 2), seed=seed)
    widest = max(len(ids.prefix_keys(level)) for level in range(1, 5))
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        model = tiny_model(ids, seed=seed).to(dtype)
        prompts = model.build_prompts([[3, 1, 4], [], [5]], ids)
        exact = ExactDecoder(model, ids, under, chunk=16).decode(prompts, widest)
        search = SEARCH[under](model, SortedVerifier(ids)).decode(prompts, widest)
        torch.testing.assert_close(exact.scores, search.scores, rtol=0, atol=tolerance)
        if dtype == torch.float64:
            assert torch.equal(exact.keys, search.keys)
        narrow = SEARCH[under](model, SortedVerifier(ids)).decode(prompts, 3)
        assert (narrow.scores[:, 0] <= exact.scores[:, 0] + 1e-5).all()


@pytest.mark.parametrize("under", UNDER)
def test_the_chunk_changes_nothing_but_the_passes(under: Under) -> None:
    model = tiny_model(IDS, max_items=4).double()
    prompts = model.build_prompts(HISTORIES, IDS)
    whole = ExactDecoder(model, IDS, under, chunk=10_000).decode(prompts, 9)
    prefixes = [len(IDS.prefix_keys(level)) for level in (1, 2)]
    for chunk in (1, 4, 8, 11, 12, 100):
        result = ExactDecoder(model, IDS, under, chunk).decode(prompts, 9)
        assert torch.equal(result.keys, whole.keys)
        torch.testing.assert_close(result.scores, whole.scores)
        at_once = max(1, chunk // len(HISTORIES))
        further = sum(math.ceil(count / at_once) for count in prefixes)
        assert result.backbone_calls == 1 + (further if under == "backbone" else 0)


@pytest.mark.parametrize("under", UNDER)
def test_a_batch_equals_its_prompts_one_by_one(model: NezhaModel, under: Under) -> None:
    decoder = ExactDecoder(model, IDS, under)
    together = decoder.decode(model.build_prompts(HISTORIES, IDS), 6)
    for row, history in enumerate(HISTORIES):
        alone = decoder.decode(model.build_prompts([history], IDS), 6)
        assert torch.equal(alone.keys[0], together.keys[row])
        torch.testing.assert_close(alone.scores[0], together.scores[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("under", UNDER)
@torch.inference_mode()
def test_small_catalogues(under: Under) -> None:
    for ids in (
        SemanticIds.from_codes([[1], [3]], (5,)),
        SemanticIds.from_codes([[0, 2, 0], [0, 1, 0]], (1, 3, 1)),
        SemanticIds.from_codes([[2, 1, 3]], (3, 2, 5)),
    ):
        model = tiny_model(ids)
        histories = [[0], []]
        for beam in (1, 4):
            result = ExactDecoder(model, ids, under, chunk=1).decode(
                model.build_prompts(histories, ids), beam
            )
            check_shape(result, 2, beam)
            for row, history in enumerate(histories):
                expected = brute_force(SLOW[under](model, history, ids), ids)
                check_list(result, row, expected[:beam], ids)


@pytest.mark.parametrize("transition", ["gru", "none"])
@torch.inference_mode()
def test_other_transitions(transition: str) -> None:
    model = tiny_model(IDS, transition=transition)
    result = ExactDecoder(model, IDS).decode(model.build_prompts(HISTORIES, IDS), 9)
    for row, history in enumerate(HISTORIES):
        check_list(result, row, brute_force(nezha_log_probs(model, history, IDS), IDS), IDS)


# ---- any catalogue, any requests --------------------------------------------------------------


class ScriptedNezha(ScriptedModel):
    """Knows its vocabulary too."""

    def __init__(self, ids: SemanticIds, tables: Sequence[LogProbs]) -> None:
        super().__init__(ids, tables)
        self.vocabulary = Vocabulary(ids.radices)


def random_table(ids: SemanticIds, seed: int) -> LogProbs:
    generator = random.Random(seed)
    table = {}
    for level, radix in enumerate(ids.radices):
        for prefix in itertools.product(*(range(r) for r in ids.radices[:level])):
            table[prefix] = [-10 * generator.random() for _ in range(radix)]
    return table.__getitem__


@st.composite
def worlds(draw: st.DrawFn) -> tuple[SemanticIds, list[set[int] | None], list[set[int] | None]]:
    """A catalogue, some items sharing IDs, and what two prompts may and must not be given."""
    radices = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, radix - 1) for radix in radices))
    codes = draw(st.lists(row, min_size=1, max_size=12))
    items = st.none() | st.sets(st.integers(0, len(codes) - 1))
    pair = st.lists(items, min_size=2, max_size=2)
    return SemanticIds.from_codes(codes, radices), draw(pair), draw(pair)


@given(
    world=worlds(), seed=st.integers(0, 10_000), beam=st.integers(1, 14), chunk=st.integers(1, 20)
)
@settings(max_examples=100)
def test_any_catalogue_with_requests(
    world: tuple[SemanticIds, list[set[int] | None], list[set[int] | None]],
    seed: int,
    beam: int,
    chunk: int,
) -> None:
    ids, allow, deny = world
    tables = [random_table(ids, seed), random_table(ids, seed + 1)]
    model = ScriptedNezha(ids, tables)
    prompts = build_prompts([[], []], ids, model.vocabulary, 1)
    requests = RequestFilter.build(ids, SortedVerifier(ids), allow, deny)
    result = ExactDecoder(model, ids, chunk=chunk).decode(prompts, beam, requests=requests)
    check_shape(result, 2, beam)
    for row, table in enumerate(tables):
        allowed, denied = allow[row], deny[row] or set()
        remaining = {
            tuple(codes)
            for item, codes in enumerate(ids.codes.tolist())
            if (allowed is None or item in allowed) and item not in denied
        }
        expected = brute_force(table, ids, remaining)
        check_list(result, row, expected[:beam], ids)


@pytest.mark.parametrize("under", UNDER)
def test_one_row_of_requests_serves_all_prompts(under: Under) -> None:
    model, verifier = tiny_model(IDS), SortedVerifier(IDS)
    prompts = model.build_prompts(HISTORIES, IDS)
    requests = RequestFilter.build(IDS, verifier, allow=[{1, 2, 3}])
    result = ExactDecoder(model, IDS, under).decode(prompts, 5, requests=requests)
    for row in result.keys.tolist():
        assert {key for key in row if key >= 0} == set(IDS.keys[1:4].tolist())


@pytest.mark.parametrize("under", UNDER)
def test_decoding_is_pure(under: Under) -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts(HISTORIES, IDS)
    decoder = ExactDecoder(model, IDS, under, chunk=6)
    results = [decoder.decode(prompts, 5) for _ in range(2)]
    with pytest.raises(ValueError, match="trace is True, but must be False, as ExactDecoder"):
        decoder.decode(prompts, 5, trace=True)
    for result in results:
        assert torch.equal(result.keys, results[0].keys)
        assert torch.equal(result.scores, results[0].scores)
        assert not result.scores.requires_grad


@pytest.mark.parametrize("under", UNDER)
def test_bfloat16_is_scored_in_float32(under: Under) -> None:
    model = tiny_model(IDS).bfloat16()
    result = ExactDecoder(model, IDS, under).decode(model.build_prompts(HISTORIES, IDS), 20)
    check_shape(result, len(HISTORIES), 20)
    for row in result.keys.tolist():
        assert {key for key in row if key >= 0} == set(IDS.keys.tolist())
    ids = SemanticIds.from_codes([[code] for code in range(8)])
    model = tiny_model(ids).bfloat16()
    prompts = model.build_prompts([[3, 1, 4], [5, 2, 6]], ids)
    exact = ExactDecoder(model, ids, under).decode(prompts, 8)
    search = SEARCH[under](model, SortedVerifier(ids)).decode(prompts, 8)
    # Rounded to bfloat16, scores would be about 1e-2 apart.
    torch.testing.assert_close(exact.scores, search.scores, rtol=0, atol=1e-4)


def test_bad_input_is_named() -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts([[1], [2]], IDS)
    for beam in (0, -3):
        with pytest.raises(ValueError, match=f"beam is {beam}, but must be at least 1"):
            ExactDecoder(model, IDS).decode(prompts, beam)
    with pytest.raises(ValueError, match=r"under is 'both', but must be one of \('draft', 'back"):
        ExactDecoder(model, IDS, "both")
    with pytest.raises(ValueError, match="chunk is 0, but must be at least 1"):
        ExactDecoder(model, IDS, chunk=0)
    other_ids = SemanticIds.from_codes([[0, 0, 0]], (3, 2, 4))
    with pytest.raises(ValueError, match=r"have radices \(3, 2, 4\), but.*\(3, 4, 2\)"):
        ExactDecoder(model, other_ids)
    three = RequestFilter.build(IDS, SortedVerifier(IDS), deny=[{1}, {2}, {3}])
    with pytest.raises(ValueError, match="sets for 3 prompts, but there are 2"):
        ExactDecoder(model, IDS).decode(prompts, 2, requests=three)
    drafting = tiny_model(IDS, next_code_weight=0)
    with pytest.raises(ValueError, match="next_code_weight is 0"):
        ExactDecoder(drafting, IDS, "backbone")
    ExactDecoder(drafting, IDS, "draft")
