"""Decoders against brute force and a slow beam search over dictionaries."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from builders import BACKBONES, RADICES, catalogue, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nezha_lite.decoding import (
    VERIFICATIONS,
    AutoregressiveDecoder,
    DecodeResult,
    NezhaDecoder,
    Verification,
)
from nezha_lite.model import NezhaModel
from nezha_lite.prompts import Prompts, Vocabulary, build_prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import HashSetVerifier, SortedVerifier

Prefix = tuple[int, ...]
LogProbs = Callable[[Prefix], Sequence[float]]  # of the next code after a prefix

IDS = catalogue(9, seed=2)
HISTORIES = [[3, 1, 4], [], [5], [0, 1, 2, 3, 4, 5]]
SPACE = math.prod(RADICES)
DECODERS = (NezhaDecoder, AutoregressiveDecoder)


# ---- the slow version ---------------------------------------------------------------------------


@dataclass
class SlowLevel:
    proposed: list[Prefix]
    kept: list[Prefix]
    scores: dict[Prefix, float]  # of every candidate with a chance


def best_first(scores: dict[Prefix, float]) -> list[Prefix]:
    return sorted(scores, key=lambda prefix: -scores[prefix])


def slow_search(
    log_probs: LogProbs, ids: SemanticIds, beam: int, verification: Verification
) -> tuple[list[tuple[Prefix, float]], list[SlowLevel]]:
    """Beam search over a dictionary prefix → score; the final list and every level."""
    rows = [tuple(row) for row in ids.codes.tolist()]
    beams: dict[Prefix, float] = {(): 0.0}
    levels = []
    for level in range(1, ids.levels + 1):
        scores = {}
        for prefix, score in beams.items():
            for code, log_prob in enumerate(log_probs(prefix)):
                if log_prob > -math.inf:
                    scores[(*prefix, code)] = score + log_prob
        ranked = best_first(scores)
        allowed = ranked
        if verification == "prefix":
            allowed = [prefix for prefix in ranked if any(row[:level] == prefix for row in rows)]
        kept = allowed[:beam]
        if verification == "final" and level == ids.levels:
            kept = [prefix for prefix in kept if prefix in rows]
        beams = {prefix: scores[prefix] for prefix in kept}
        levels.append(SlowLevel(ranked[:beam], kept, scores))
    return list(beams.items()), levels


def key_of(prefix: Prefix, radices: Sequence[int]) -> int:
    return sum(code * math.prod(radices[:level]) for level, code in enumerate(prefix))


def check_list(
    result: DecodeResult, row: int, expected: list[tuple[Prefix, float]], ids: SemanticIds
) -> None:
    """The row is the expected list, best first, then empty places."""
    empty = result.keys.shape[1] - len(expected)
    keys = [key_of(codes, ids.radices) for codes, _ in expected]
    assert result.keys[row].tolist() == keys + [-1] * empty
    scores = torch.tensor([score for _, score in expected] + [-math.inf] * empty)
    torch.testing.assert_close(result.scores[row], scores, rtol=1e-4, atol=1e-4)


def check_shape(result: DecodeResult, batch: int, beam: int) -> None:
    """What holds for every result, whatever the model says."""
    assert result.keys.shape == result.scores.shape == (batch, beam)
    assert (result.keys.dtype, result.scores.dtype) == (torch.int64, torch.float32)
    assert not result.scores.isnan().any()
    assert ((result.keys == -1) == (result.scores == -torch.inf)).all()
    for keys, scores in zip(result.keys.tolist(), result.scores.tolist(), strict=True):
        assert scores == sorted(scores, reverse=True)
        found = [key for key in keys if key >= 0]
        assert keys[: len(found)] == found, "empty places come last"
        assert len(set(found)) == len(found), "no ID twice"


# ---- hand-made log-probabilities ----------------------------------------------------------------


class ScriptedHead:
    """A head that reads its log-probabilities from a table; its state is (row, key of prefix)."""

    def __init__(self, ids: SemanticIds, tables: Sequence[LogProbs]) -> None:
        self.radices, self.levels = ids.radices, ids.levels
        self.tables = tables

    def log_probs(self, level: int, hidden: Tensor, state: Tensor) -> Tensor:
        rows = []
        for row, key in state.flatten(0, -2).long().tolist():
            digits = []
            for radix in self.radices[:level]:
                digits.append(key % radix)
                key //= radix
            rows.append(list(self.tables[row](tuple(digits))))
        return torch.tensor(rows).view(*state.shape[:-1], self.radices[level])

    def advance(self, level: int, codes: Tensor, state: Tensor) -> Tensor:
        moved = state.clone()
        moved[..., 1] += codes * math.prod(self.radices[:level])
        return moved


class ScriptedModel:
    """Stands in for a NezhaModel: one table of log-probabilities per prompt of the batch."""

    device = torch.device("cpu")

    def __init__(self, ids: SemanticIds, tables: Sequence[LogProbs]) -> None:
        self.head = ScriptedHead(ids, tables)
        self.passes = 0

    def draft_states(self, prompts: Prompts) -> Tensor:
        self.passes += 1
        hidden = torch.zeros(len(prompts), self.head.levels + 1, 2, dtype=torch.float64)
        hidden[:, 0, 0] = torch.arange(len(prompts))
        return hidden


def scripted(
    ids: SemanticIds,
    tables: Sequence[LogProbs],
    beam: int,
    verification: Verification,
    trace: bool = False,
) -> DecodeResult:
    model = ScriptedModel(ids, tables)
    prompts = build_prompts([[]] * len(tables), ids, Vocabulary(ids.radices), 1)
    decoder = NezhaDecoder(model, SortedVerifier(ids), verification)
    result = decoder.decode(prompts, beam, trace)
    assert model.passes == result.backbone_calls == 1
    return result


def random_table(ids: SemanticIds, seed: int, impossible: float = 0.0) -> LogProbs:
    """Random log-probabilities for every prefix; a share of them may be -inf."""
    generator = random.Random(seed)
    table = {}
    for level, radix in enumerate(ids.radices):
        for prefix in itertools.product(*(range(r) for r in ids.radices[:level])):
            logits = [generator.gauss(0, 2) for _ in range(radix)]
            total = math.log(sum(math.exp(logit) for logit in logits))
            table[prefix] = [
                -math.inf if generator.random() < impossible else logit - total for logit in logits
            ]
    return table.__getitem__


@st.composite
def catalogues(draw: st.DrawFn) -> SemanticIds:
    radices = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, radix - 1) for radix in radices))
    return SemanticIds.from_codes(draw(st.lists(row, min_size=1, max_size=8)), radices)


@given(
    ids=catalogues(),
    seed=st.integers(0, 10_000),
    beam=st.integers(1, 12),
    impossible=st.sampled_from([0.0, 0.0, 0.3]),
    verification=st.sampled_from(VERIFICATIONS),
)
@settings(max_examples=150)
def test_scripted_search_and_trace_against_the_slow_version(
    ids: SemanticIds, seed: int, beam: int, impossible: float, verification: Verification
) -> None:
    tables = [random_table(ids, seed + row, impossible) for row in range(3)]
    result = scripted(ids, tables, beam, verification, trace=True)
    check_shape(result, 3, beam)
    assert result.trace is not None
    assert [level.level for level in result.trace.levels] == list(range(1, ids.levels + 1))
    assert result.trace.backbone_calls == 1
    accepted, drafts = [0] * ids.levels, [0] * ids.levels
    rows = [tuple(row) for row in ids.codes.tolist()]
    for row, table in enumerate(tables):
        expected, levels = slow_search(table, ids, beam, verification)
        check_list(result, row, expected, ids)
        if verification == "prefix":
            existing = {key_of(codes, ids.radices) for codes in rows}
            assert {key for key in result.keys[row].tolist() if key >= 0} <= existing

        before: list[Prefix] = [()]
        for index, (fast, slow) in enumerate(zip(result.trace.levels, levels, strict=True)):
            n_codes = ids.radices[index]
            exists = {prefix: any(r[: index + 1] == prefix for r in rows) for prefix in slow.scores}

            def name(prefix: Prefix, before: list[Prefix] = before, n_codes: int = n_codes) -> int:
                """The trace's number of a candidate: k · C + c."""
                return before.index(prefix[:-1]) * n_codes + prefix[-1]

            assert fast.n_codes == n_codes
            for prefix, score in slow.scores.items():
                place = divmod(name(prefix), n_codes)
                assert float(fast.scores[row][place]) == pytest.approx(score, abs=1e-4)
                assert int(fast.keys[row][place]) == key_of(prefix, ids.radices)
                assert bool(fast.exists[row][place]) == exists[prefix]
            assert int(fast.scores[row].isfinite().sum()) == len(slow.scores)

            drafted = fast.proposed[row][fast.proposed_live[row]].tolist()
            assert drafted == [name(prefix) for prefix in slow.proposed]
            kept = fast.kept[row].tolist()
            missing = [-1] * (len(kept) - len(slow.kept))
            assert kept == [name(prefix) for prefix in slow.kept] + missing
            good = [prefix for prefix in slow.proposed if exists[prefix]]
            assert int(fast.proposed_exists[row].sum()) == len(good)
            accepted[index] += len(good)
            drafts[index] += len(slow.proposed)
            assert fast.rejected(row) == [
                name(prefix)
                for prefix in slow.proposed
                if not exists[prefix] and prefix not in slow.kept
            ]
            nearly = [
                name(prefix)
                for prefix in best_first(slow.scores)
                if exists[prefix] and prefix not in slow.kept
            ]
            for limit in (0, 2, 10_000):
                assert fast.pruned(row, limit) == nearly[:limit]

            prefixes = [tuple(codes) for codes in result.trace.prefixes(index + 1)[row].tolist()]
            hole = (-1,) * (index + 1)
            assert prefixes == slow.kept + [hole] * len(missing)
            before = slow.kept
    assert result.trace.acceptance() == pytest.approx(
        [good / max(all_, 1) for good, all_ in zip(accepted, drafts, strict=True)]
    )

    untraced = scripted(ids, tables, beam, verification)
    assert untraced.trace is None
    assert torch.equal(untraced.keys, result.keys)
    assert torch.equal(untraced.scores, result.scores)


