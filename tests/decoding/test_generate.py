"""`generate` as a decoder: against our beam search, and against a slow search over all tokens."""

import logging
import math
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from nezha_lite.decoding import VERIFICATIONS, AutoregressiveDecoder, DecodeResult, Verification
from nezha_lite.decoding.generate import GenerateDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import build_prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import HashSetVerifier, RequestFilter, SortedVerifier, TrieVerifier
from tests.helpers.builders import BACKBONES, RADICES, catalogue, tiny_model
from tests.helpers.slow_decoding import Prefix, best_first, check_list, check_shape
from tests.helpers.toys import toy_ids, toy_model

IDS = catalogue(9, seed=2)
HISTORIES: list[list[int]] = [[3, 1, 4], [], [5], [0, 1, 2, 3, 4, 5]]
SPACE = math.prod(RADICES)
BEAMS = (1, 2, 3, 5, 8, SPACE + 3)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """transformers must have nothing to remark on how it is called."""
    remarks: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: remarks.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert remarks == []


@pytest.fixture(scope="module", params=BACKBONES)
def model(request: pytest.FixtureRequest) -> NezhaModel:
    return tiny_model(IDS, request.param, max_items=4)


def check_same(result: DecodeResult, expected: DecodeResult) -> None:
    """The same lists; scores within 1e-5 of each other are ties, in any order."""
    torch.testing.assert_close(result.scores, expected.scores.float(), rtol=0, atol=1e-5)
    for keys, others, scores in zip(result.keys, expected.keys, expected.scores, strict=True):
        for rank in (keys != others).nonzero().flatten().tolist():
            tied = ((scores - scores[rank]).abs() < 1e-5) & (keys[rank] == others)
            assert tied.any(), f"rank {rank}: {keys.tolist()} instead of {others.tolist()}"


def some_requests(verifier: SortedVerifier) -> RequestFilter:
    """All, all but three, only four, nothing at all."""
    allow = [None, None, {0, 2, 4, 6}, {1}]
    deny = [None, {0, 3, 8}, {2}, {1, 2}]
    return RequestFilter.build(IDS, verifier, allow, deny)


# ---- constrained ---------------------------------------------------------------------------------


@pytest.mark.parametrize("beam", BEAMS)
def test_constrained_generate_is_autoregressive_beam_search(model: NezhaModel, beam: int) -> None:
    prompts = model.build_prompts(HISTORIES, IDS)
    for verifier_class in (HashSetVerifier, TrieVerifier):
        result = GenerateDecoder(model, verifier_class(IDS)).decode(prompts, beam)
        check_shape(result, len(HISTORIES), beam)
        assert result.backbone_calls == IDS.levels
        check_same(result, AutoregressiveDecoder(model, SortedVerifier(IDS)).decode(prompts, beam))


def test_in_float64_the_lists_are_equal() -> None:
    model = tiny_model(IDS, max_items=4).double()
    prompts = model.build_prompts(HISTORIES, IDS)
    for beam in BEAMS:
        result = GenerateDecoder(model, SortedVerifier(IDS)).decode(prompts, beam)
        expected = AutoregressiveDecoder(model, SortedVerifier(IDS)).decode(prompts, beam)
        assert torch.equal(result.keys, expected.keys)


@pytest.mark.parametrize(
    "ids",
    [
        SemanticIds.from_codes([[1], [3]], (5,)),
        SemanticIds.from_codes([[0, 2, 0], [0, 1, 0]], (1, 3, 1)),
        SemanticIds.from_codes([[2, 1, 3]], (3, 2, 5)),
    ],
    ids=["one level", "one code", "one item"],
)
def test_small_catalogues(ids: SemanticIds) -> None:
    model = tiny_model(ids)
    prompts = model.build_prompts([[0], []], ids)
    for beam in (1, 2, 9):
        result = GenerateDecoder(model, SortedVerifier(ids)).decode(prompts, beam)
        check_shape(result, 2, beam)
        assert int((result.keys[0] >= 0).sum()) == min(beam, ids.n_distinct)
        check_same(result, AutoregressiveDecoder(model, SortedVerifier(ids)).decode(prompts, beam))


def test_a_changed_catalogue_is_seen_by_a_new_decoder() -> None:
    model, verifier = tiny_model(IDS), TrieVerifier(IDS)
    prompts = model.build_prompts(HISTORIES, IDS)
    removed = IDS.keys[:4].unique()
    verifier.remove(removed)
    result = GenerateDecoder(model, verifier).decode(prompts, 12)
    check_same(result, AutoregressiveDecoder(model, verifier).decode(prompts, 12))
    assert not torch.isin(result.keys, removed).any()
    verifier.remove(IDS.keys)
    for beam in (1, 3):
        assert (GenerateDecoder(model, verifier).decode(prompts, beam).keys == -1).all()


