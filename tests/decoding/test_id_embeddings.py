"""Decoding with item memory and candidate embeddings: every path gives the same lists."""

import pytest
import torch

from nezha_lite.decoding import (
    AutoregressiveDecoder,
    CapturedDecoder,
    ExactDecoder,
    GenerateDecoder,
    NezhaDecoder,
    ParallelHeadsDecoder,
    SpeculativeDecoder,
)
from nezha_lite.decoding.captured import cpp_compiler
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import (
    BitsetVerifier,
    HashSetVerifier,
    IsinVerifier,
    RequestFilter,
    TrieVerifier,
)
from tests.helpers.builders import tiny_model

RADICES = (4, 5, 6)
torch.manual_seed(3)
IDS = SemanticIds.from_codes(
    torch.stack([torch.randint(0, radix, (50,)) for radix in RADICES], dim=1), RADICES
)
HISTORIES = [[1, 2, 3], [5], list(range(12))]
VERIFIERS = (TrieVerifier, BitsetVerifier, HashSetVerifier, IsinVerifier)


@pytest.mark.parametrize("n_levels", [1, 2])
@pytest.mark.parametrize("max_rows", [7, 1 << 24])
@pytest.mark.parametrize("verifier", VERIFIERS)
def test_a_wide_beam_finds_the_exact_list(
    n_levels: int, max_rows: int, verifier: type[TrieVerifier]
) -> None:
    model = tiny_model(IDS, candidate_embeddings=n_levels, item_memory=True, max_rows=max_rows)
    prompts = model.build_prompts(HISTORIES, IDS)
    exact = ExactDecoder(model, IDS).decode(prompts, 60)
    wide = NezhaDecoder(model, verifier(IDS)).decode(prompts, 4 * 5 * 6)
    assert torch.equal(wide.keys[:, :60], exact.keys)
    torch.testing.assert_close(wide.scores[:, :60], exact.scores)
    if n_levels == 2:  # all codes of level 1 exist: the probabilities are the catalogue's alone
        torch.testing.assert_close(wide.scores.exp().sum(dim=1), torch.ones(len(HISTORIES)))
    traced = NezhaDecoder(model, verifier(IDS)).decode(prompts, 8, trace=True)
    plain = NezhaDecoder(model, verifier(IDS)).decode(prompts, 8)
    assert torch.equal(traced.keys, plain.keys)
    assert torch.equal(traced.scores, plain.scores)


