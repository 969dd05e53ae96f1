"""Which prefixes two searches share, counted again with plain sets."""

from collections.abc import Iterator

import pytest

from nezha_lite.decoding import AutoregressiveDecoder, DecodeTrace, NezhaDecoder, Verification
from nezha_lite.model import NezhaModel
from nezha_lite.plots.agreement_figures import compare_prefixes, shared_shares, shares_figure
from nezha_lite.verifiers import SortedVerifier
from tests.helpers.hostile import fresh_model, hostile_dataset, hostile_ids

IDS = hostile_ids()
DATASET = hostile_dataset()
Kept = dict[tuple[int, ...], float]


@pytest.fixture(scope="module")
def model() -> NezhaModel:
    return fresh_model(IDS)


def traces(
    model: NezhaModel, users: list[int], beam: int, verification: Verification
) -> tuple[DecodeTrace, DecodeTrace]:
    split = DATASET.split("test")
    prompts = model.build_prompts([split.histories[split.users.index(u)] for u in users], IDS)
    found = []
    for kind in (NezhaDecoder, AutoregressiveDecoder):
        result = kind(model, SortedVerifier(IDS), verification).decode(prompts, beam, trace=True)
        assert result.trace is not None
        found.append(result.trace)
    return found[0], found[1]


def slow_beams(trace: DecodeTrace, row: int) -> Iterator[tuple[Kept, Kept]]:
    """Per level: the kept prefixes and all scored ones with their scores, one candidate a time."""
    beams: list[tuple[int, ...]] = [()]
    for step in trace.levels:
        scored: Kept = {}
        for place, prefix in enumerate(beams):
            for code in range(step.n_codes):
                score = float(step.scores[row, place, code])
                if prefix is not None and score > -1e30:
                    scored[(*prefix, code)] = score
        beams = [
            None if number < 0 else (*beams[number // step.n_codes], number % step.n_codes)
            for number in step.kept[row].tolist()
        ]
        yield {prefix: scored[prefix] for prefix in beams if prefix is not None}, scored


@pytest.mark.parametrize("verification", ["off", "final", "prefix"])
@pytest.mark.parametrize("beam", [1, 4, 13])
def test_agreement_equals_plain_sets(
    model: NezhaModel, beam: int, verification: Verification
) -> None:
    users = [0, 3, 7]
    pair = traces(model, users, beam, verification)
    shares = shared_shares(*pair)
    differing = 0
    for row in range(len(users)):
        levels = compare_prefixes(*pair, row)
        slow = zip(slow_beams(pair[0], row), slow_beams(pair[1], row), strict=True)
        for found, ((head, head_scored), (full, full_scored)) in zip(levels, slow, strict=True):
            both = {*head} & {*full}
            assert found.shared == len(both)
            assert found.model_kept == len(full)
            assert {one.codes for one in found.prefixes if one.shared} == both
            assert [one.codes for one in found.prefixes][: len(full)] == [*full]
            assert {one.codes for one in found.prefixes} == {*head} | {*full}
            differing += len(full) - len(both)
            expected = len(both) / len(full) if full else 1
            assert float(shares[row, found.level - 1]) == pytest.approx(expected)
            for one in found.prefixes:
                sides = ((one.head, head, head_scored), (one.model, full, full_scored))
                for opinion, kept, scored in sides:
                    ranked = sorted(kept, key=lambda codes: -kept[codes])
                    rank = ranked.index(one.codes) + 1 if one.codes in kept else None
                    assert opinion.rank == rank
                    assert opinion.log_prob == scored.get(one.codes)
    assert differing or verification == "final", "the two disagree, so the test can fail"


def test_no_more_than_three_series_fit() -> None:
    with pytest.raises(ValueError, match="number of series is 4"):
        shares_figure({name: [1.0] for name in "abcd"})
    assert [len(trace.x) for trace in shares_figure({"a": [1.0, 0.5], "b": []}).data] == [2, 0, 2]


def test_of_an_empty_beam_all_is_shared(model: NezhaModel) -> None:
    draft, full = traces(model, [*range(12)], 1, "final")
    empty = full.levels[-1].kept[:, 0] < 0
    assert 0 < int(empty.sum()) < 12, "some lists are empty, so the test can fail"
    shares = shared_shares(draft, full)[:, -1]
    assert (shares[empty] == 1).all()
    same = full.levels[-1].keys.flatten(1).gather(1, full.levels[-1].kept.clamp_min(0)) == (
        draft.levels[-1].keys.flatten(1).gather(1, draft.levels[-1].kept.clamp_min(0))
    )
    same &= draft.levels[-1].kept >= 0
    assert shares[~empty].tolist() == same[~empty, 0].double().tolist()