def test_padding_may_be_token_0() -> None:
    ids, model = toy_ids(), toy_model().eval()
    assert model.vocabulary.pad == 0
    prompts = model.build_prompts([[1, 2, 3], [4]], ids)
    for beam in (1, 6):
        result = GenerateDecoder(model, SortedVerifier(ids)).decode(prompts, beam)
        check_same(result, AutoregressiveDecoder(model, SortedVerifier(ids)).decode(prompts, beam))


def test_bfloat16_lists_are_lists() -> None:
    model = tiny_model(IDS).bfloat16()
    result = GenerateDecoder(model, SortedVerifier(IDS)).decode(
        model.build_prompts(HISTORIES, IDS), 12
    )
    check_shape(result, len(HISTORIES), 12)
    for row in result.keys.tolist():
        assert {key for key in row if key >= 0} == set(IDS.keys.tolist())


# ---- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verification", VERIFICATIONS)
@pytest.mark.parametrize("beam", [1, 4, SPACE + 3])
def test_requests_are_obeyed_inside(
    model: NezhaModel, verification: Verification, beam: int
) -> None:
    verifier = SortedVerifier(IDS)
    requests = some_requests(verifier)
    prompts = model.build_prompts(HISTORIES, IDS)
    decoder = GenerateDecoder(model, verifier, verification)
    expected = AutoregressiveDecoder(model, verifier, verification).decode(
        prompts, beam, requests=requests
    )
    result = decoder.decode(prompts, beam, requests=requests)
    check_shape(result, len(HISTORIES), beam)
    check_same(result, expected)
    assert (result.keys[3] == -1).all(), "this prompt may be given nothing"


def test_one_row_of_requests_serves_all_prompts(model: NezhaModel) -> None:
    verifier = SortedVerifier(IDS)
    requests = RequestFilter.build(IDS, verifier, deny=[{0, 3, 8}])
    prompts = model.build_prompts(HISTORIES, IDS)
    for verification in VERIFICATIONS:
        result = GenerateDecoder(model, verifier, verification).decode(
            prompts, 5, requests=requests
        )
        check_same(
            result,
            AutoregressiveDecoder(model, verifier, verification).decode(
                prompts, 5, requests=requests
            ),
        )


# ---- unconstrained -------------------------------------------------------------------------------


def slow_tokens(model: NezhaModel, history: Sequence[int], beam: int) -> list[tuple[Prefix, float]]:
    """Beam search over the whole vocabulary, without a cache: the last beams, best first."""
    prompt = build_prompts([history], IDS, model.vocabulary, model.config.max_items)
    start = prompt.input_ids[0, : -IDS.levels].tolist()
    beams: dict[Prefix, float] = {(): 0.0}
    for _ in range(IDS.levels):
        inputs = torch.tensor([[*start, *prefix] for prefix in beams])
        output = model.backbone(inputs, attention_mask=torch.ones_like(inputs), use_cache=False)
        log_probs = output.logits[:, -1].log_softmax(-1)
        scores = {
            (*prefix, token): score + log_prob
            for (prefix, score), row in zip(beams.items(), log_probs.tolist(), strict=True)
            for token, log_prob in enumerate(row)
        }
        beams = {prefix: scores[prefix] for prefix in best_first(scores)[:beam]}
    return list(beams.items())


def only_codes(
    model: NezhaModel, hypotheses: Sequence[tuple[Prefix, float]]
) -> list[tuple[Prefix, float]]:
    """Those that are one code of every level, tokens replaced by codes."""
    firsts = model.vocabulary.level_offsets
    rows = [
        (tuple(token - first for token, first in zip(tokens, firsts, strict=False)), score)
        for tokens, score in hypotheses
    ]
    return [
        (codes, score)
        for codes, score in rows
        if all(0 <= code < radix for code, radix in zip(codes, RADICES, strict=False))
    ]


@pytest.mark.parametrize("beam", [1, 3, 30, 200])
@torch.inference_mode()
def test_unconstrained_generate_against_a_slow_search(model: NezhaModel, beam: int) -> None:
    prompts = model.build_prompts(HISTORIES, IDS)
    existing = {tuple(row) for row in IDS.codes.tolist()}
    results = {
        verification: GenerateDecoder(model, SortedVerifier(IDS), verification).decode(
            prompts, beam
        )
        for verification in ("off", "final")
    }
    holes = 0
    for row, history in enumerate(HISTORIES):
        drafts = only_codes(model, slow_tokens(model, history, beam))
        holes += beam - len(drafts)
        check_list(results["off"], row, drafts, IDS)
        accepted = [pair for pair in drafts if pair[0] in existing]
        check_list(results["final"], row, accepted, IDS)
        for result in results.values():
            check_shape(result, len(HISTORIES), beam)
    assert holes > 0, "some hypotheses must be no IDs, or this shows nothing"


def test_off_needs_no_verifier_and_ignores_one(model: NezhaModel) -> None:
    prompts = model.build_prompts(HISTORIES, IDS)
    without = GenerateDecoder(model, None, "off").decode(prompts, 40)
    beside = GenerateDecoder(model, HashSetVerifier(IDS), "off").decode(prompts, 40)
    assert torch.equal(without.keys, beside.keys)