@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "llama"])
def test_every_decoder_reads_the_memory(kind: str) -> None:
    model = tiny_model(IDS, kind, item_memory=True, candidate_embeddings=2)
    without = tiny_model(IDS, kind, candidate_embeddings=2)
    prompts, trie = model.build_prompts(HISTORIES, IDS), TrieVerifier(IDS)
    searched = AutoregressiveDecoder(model, trie).decode(prompts, 10)
    generated = GenerateDecoder(model, trie).decode(prompts, 10)
    speculative = SpeculativeDecoder(model, trie).decode(prompts, 10)
    exact = ExactDecoder(model, IDS, "backbone").decode(prompts, IDS.n_distinct)
    wide = AutoregressiveDecoder(model, trie).decode(prompts, IDS.n_distinct)
    for other in (generated, speculative):
        assert torch.equal(searched.keys, other.keys)
        torch.testing.assert_close(searched.scores, other.scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(exact.scores, wide.scores, atol=1e-4, rtol=1e-4)
    forgetful = AutoregressiveDecoder(without, trie).decode(prompts, 10)
    assert not torch.allclose(searched.scores, forgetful.scores, atol=1e-2)


@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.skipif(cpp_compiler() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("n_levels", [1, 2])
def test_captured_programs_follow_weights_and_catalogue(n_levels: int) -> None:
    model = tiny_model(IDS, item_memory=True, candidate_embeddings=n_levels)
    trie = TrieVerifier(IDS)
    eager = NezhaDecoder(model, trie)
    captured = CapturedDecoder(eager, compile=True, background=False)
    prompts = model.build_prompts(HISTORIES, IDS)

    def same() -> None:
        one, other = eager.decode(prompts, 10), captured.decode(prompts, 10)
        assert torch.equal(one.keys, other.keys)
        torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=1e-4)

    same()
    made = captured.compilations
    trie.remove(eager.decode(prompts, 10).keys[0, :3])
    same()
    with torch.no_grad():
        for embedding in model.prefix_embeddings:
            embedding.vectors.weight[1:] *= -1
    same()
    assert captured.compilations == made


def test_removed_items_leave_their_probability_to_their_siblings() -> None:
    model = tiny_model(IDS, candidate_embeddings=2)
    prompts, trie = model.build_prompts(HISTORIES, IDS), TrieVerifier(IDS)
    before = NezhaDecoder(model, trie).decode(prompts, 60)
    siblings = IDS.keys[IDS.keys % 20 == IDS.keys[0] % 20].unique()  # the same first two codes
    assert len(siblings) > 1, "the catalogue of this test needs an item with siblings"
    trie.remove(siblings[:1])
    after = NezhaDecoder(model, trie).decode(prompts, 60)
    assert not (after.keys == siblings[0]).any()
    torch.testing.assert_close(after.scores.exp().sum(1), before.scores.exp().sum(1))
    denied = RequestFilter.build(IDS, TrieVerifier(IDS), deny=[[0]])
    filtered = NezhaDecoder(model, TrieVerifier(IDS)).decode(prompts, 60, requests=denied)
    assert (filtered.scores.exp().sum(1) < before.scores.exp().sum(1)).all()


@torch.no_grad()
def test_an_item_added_later_has_its_code_s_logit_and_no_memory() -> None:
    ids = SemanticIds.from_codes([[0, 1, 2], [0, 1, 4], [2, 2, 2]], RADICES)
    later = SemanticIds.from_codes([*ids.codes.tolist(), [0, 1, 5]], RADICES)
    model = tiny_model(ids, candidate_embeddings=1, item_memory=True)
    prompts = model.build_prompts([[3, 0]], later)
    result = NezhaDecoder(model, TrieVerifier(later)).decode(prompts, 10)
    scores = dict(zip(result.keys[0].tolist(), result.scores[0].tolist(), strict=True))
    hidden = model.draft_states(prompts)[0]  # (4, D)
    head, state = model.head, hidden[:1]
    for level, code in enumerate((0, 1)):
        state = head.advance(level, torch.tensor([code]), state)
    query = hidden[3:4] + state
    plain = head.classifiers[2](query)[0]
    rows, codes = head.candidates[0].continuations(torch.tensor(0 + 1 * 4))
    own = dict(zip(codes.tolist(), head.candidates[0].scores(rows, query[0]).tolist(), strict=True))
    logits = torch.tensor([float(plain[2]) + own[2], float(plain[4]) + own[4], float(plain[5])])
    expected = logits.log_softmax(0)
    keys = later.keys.tolist()
    for other, index in ((keys[1], 1), (keys[3], 2)):
        difference = scores[other] - scores[keys[0]]
        assert difference == pytest.approx(float(expected[index] - expected[0]), abs=1e-4)


@pytest.mark.parametrize("verification", ["off", "final"])
def test_unverified_drafts_are_those_of_the_training_catalogue(verification: str) -> None:
    model = tiny_model(IDS, candidate_embeddings=2)
    prompts, trie = model.build_prompts(HISTORIES, IDS), TrieVerifier(IDS)
    result = NezhaDecoder(model, trie, verification).decode(prompts, 10)
    assert trie.contains(result.keys).all()  # from level 2 on nothing else is on offer
    parallel = ParallelHeadsDecoder(model, trie).decode(prompts, 10)
    assert trie.contains(parallel.keys).all()


def test_a_temperature_keeps_what_does_not_exist_out() -> None:
    model = tiny_model(IDS, candidate_embeddings=2)
    prompts, trie = model.build_prompts(HISTORIES, IDS), TrieVerifier(IDS)
    for temperature in (0.3, 3.0):
        result = NezhaDecoder(model, trie, temperature=temperature).decode(prompts, 70)
        n_listed = (result.keys >= 0).sum(dim=1)
        assert n_listed.tolist() == [IDS.n_distinct] * 3
        torch.testing.assert_close(result.scores.exp().sum(1), torch.ones(3))
