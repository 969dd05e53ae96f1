"""The captured program against the readable decoder: the same lists, in every shape."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from nezha_lite.decoding import VERIFICATIONS, AutoregressiveDecoder, NezhaDecoder
from nezha_lite.decoding.beam_search import BeamSearch, BeamSearchDecoder
from nezha_lite.decoding.captured import CapturedDecoder, cpp_compiler
from nezha_lite.decoding.nezha import ParallelHeadsDecoder
from nezha_lite.decoding.speculative import SpeculativeDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.verifiers import (
    BitsetVerifier,
    HashSetVerifier,
    RequestFilter,
    SortedVerifier,
    TrieVerifier,
)
from tests.helpers.builders import BACKBONES, catalogue, tiny_model

IDS = catalogue(9, seed=2)
HISTORIES: list[list[int]] = [[3, 1, 4], [], [5], [0, 1, 2, 3, 4, 5], [7, 7], [2, 6, 8, 1]]
DECODERS = (NezhaDecoder, ParallelHeadsDecoder, AutoregressiveDecoder)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """torch.compile without a compiler: the graph is traced whole, then run step by step."""
    compile_, made = torch.compile, []

    def trace(function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        made.append(1)
        return compile_(function, backend="eager", **settings)

    monkeypatch.setattr(torch, "compile", trace)
    torch.compiler.reset()
    return made


def same(one: BeamSearchDecoder, other: CapturedDecoder, prompts: Prompts, beam: int) -> None:
    expected, found = one.decode(prompts, beam), other.decode(prompts, beam)
    assert torch.equal(found.keys, expected.keys)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
    assert found.backbone_calls == expected.backbone_calls


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("decoder_class", DECODERS)
def test_static_shapes_change_nothing(
    backbone: str, decoder_class: Callable[..., BeamSearchDecoder]
) -> None:
    model = tiny_model(IDS, backbone, max_items=8).double()  # float64: no ties by rounding
    for verification in VERIFICATIONS:
        decoder = decoder_class(model, TrieVerifier(IDS), verification)
        captured = CapturedDecoder(decoder, compile=False)
        for size in (1, 2, 3, 5, 6):
            prompts = model.build_prompts(HISTORIES[:size], IDS)
            for beam in (1, 4, 50):
                same(decoder, captured, prompts, beam)


@pytest.mark.parametrize(
    ("decoder_class", "verifier_class"),
    [
        (NezhaDecoder, SortedVerifier),
        (NezhaDecoder, TrieVerifier),
        (ParallelHeadsDecoder, BitsetVerifier),
        (AutoregressiveDecoder, TrieVerifier),
    ],
)
@pytest.mark.slow
def test_the_whole_search_is_one_graph(
    traced: list[int],
    decoder_class: Callable[..., BeamSearchDecoder],
    verifier_class: Callable[..., Any],
) -> None:
    # fullgraph=True fails at the first operation that would wait for a tensor's contents.
    model = tiny_model(IDS, layers=1).double()
    decoder = decoder_class(model, verifier_class(IDS))
    captured = CapturedDecoder(decoder, compile=True)
    same(decoder, captured, model.build_prompts([[1, 2, 3, 4, 5]], IDS), 2)
    for beam in (2, 4):  # programs must not be taken for one another
        same(decoder, captured, model.build_prompts(HISTORIES[:3], IDS), beam)
    assert len(traced) == 3, "one program for each shape and beam"


@pytest.mark.slow
def test_more_programs_than_the_compiler_keeps_for_one_function(traced: list[int]) -> None:
    decoder = ParallelHeadsDecoder(tiny_model(IDS, layers=1).double(), TrieVerifier(IDS))
    captured = CapturedDecoder(decoder, compile=True)
    for beam in range(1, 11):
        same(decoder, captured, decoder.model.build_prompts([[1, 2]], IDS), beam)


# The compiler's own code still uses what it deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.skipif(cpp_compiler() is None, reason="needs a C++ compiler")
@pytest.mark.slow
def test_the_compiled_program_sees_a_catalogue_changed_in_place() -> None:
    torch.compiler.reset()
    model = tiny_model(IDS)
    verifier = BitsetVerifier(IDS)
    decoder = NezhaDecoder(model, verifier)
    captured = CapturedDecoder(decoder)
    prompts = model.build_prompts([[1, 2, 3, 4, 5]], IDS)
    before = decoder.decode(prompts, 7)
    same(decoder, captured, prompts, 7)
    verifier.remove(before.keys[0, :2])
    same(decoder, captured, prompts, 7)
    assert not torch.isin(before.keys[0, :2], captured.decode(prompts, 7).keys).any()
    verifier.add(before.keys[0, :2])
    assert torch.equal(captured.decode(prompts, 7).keys, before.keys)
    assert len(captured._programs) == 1


@pytest.mark.parametrize("transition", ["gru", "none"])
def test_other_transitions(traced: list[int], transition: str) -> None:
    decoder = NezhaDecoder(tiny_model(IDS, transition=transition).double(), TrieVerifier(IDS))
    same(
        decoder, CapturedDecoder(decoder, True), decoder.model.build_prompts(HISTORIES[:2], IDS), 7
    )


def test_programs_are_made_once_a_shape_and_the_oldest_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model(IDS)
    captured = CapturedDecoder(NezhaDecoder(model, TrieVerifier(IDS)), False, max_programs=2)
    runs = count_programs(monkeypatch)

    def decode(history: list[int], beam: int) -> None:
        captured.decode(model.build_prompts([history], IDS), beam)

    decode([1, 2, 3, 4, 5], 3)
    decode([5, 4, 3, 2, 1], 3)  # the same shape
    assert len(runs) == 1
    decode([1, 2], 3)  # padded: another program
    decode([3], 3)
    assert len(runs) == 2
    decode([1, 2, 3, 4, 5], 4)  # another beam; the full program of beam 3 goes
    decode([3], 3)
    assert len(runs) == 3
    decode([1, 2, 3, 4, 5], 3)
    assert len(runs) == 4


def count_programs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    from nezha_lite.decoding import captured

    made: list[int] = []
    original = captured._Program

    def program(*arguments: Any) -> Any:
        made.append(1)
        return original(*arguments)

    monkeypatch.setattr(captured, "_Program", program)
    return made


@pytest.mark.parametrize("verifier_class", [BitsetVerifier, TrieVerifier])
@pytest.mark.slow
def test_a_program_follows_the_living_catalogue(
    traced: list[int], verifier_class: Callable[..., Any]
) -> None:
    model = tiny_model(IDS).double()
    verifier = verifier_class(IDS)
    decoder = NezhaDecoder(model, verifier)
    captured = CapturedDecoder(decoder, compile=True)
    prompts = model.build_prompts([[1, 2, 3, 4, 5]], IDS)
    before = captured.decode(prompts, 5).keys
    verifier.remove(before[0, :2])
    same(decoder, captured, prompts, 5)
    assert not torch.isin(before[0, :2], captured.decode(prompts, 5).keys).any()
    verifier.add(before[0, :2])
    assert torch.equal(captured.decode(prompts, 5).keys, before)
    assert (len(traced) == 1) == (verifier.generation == 0), "changed in place: no new program"


def test_programs_of_an_earlier_catalogue_are_let_go() -> None:
    model = tiny_model(IDS)
    verifier = TrieVerifier(IDS)
    captured = CapturedDecoder(NezhaDecoder(model, verifier), compile=False)
    prompts = model.build_prompts([[1, 2, 3]], IDS)
    for beam in (2, 3):
        captured.decode(prompts, beam)
    verifier.remove(IDS.keys[:1])
    captured.decode(prompts, 2)
    assert len(captured._programs) == 1


def test_threads_get_their_own_lists() -> None:
    class Slow(NezhaDecoder):
        def run(self, prompts: Prompts, search: BeamSearch) -> int:
            time.sleep(0.02)  # time for another thread's prompts to come
            return super().run(prompts, search)

    model = tiny_model(IDS).double()
    verifier = TrieVerifier(IDS)
    batches = [model.build_prompts([[item, 1]], IDS) for item in range(6)]
    expected = [NezhaDecoder(model, verifier).decode(prompts, 4).scores for prompts in batches]
    captured = CapturedDecoder(Slow(model, verifier), compile=False)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda prompts: captured.decode(prompts, 4).scores, batches))
    torch.testing.assert_close(found, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_graph_is_of_the_models_device() -> None:
    model = tiny_model(IDS).double().to("cuda:1")
    decoder = NezhaDecoder(model, TrieVerifier(IDS, "cuda:1"))
    captured = CapturedDecoder(decoder, compile=False)
    for history in ([1, 2], [3, 4]):
        same(decoder, captured, model.build_prompts([history], IDS), 4)


def test_requests_reach_the_program(traced: list[int]) -> None:
    model = tiny_model(IDS).double()
    verifier = TrieVerifier(IDS)
    decoder = NezhaDecoder(model, verifier)
    captured = CapturedDecoder(decoder, compile=True)
    prompts = model.build_prompts(HISTORIES[:3], IDS)
    plain = decoder.decode(prompts, 6).keys
    for deny in ([[0, 1, 2, 3], [2], []], [[4, 5, 6, 7], [], [5]]):
        requests = RequestFilter.build(IDS, verifier, deny=deny)
        expected = decoder.decode(prompts, 6, requests=requests)
        found = captured.decode(prompts, 6, requests=requests)
        assert torch.equal(found.keys, expected.keys)
        assert not torch.equal(found.keys[0], plain[0])
        assert torch.equal(found.keys[1 if deny[1] == [] else 2], plain[1 if deny[1] == [] else 2])
    assert len(traced) == 1, "other sets of the same sizes run the same program"


def test_tracing_runs_the_decoder_itself() -> None:
    model = tiny_model(IDS)
    captured = CapturedDecoder(NezhaDecoder(model, TrieVerifier(IDS)), compile=False)
    result = captured.decode(model.build_prompts([[1]], IDS), 3, trace=True)
    assert result.trace is not None
    assert len(result.trace.levels) == IDS.levels


def test_bad_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(IDS)
    decoder = NezhaDecoder(model, TrieVerifier(IDS))
    with pytest.raises(ValueError, match="beam is 0, but must be at least 1"):
        CapturedDecoder(decoder, compile=False).decode(model.build_prompts([[1]], IDS), 0)
    with pytest.raises(ValueError, match="max_programs is 0, but must be at least 1"):
        CapturedDecoder(decoder, compile=False, max_programs=0)
    with pytest.raises(ValueError, match=r"SpeculativeDecoder .* no fixed program"):
        CapturedDecoder(SpeculativeDecoder(model, TrieVerifier(IDS)))
    asked = NezhaDecoder(model, HashSetVerifier(IDS))
    with pytest.raises(ValueError, match="is a HashSetVerifier, which waits for the device"):
        CapturedDecoder(asked, compile=True)
    CapturedDecoder(asked, compile=False)
    CapturedDecoder(NezhaDecoder(model, HashSetVerifier(IDS), "off"), compile=True)  # not asked
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not CapturedDecoder(decoder).compiled
    with pytest.raises(ValueError, match="no C\\+\\+ compiler was found"):
        CapturedDecoder(decoder, compile=True)


def test_weights_of_a_shape_beyond_the_model_are_still_decoded() -> None:
    # Prompts may be longer than the longest bucket: built for another max_items.
    model: NezhaModel = tiny_model(IDS, max_items=12)
    long = model.build_prompts([list(range(9))], IDS)
    model.config.max_items = 6
    decoder = NezhaDecoder(model, TrieVerifier(IDS))
    same(decoder, CapturedDecoder(decoder, compile=False), long, 3)
