"""The beam search over hand-made log-probabilities, and its trace, against the slow version."""

import itertools
import math
import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.decoding import VERIFICATIONS, DecodeResult, NezhaDecoder, Verification
from nezha_lite.model.prompts import Vocabulary, build_prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import SortedVerifier
from tests.helpers.builders import catalogue
from tests.helpers.slow_decoding import (
    LogProbs,
    Prefix,
    ScriptedModel,
    best_first,
    check_list,
    check_shape,
    key_of,
    slow_search,
)


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
                candidate = divmod(name(prefix), n_codes)
                assert float(fast.scores[row][candidate]) == pytest.approx(score, abs=1e-4)
                assert int(fast.keys[row][candidate]) == key_of(prefix, ids.radices)
                assert bool(fast.exists[row][candidate]) == exists[prefix]
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
    ids = catalogue(9, seed=2)
    result = scripted(ids, [random_table(ids, 0)], 2, "off", trace=True)
    assert result.trace is not None
    for level in (0, 4):
        with pytest.raises(ValueError, match=f"level is {level}, but must be between 1 and 3"):
            result.trace.prefixes(level)