def fixed_table(order: Sequence[Prefix], ids: SemanticIds) -> LogProbs:
    """Log-probabilities that rank finished IDs in this order: the first is the likeliest."""
    weights = {codes: 2.0**-rank for rank, codes in enumerate(order)}

    def mass(prefix: Prefix) -> float:
        return sum(w for codes, w in weights.items() if codes[: len(prefix)] == prefix)

    return lambda prefix: [
        math.log(mass((*prefix, code)) / mass(prefix)) for code in range(ids.radices[len(prefix)])
    ]


ORDER = list(itertools.product(range(2), range(3)))  # six IDs, likeliest first


def decode_order(existing: Sequence[Prefix], verification: Verification, beam: int) -> list[int]:
    """Ranks within ORDER that come out, -1 for empty places."""
    ids = SemanticIds.from_codes(existing, (2, 3))
    result = scripted(ids, [fixed_table(ORDER, ids)], beam, verification)
    keys = [key_of(codes, (2, 3)) for codes in ORDER]
    return [keys.index(key) if key >= 0 else -1 for key in result.keys[0].tolist()]


def test_drafts_that_are_never_valid_leave_an_empty_list() -> None:
    assert decode_order([ORDER[5]], "final", beam=4) == [-1, -1, -1, -1]


def test_drafts_that_are_always_valid_all_stay() -> None:
    for verification in VERIFICATIONS:
        assert decode_order(ORDER, verification, beam=4) == [0, 1, 2, 3]
        assert decode_order(ORDER, verification, beam=6) == [0, 1, 2, 3, 4, 5]


