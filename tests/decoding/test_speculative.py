"""Speculative decoding: its lists are the autoregressive ones, whatever the head drafts."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.datasets import DATA_FOLDER, load_dataset
from nezha_lite.decoding import VERIFICATIONS, AutoregressiveDecoder, DecodeResult, Verification
from nezha_lite.decoding.speculative import SpeculativeDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import RequestFilter, SortedVerifier, TrieVerifier, Verifier
from tests.decoding.test_decoding import autoregressive_log_probs, nezha_log_probs
from tests.helpers.builders import BACKBONES, catalogue, tiny_model
from tests.helpers.slow_decoding import Prefix, check_shape, slow_search

IDS = catalogue(60, (4, 6, 5, 3), seed=3)  # so many that a narrow draft misses some
HISTORIES: list[list[int]] = [[3, 1, 4], [], [5], [0, 1, 2, 3, 4, 5]]
USERS = [[(7 * user + 3 * step) % 60 for step in range(1 + user % 4)] for user in range(30)]
TIE = 1e-5


def both(
    model: NezhaModel,
    verifier: Verifier,
    histories: Sequence[Sequence[int]],
    ids: SemanticIds,
    beam: int,
    verification: Verification = "prefix",
    draft_beam: int | None = None,
    requests: RequestFilter | None = None,
) -> tuple[DecodeResult, DecodeResult]:
    """Autoregressive and speculative, after what must hold between them in float64."""
    prompts = model.build_prompts(histories, ids)
    exact, result = (
        decoder.decode(prompts, beam, trace=True, requests=requests)
        for decoder in (
            AutoregressiveDecoder(model, verifier, verification),
            SpeculativeDecoder(model, verifier, verification, draft_beam),
        )
    )
    assert torch.equal(result.keys, exact.keys)
    torch.testing.assert_close(result.scores, exact.scores, rtol=1e-10, atol=1e-10)
    levels = ids.levels
    assert result.accepted is not None
    assert result.accepted.shape == (len(histories), levels - 1)
    assert result.accepted.dtype == torch.float32
    assert ((result.accepted >= 0) & (result.accepted <= 1)).all()
    assert (result.accepted[:, :1] == 1).all(), "the prompt's own pass chooses the first code"
    assert min(levels, 2) <= result.backbone_calls <= levels == exact.backbone_calls
    if (result.accepted == 1).all():
        assert result.backbone_calls == min(levels, 2)
    else:
        assert result.backbone_calls > 2

    assert exact.trace is not None
    assert result.trace is not None
    assert result.trace.backbone_calls == result.backbone_calls
    for level, other_level in zip(exact.trace.levels, result.trace.levels, strict=True):
        assert torch.equal(level.kept, other_level.kept)
        assert torch.equal(level.proposed_live, other_level.proposed_live)
        # The candidates of live beams are the same; a dead beam may end in any node.
        live = level.keys >= 0
        assert torch.equal(live, other_level.keys >= 0)
        assert torch.equal(level.keys, other_level.keys)
        assert torch.equal(level.exists, other_level.exists)
        torch.testing.assert_close(
            level.scores[live], other_level.scores[live], rtol=1e-10, atol=1e-10
        )
    return exact, result


@st.composite
def catalogues(draw: st.DrawFn) -> SemanticIds:
    radices = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, radix - 1) for radix in radices))
    return SemanticIds.from_codes(draw(st.lists(row, min_size=1, max_size=12)), radices)


@given(
    ids=catalogues(),
    data=st.data(),
    beam=st.integers(1, 9),
    draft_beam=st.sampled_from([None, 1, 2, 5, 40]),
    verification=st.sampled_from(VERIFICATIONS),
    backbone=st.sampled_from(BACKBONES),
    transition=st.sampled_from(["rnn", "gru", "none"]),
    seed=st.integers(0, 100),
)
@settings(max_examples=80)
def test_the_lists_are_those_of_autoregressive_decoding(
    ids: SemanticIds,
    data: st.DataObject,
    beam: int,
    draft_beam: int | None,
    verification: Verification,
    backbone: str,
    transition: str,
    seed: int,
) -> None:
    items = st.integers(0, ids.n_items - 1)
    histories = data.draw(st.lists(st.lists(items, max_size=5), min_size=1, max_size=4))
    model = tiny_model(ids, backbone, seed=seed, max_items=4, transition=transition).double()
    verifier = TrieVerifier(ids)
    requests = None
    if data.draw(st.booleans()):
        deny = [data.draw(st.lists(items, max_size=3)) for _ in histories]
        requests = RequestFilter.build(ids, verifier, deny=deny)
    both(model, verifier, histories, ids, beam, verification, draft_beam, requests)


def equal_up_to_ties(exact: DecodeResult, result: DecodeResult) -> tuple[int, int]:
    """How many lists are identical, and how many are up to swaps of scores within 1e-5."""
    identical = tied = 0
    for row in range(len(exact.keys)):
        if torch.equal(exact.keys[row], result.keys[row]):
            identical += 1
            continue
        finite = exact.scores[row].isfinite()
        assert torch.equal(finite, result.scores[row].isfinite())
        last = float(exact.scores[row][finite][-1])
        torch.testing.assert_close(result.scores[row], exact.scores[row], rtol=0, atol=2 * TIE)
        lists = [
            dict(zip(result.keys[row].tolist(), result.scores[row].tolist(), strict=True))
            for result in (exact, result)
        ]
        for key in lists[0].keys() ^ lists[1].keys():  # only the end of a list may differ
            assert abs((lists[0] | lists[1])[key] - last) <= TIE
        for key in lists[0].keys() & lists[1].keys() - {-1}:
            assert abs(lists[0][key] - lists[1][key]) <= TIE
        tied += 1
    return identical, tied


@pytest.mark.parametrize("backbone", BACKBONES)
def test_float32_differs_in_nothing_but_ties(backbone: str) -> None:
    histories = [[(3 * user + step) % 60 for step in range(user % 6)] for user in range(40)]
    model = tiny_model(IDS, backbone, max_items=4)
    prompts = model.build_prompts(histories, IDS)
    for verification in VERIFICATIONS:
        exact = AutoregressiveDecoder(model, TrieVerifier(IDS), verification).decode(prompts, 8)
        decoder = SpeculativeDecoder(model, TrieVerifier(IDS), verification)
        result = decoder.decode(prompts, 8)
        check_shape(result, len(histories), 8)
        identical, tied = equal_up_to_ties(exact, result)
        assert identical + tied == len(histories)
        assert tied <= 2


@pytest.mark.parametrize("verification", VERIFICATIONS)
@torch.inference_mode()
def test_acceptance_and_passes_follow_from_two_slow_searches(verification: Verification) -> None:
    model = tiny_model(IDS, seed=1, transition="gru", max_items=4).double()
    beam, all_calls = 3, set()
    for history in USERS if verification == "prefix" else USERS[:10]:
        _, result = both(model, TrieVerifier(IDS), [history], IDS, beam, verification, beam)
        exact = autoregressive_log_probs(model, history, IDS)
        head = nezha_log_probs(model, history, IDS)

        def beams_by_level(n_backbone: int, exact=exact, head=head) -> list[set[Prefix]]:
            """Level by level, if the backbone chooses this many codes and the head the others."""

            def log_probs(prefix: Prefix) -> Sequence[float]:
                return (exact if len(prefix) < n_backbone else head)(prefix)

            _, levels = slow_search(log_probs, IDS, beam, verification)
            return [set(level.kept) for level in levels]

        beams, drafts = beams_by_level(IDS.levels), beams_by_level(1)
        shares = [
            len(kept & drafted) / len(kept)
            for kept, drafted in zip(beams[:-1], drafts[:-1], strict=True)
        ]
        assert result.accepted is not None
        assert result.accepted[0].tolist() == pytest.approx(shares)
        calls = 2
        for level in (2, 3):
            if not beams[level - 1] <= drafts[level - 1]:
                drafts, calls = beams_by_level(level), calls + 1
        assert result.backbone_calls == calls
        all_calls.add(calls)
    assert all_calls == {3, 4} or verification != "prefix", "or this shows nothing"


def test_drafts_that_start_below_a_draft() -> None:
    # What the first draft foresaw at level 2 is used; what it missed at level 3 is drafted anew.
    model = tiny_model(IDS, max_items=4).double()
    mended = 0
    for history in USERS:
        _, result = both(model, TrieVerifier(IDS), [history], IDS, 4)
        assert result.accepted is not None
        _, second, third = result.accepted[0].tolist()
        mended += second == 1 and third < 1
    assert mended > 5


def test_places_that_stay_empty_are_neither_missed_nor_counted() -> None:
    ids = SemanticIds.from_codes([[0, 0, 0], [1, 1, 1], [2, 0, 1]], (3, 2, 2))
    model = tiny_model(ids).double()
    # This verifier offers the whole grid, so that a beam of 5 has empty places; a draft of 3 has
    # none, and holds all that exists.
    _, result = both(model, SortedVerifier(ids), [[0]], ids, 5, draft_beam=3)
    assert result.accepted is not None
    assert result.accepted.tolist() == [[1, 1]]
    assert result.backbone_calls == 2
    _, result = both(model, SortedVerifier(ids), [[0]], ids, 5, draft_beam=1)
    assert result.accepted is not None
    assert result.accepted[0].tolist() == pytest.approx([1, 1 / 3])


def test_a_draft_that_is_always_wrong_costs_every_pass_and_changes_nothing() -> None:
    model = tiny_model(IDS, max_items=4).double()
    # A head that likes best what the backbone likes least: no drafted pair is a beam.
    exact = AutoregressiveDecoder(model, TrieVerifier(IDS)).decode(
        model.build_prompts([[3, 1, 4]], IDS), 2, trace=True
    )
    assert exact.trace is not None
    for level in (1, 2):
        kept = exact.trace.prefixes(level + 1)[0, :, level]
        classifier = model.head.classifiers[level]
        with torch.no_grad():
            classifier.bias.zero_()
            classifier.bias[kept] = -1e6
    _, result = both(model, TrieVerifier(IDS), [[3, 1, 4]], IDS, 2, draft_beam=2)
    assert result.accepted is not None
    assert result.accepted.tolist() == [[1, 0, 0]]
    assert result.backbone_calls == IDS.levels

    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.neg_()
    _, result = both(model, TrieVerifier(IDS), HISTORIES, IDS, 4, draft_beam=4)
    assert result.accepted is not None
    assert result.accepted[:, 1:].mean() < 0.9
    assert result.backbone_calls > 2


def test_a_head_that_agrees_needs_two_passes() -> None:
    # Every state of this backbone is its last bias, so that its next code depends on nothing; the
    # head is given the same probabilities.
    model = tiny_model(IDS, "gpt2", max_items=4).double()
    state = torch.linspace(-1, 1, 16, dtype=torch.float64)
    with torch.no_grad():
        model.backbone.transformer.ln_f.weight.zero_()
        model.backbone.transformer.ln_f.bias.copy_(state)
        tokens = model.backbone.get_output_embeddings().weight @ state
        for level, classifier in enumerate(model.head.classifiers):
            first = model.vocabulary.level_offsets[level]
            classifier.weight.zero_()
            classifier.bias.copy_(tokens[first : first + IDS.radices[level]])
    for beam in (1, 3, 10):
        for verification in VERIFICATIONS:
            _, result = both(
                model, TrieVerifier(IDS), HISTORIES, IDS, beam, verification, draft_beam=beam
            )
            assert result.accepted is not None
            assert (result.accepted == 1).all()
            assert result.backbone_calls == 2


def test_a_wider_draft_foresees_more() -> None:
    model = tiny_model(IDS, max_items=4).double()
    shares, calls = [], []
    for draft_beam in (1, 4, 8, 300):
        _, result = both(model, TrieVerifier(IDS), HISTORIES, IDS, 8, draft_beam=draft_beam)
        assert result.accepted is not None
        shares.append(float(result.accepted.mean()))
        calls.append(result.backbone_calls)
    assert shares == sorted(shares)
    assert shares[0] < shares[-1] == 1
    assert (calls[0], calls[-1]) == (4, 2)
    default = both(model, TrieVerifier(IDS), HISTORIES, IDS, 4)[1].accepted
    twice = both(model, TrieVerifier(IDS), HISTORIES, IDS, 4, draft_beam=8)[1].accepted
    assert default is not None
    assert twice is not None
    assert torch.equal(default, twice)


def test_short_ids_and_a_request_that_leaves_nothing() -> None:
    level = SemanticIds.from_codes([[1], [3]], (5,))
    _, result = both(tiny_model(level).double(), TrieVerifier(level), [[0, 1], []], level, 4)
    assert result.backbone_calls == 1
    two = SemanticIds.from_codes([[1, 0], [3, 2]], (5, 3))
    _, result = both(tiny_model(two).double(), TrieVerifier(two), [[0, 1], []], two, 9)
    assert result.backbone_calls == 2

    verifier = TrieVerifier(IDS)
    nothing = RequestFilter.build(IDS, verifier, allow=[[], [7]])
    model = tiny_model(IDS, max_items=4).double()
    _, result = both(model, verifier, [[1], [2]], IDS, 3, requests=nothing)
    assert (result.keys[0] == -1).all()
    assert result.keys[1].tolist() == [int(IDS.keys[7]), -1, -1]
    assert result.accepted is not None
    assert result.accepted[0].tolist() == [1, 1, 1], "no beam was missed"


def test_bad_input_is_named() -> None:
    model = tiny_model(IDS)
    for draft_beam in (0, -2):
        with pytest.raises(ValueError, match=f"draft_beam is {draft_beam}, but must be at least 1"):
            SpeculativeDecoder(model, TrieVerifier(IDS), draft_beam=draft_beam)
    with pytest.raises(ValueError, match="beam is 0, but must be at least 1"):
        SpeculativeDecoder(model, TrieVerifier(IDS)).decode(model.build_prompts([[1]], IDS), 0)
    with pytest.raises(ValueError, match="'prefix' needs a verifier, but it is None"):
        SpeculativeDecoder(model)
    with pytest.raises(ValueError, match="next_code_weight is 0"):
        SpeculativeDecoder(tiny_model(IDS, next_code_weight=0.0), TrieVerifier(IDS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_committed_model_on_its_shop(dtype: torch.dtype) -> None:
    folder = DATA_FOLDER / "checkpoints" / "sample"
    ids = SemanticIds.load(folder / "semantic_ids.safetensors")
    model = NezhaModel.from_pretrained(folder).to(dtype).eval()
    verifier = TrieVerifier(ids)
    histories = load_dataset("sample").split("test").sample(240, seed=1).histories
    identical = tied = 0
    accepted = []
    for start in range(0, len(histories), 24):
        prompts = model.build_prompts(histories[start : start + 24], ids)
        exact = AutoregressiveDecoder(model, verifier).decode(prompts, 10)
        result = SpeculativeDecoder(model, verifier).decode(prompts, 10)
        assert result.accepted is not None
        accepted.append(result.accepted)
        same, nearly = equal_up_to_ties(exact, result)
        identical, tied = identical + same, tied + nearly
    assert identical + tied == len(histories)
    assert tied <= (0 if dtype == torch.float64 else 5)
    # A trained head knows its backbone well, though not perfectly.
    share = torch.cat(accepted)[:, 1:].mean()
    assert 0.5 < share < 1