def test_it_says_that_it_records_no_trace(model: NezhaModel) -> None:
    prompts = model.build_prompts(HISTORIES, IDS)
    with pytest.raises(ValueError, match="trace is True, but must be False, as GenerateDecoder"):
        GenerateDecoder(model, None, "off").decode(prompts, 4, trace=True)


@pytest.mark.parametrize("verification", VERIFICATIONS)
@pytest.mark.parametrize("beam", [1, 5])
def test_decoding_is_pure(verification: Verification, beam: int) -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts(HISTORIES, IDS)
    before = prompts.input_ids.clone(), prompts.attention_mask.clone()
    decoder = GenerateDecoder(model, SortedVerifier(IDS), verification)
    results = [decoder.decode(prompts, beam) for _ in range(2)]
    for result in results:
        assert torch.equal(result.keys, results[0].keys)
        assert torch.equal(result.scores, results[0].scores)
        assert not result.scores.requires_grad
    assert torch.equal(prompts.input_ids, before[0])
    assert torch.equal(prompts.attention_mask, before[1])


# ---- how generate is called ----------------------------------------------------------------------


def test_the_models_own_generation_settings_do_not_leak_in() -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts(HISTORIES, IDS)
    code = model.vocabulary.level_offsets[0]
    hostile = GenerationConfig(
        eos_token_id=[code, code + 1, code + 2],
        do_sample=True,
        top_k=2,
        top_p=0.1,
        temperature=3.0,
        repetition_penalty=2.0,
        suppress_tokens=[code],
        num_beams=3,
        max_length=2,
    )
    plain = [
        GenerateDecoder(model, SortedVerifier(IDS), verification).decode(prompts, beam)
        for verification in VERIFICATIONS
        for beam in (1, 30)
    ]
    model.backbone.generation_config = hostile
    settings = hostile.to_dict()
    results = [
        GenerateDecoder(model, SortedVerifier(IDS), verification).decode(prompts, beam)
        for verification in VERIFICATIONS
        for beam in (1, 30)
    ]
    for result, expected in zip(results, plain, strict=True):
        assert torch.equal(result.keys, expected.keys)
        assert torch.equal(result.scores, expected.scores)
    assert model.backbone.generation_config is hostile
    assert hostile.to_dict() == settings


def test_later_weights_are_seen() -> None:
    model, trained = tiny_model(IDS), tiny_model(IDS, seed=1)
    prompts = model.build_prompts(HISTORIES, IDS)
    decoder = GenerateDecoder(model, SortedVerifier(IDS))
    before = decoder.decode(prompts, 5)
    model.load_state_dict(trained.state_dict())
    after = decoder.decode(prompts, 5)
    assert not torch.equal(after.keys, before.keys)
    assert torch.equal(
        after.keys, GenerateDecoder(trained, SortedVerifier(IDS)).decode(prompts, 5).keys
    )


@pytest.mark.parametrize("beam", [1, 6])
def test_the_backbone_reads_every_prompt_once_per_beam(beam: int) -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts(HISTORIES, IDS)
    shapes: list[tuple[int, ...]] = []
    embed = model.backbone.get_input_embeddings()

    def seen(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes.append(tuple(inputs[0].shape))

    embed.register_forward_pre_hook(seen)
    result = GenerateDecoder(model, SortedVerifier(IDS)).decode(prompts, beam)
    rows, width = len(HISTORIES) * beam, prompts.input_ids.shape[1] - IDS.levels
    assert shapes == [(rows, width), (rows, 1), (rows, 1)]
    assert result.backbone_calls == len(shapes)


def test_bad_input_is_named() -> None:
    model = tiny_model(IDS)
    prompts = model.build_prompts([[1], [2]], IDS)
    verifier = SortedVerifier(IDS)
    for beam in (0, -3):
        with pytest.raises(ValueError, match=f"beam is {beam}, but must be at least 1"):
            GenerateDecoder(model, verifier).decode(prompts, beam)
    for verification in ("final", "prefix"):
        with pytest.raises(ValueError, match=f"'{verification}' needs a verifier, but it is None"):
            GenerateDecoder(model, None, verification)
    with pytest.raises(ValueError, match=r"'sometimes', but must be one of \('off', 'final'"):
        GenerateDecoder(model, verifier, "sometimes")
    other_verifier = SortedVerifier(SemanticIds.from_codes([[0, 0, 0]], (3, 2, 4)))
    for verification in VERIFICATIONS:
        with pytest.raises(ValueError, match=r"verifier.radices is \(3, 2, 4\).*\(3, 4, 2\)"):
            GenerateDecoder(model, other_verifier, verification)
    three = RequestFilter.build(IDS, verifier, deny=[{1}, {2}, {3}])
    with pytest.raises(ValueError, match="sets for 3 prompts, but there are 2"):
        GenerateDecoder(model, verifier).decode(prompts, 2, requests=three)
    with pytest.raises(ValueError, match="next_code_weight is 0"):
        GenerateDecoder(tiny_model(IDS, next_code_weight=0), verifier)