def test_drafts_that_are_sometimes_valid_close_ranks_in_order() -> None:
    existing = [ORDER[4], ORDER[0], ORDER[3]]
    assert decode_order(existing, "off", beam=5) == [0, 1, 2, 3, 4]
    assert decode_order(existing, "final", beam=5) == [0, 3, 4, -1, -1]
    assert decode_order(existing, "final", beam=3) == [0, -1, -1]
    assert decode_order(existing, "prefix", beam=3) == [0, 3, 4]


def test_with_prefixes_a_list_is_short_only_when_the_catalogue_is() -> None:
    existing = [ORDER[5], ORDER[2]]
    assert decode_order(existing, "prefix", beam=1) == [2]
    assert decode_order(existing, "prefix", beam=2) == [2, 5]
    assert decode_order(existing, "prefix", beam=5) == [2, 5, -1, -1, -1]
    assert decode_order(existing, "prefix", beam=50) == [2, 5] + [-1] * 48


def test_a_dead_beam_never_revives() -> None:
    # Code 1 is far likelier everywhere, but no item begins with it.
    ids = SemanticIds.from_codes([[0, 0, 0], [0, 0, 1]], (2, 2, 2))

    def table(prefix: Prefix) -> list[float]:
        return [-9.0, -0.1] if len(prefix) < 2 else [-0.5, -0.9]

    result = scripted(ids, [table], 4, "prefix", trace=True)
    assert result.keys.tolist() == [[0, 4, -1, -1]]
    assert result.scores[0, :2].tolist() == pytest.approx([-18.5, -18.9])
    assert result.trace is not None
    assert result.trace.prefixes(2).tolist() == [[[0, 0]] + [[-1, -1]] * 3]
    assert result.trace.levels[2].keys.tolist() == [[[0, 4]] + [[-1, -1]] * 3]
    assert not result.trace.levels[2].exists[0, 1:].any()
    # Level 1 proposes 0 and 1, level 2 proposes both children of 0, level 3 both of (0, 0).
    assert result.trace.acceptance() == pytest.approx([1 / 2, 1 / 2, 1.0])
    assert result.trace.levels[2].rejected(0) == []


def test_trace_names_a_wrong_level() -> None:
    result = scripted(IDS, [random_table(IDS, 0)], 2, "off", trace=True)
    assert result.trace is not None
    for level in (0, 4):
        with pytest.raises(ValueError, match=f"level is {level}, but must be between 1 and 3"):
            result.trace.prefixes(level)


# ---- real models --------------------------------------------------------------------------------


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


SLOW = {NezhaDecoder: nezha_log_probs, AutoregressiveDecoder: autoregressive_log_probs}


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
            assert result.backbone_calls == (1 if decoder_class is NezhaDecoder else 3)
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


# ---- bad input ----------------------------------------------------------------------------------


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
    other = SortedVerifier(SemanticIds.from_codes([[0, 0, 0]], (3, 2, 4)))
    for verification in VERIFICATIONS:
        with pytest.raises(ValueError, match=r"verifier's radices are \(3, 2, 4\).*\(3, 4, 2\)"):
            decoder_class(model, other, verification)
