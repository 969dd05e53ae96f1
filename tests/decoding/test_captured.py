"""The captured program against the readable decoder: the same lists, in every shape."""

import copy
import gc
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nezha_lite.decoding import VERIFICATIONS, AutoregressiveDecoder, NezhaDecoder
from nezha_lite.decoding import captured as captured_module
from nezha_lite.decoding.beam_search import BeamSearch, BeamSearchDecoder
from nezha_lite.decoding.captured import CapturedDecoder, cpp_compiler
from nezha_lite.decoding.nezha import ParallelHeadsDecoder
from nezha_lite.decoding.speculative import SpeculativeDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.model.config import PRESETS
from nezha_lite.model.prompts import Prompts
from nezha_lite.verifiers import (
    BitsetVerifier,
    CatalogueKeys,
    HashSetVerifier,
    RequestFilter,
    SortedVerifier,
    TrieVerifier,
    Verifier,
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


def waiting(decoder: BeamSearchDecoder, **settings: Any) -> CapturedDecoder:
    """One that compiles a new shape before it answers."""
    return CapturedDecoder(decoder, compile=True, background=False, **settings)


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
    captured = waiting(decoder)
    same(decoder, captured, model.build_prompts([[1, 2, 3, 4, 5]], IDS), 2)
    for beam in (2, 4):  # programs must not be taken for one another
        same(decoder, captured, model.build_prompts(HISTORIES[:3], IDS), beam)
    assert len(traced) == 3, "one program for each shape and beam"


@pytest.mark.slow
def test_more_programs_than_the_compiler_keeps_for_one_function(traced: list[int]) -> None:
    decoder = ParallelHeadsDecoder(tiny_model(IDS, layers=1).double(), TrieVerifier(IDS))
    captured = waiting(decoder)
    for beam in range(1, 11):
        same(decoder, captured, decoder.model.build_prompts([[1, 2]], IDS), beam)


REAL = [
    pytest.mark.timeout(600),
    pytest.mark.slow,
    pytest.mark.skipif(cpp_compiler() is None, reason="needs a C++ compiler"),
    # The compiler's own code still uses what it deprecates.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
]


def marked(function: Callable[..., None]) -> Callable[..., None]:
    """A test with the real compiler."""
    for mark in REAL:
        function = mark(function)
    return function


@marked
@pytest.mark.parametrize("verifier_class", [BitsetVerifier, TrieVerifier])
def test_compiled_programs_follow_the_catalogue_in_several_threads(
    verifier_class: Callable[..., Verifier],
) -> None:
    torch.compiler.reset()
    model = tiny_model(IDS)
    verifier = verifier_class(IDS)
    captured = CapturedDecoder(NezhaDecoder(model, verifier), compile=True)
    prompts = model.build_prompts([[1, 2, 3, 4, 5]], IDS)
    captured.warm_up([(1, 5, 7)])
    made = captured.compilations
    best = captured.decode(prompts, 7).keys[0]
    copies = []
    for n_removed in range(6):
        changed = copy.deepcopy(verifier)
        changed.remove(best[:n_removed])
        copies.append(captured.with_verifier(changed))

    def check(number: int) -> None:
        for _ in range(30):
            same(copies[number].decoder, copies[number], prompts, 7)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(check, range(len(copies))))
    verifier.remove(best[:2])
    same(captured.decoder, captured, prompts, 7)
    assert captured.compilations == made


@marked
def test_memory_does_not_grow_with_every_program_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights must not become part of programs, which the compiler keeps for ever."""
    torch.compiler.reset()
    wide = {"hidden_size": 1024, "num_hidden_layers": 1, "intermediate_size": 2048}
    monkeypatch.setitem(PRESETS, "wide", PRESETS["tiny"] | wide)
    model = NezhaModel.from_preset("wide", IDS).eval()
    weights = sum(weight.nbytes for weight in model.parameters()) / 2**20
    captured = waiting(ParallelHeadsDecoder(model, TrieVerifier(IDS)), max_programs=1)
    prompts = model.build_prompts([[1, 2]], IDS)
    resident = []
    for number in range(33):
        captured.decode(prompts, 1 + number % 2)
        gc.collect()
        resident.append(resident_mib())
    assert captured.compilations == 33
    assert weights > 30
    assert resident[-1] - resident[2] < 3 * weights, resident


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("transition", ["gru", "none"])
def test_other_transitions(traced: list[int], transition: str) -> None:
    decoder = NezhaDecoder(tiny_model(IDS, transition=transition).double(), TrieVerifier(IDS))
    same(decoder, waiting(decoder), decoder.model.build_prompts(HISTORIES[:2], IDS), 7)


@pytest.mark.slow
def test_programs_are_made_once_a_shape_and_the_oldest_goes(traced: list[int]) -> None:
    model = tiny_model(IDS, layers=1)
    captured = waiting(ParallelHeadsDecoder(model, TrieVerifier(IDS)), max_programs=2)

    def decode(history: list[int], beam: int) -> int:
        captured.decode(model.build_prompts([history], IDS), beam)
        return captured.compilations

    assert decode([1, 2, 3, 4, 5], 3) == 1
    assert decode([5, 4, 3, 2, 1], 3) == 1, "the same shape"
    assert decode([1, 2], 3) == decode([3], 3) == 2, "padded: another program"
    assert decode([1, 2, 3, 4, 5], 4) == 3, "another beam; the full program of beam 3 goes"
    assert decode([3], 3) == 3
    assert decode([1, 2, 3, 4, 5], 3) == 4
    assert len(traced) == 4


@pytest.mark.parametrize("verifier_class", [BitsetVerifier, SortedVerifier, TrieVerifier])
def test_a_program_serves_every_state_of_the_catalogue(
    traced: list[int], verifier_class: Callable[..., Verifier]
) -> None:
    model = tiny_model(IDS, layers=1).double()
    verifier = verifier_class(IDS)
    captured = waiting(ParallelHeadsDecoder(model, verifier))
    prompts = model.build_prompts([[1, 2, 3, 4, 5]], IDS)
    before = captured.decode(prompts, 5).keys
    changed = copy.deepcopy(verifier)
    changed.remove(before[0, :2])
    other = captured.with_verifier(changed)
    for one in (other, captured, other):  # a copy has the same tensors in other places
        same(one.decoder, one, prompts, 5)
    assert not torch.isin(before[0, :2], other.decode(prompts, 5).keys).any()
    verifier.remove(before[0, 2:4])
    same(captured.decoder, captured, prompts, 5)
    verifier.add(before[0, 2:4])
    assert torch.equal(captured.decode(prompts, 5).keys, before)
    assert len(traced) == 1


@pytest.mark.slow
def test_a_catalogue_that_outgrows_its_room_is_compiled_again(traced: list[int]) -> None:
    model = tiny_model(IDS, layers=1).double()
    verifier = TrieVerifier(CatalogueKeys(IDS.keys[:2], IDS.radices))
    captured = waiting(ParallelHeadsDecoder(model, verifier))
    prompts = model.build_prompts([[1, 2]], IDS)
    same(captured.decoder, captured, prompts, 20)
    verifier.add(torch.arange(math.prod(IDS.radices)))
    same(captured.decoder, captured, prompts, 20)
    assert len(traced) == 2


@pytest.mark.slow
def test_settings_changed_after_compiling_count(traced: list[int]) -> None:
    model = tiny_model(IDS, layers=1).double()
    decoder = NezhaDecoder(model, TrieVerifier(IDS))
    captured = waiting(decoder)
    prompts = model.build_prompts([[1, 2, 3]], IDS)
    for temperature, verification in itertools.product((1.0, 0.5), VERIFICATIONS):
        decoder.temperature, decoder.verification = temperature, verification
        same(decoder, captured, prompts, 6)
    assert len(traced) == 6
    decoder.temperature, decoder.verification = 1.0, "final"
    same(decoder, captured, prompts, 6)
    decoder.verification = "off"
    captured.with_verifier(TrieVerifier(IDS)).decode(prompts, 6)
    assert len(traced) == 6, "programs are found again, and unverified ones know no catalogue"
    model.float()
    same(decoder, captured, prompts, 6)
    assert len(traced) == 7


def test_weights_changed_after_compiling_count(traced: list[int]) -> None:
    model = tiny_model(IDS, layers=1).double()
    decoder = NezhaDecoder(model, TrieVerifier(IDS))
    captured = waiting(decoder)
    prompts = model.build_prompts([[1, 2, 3]], IDS)
    before = captured.decode(prompts, 9).scores
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    same(decoder, captured, prompts, 9)
    assert not torch.equal(captured.decode(prompts, 9).scores, before)
    assert len(traced) == 1


# ---- in the background --------------------------------------------------------------------------


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Compiling begins when this is set; every thread has ended afterwards."""
    go, running = threading.Event(), threading.active_count()
    compile_ = torch.compile

    def wait(function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        assert go.wait(60)
        return compile_(function, fullgraph=True, dynamic=False, backend="eager")

    monkeypatch.setattr(torch, "compile", wait)
    torch.compiler.reset()
    yield go
    go.set()
    deadline = time.monotonic() + 60
    while threading.active_count() > running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == running


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_the_decoder_itself_answers_while_a_program_is_compiled(stopped: threading.Event) -> None:
    model = tiny_model(IDS, layers=1).double().eval()
    decoder = ParallelHeadsDecoder(model, TrieVerifier(IDS))
    captured = CapturedDecoder(decoder, compile=True)
    prompts = model.build_prompts([[1, 2]], IDS)
    for beam in (3, 3, 4):
        same(decoder, captured, prompts, beam)
    with ThreadPoolExecutor(2) as threads:  # no thread waits
        list(threads.map(lambda beam: same(decoder, captured, prompts, beam), (3, 4, 5, 3)))
    assert captured.compilations == 0
    stopped.set()
    until(lambda: captured.compilations == 1)
    same(decoder, captured, prompts, 3)
    same(decoder, captured, prompts, 4)
    until(lambda: captured.compilations == 2)
    same(decoder, captured, prompts, 4)
    assert captured.compilations == 2


@pytest.mark.slow
def test_warming_up_waits_for_the_programs(stopped: threading.Event) -> None:
    model = tiny_model(IDS, layers=1, max_items=8).double().eval()
    decoder = ParallelHeadsDecoder(model, TrieVerifier(IDS))
    captured = CapturedDecoder(decoder, compile=True)
    stopped.set()
    captured.warm_up([(2, 4, 3), (1, 8, 5)])
    made = captured.compilations
    assert made == 1 + 2, "a bucket that is full may hold padding or none"
    for histories, beam in (
        ([[1, 2], [3]], 3),
        ([[1, 2, 3, 4]] * 2, 3),
        ([[*range(8)]], 5),
        ([[*range(6)]], 5),
    ):
        same(decoder, captured, model.build_prompts(histories, IDS), beam)
    requests = RequestFilter.build(IDS, TrieVerifier(IDS), deny=[[1]])
    captured.warm_up([(2, 4, 3)], requests)
    prompts = model.build_prompts([[1, 2], [3]], IDS)
    found = captured.decode(prompts, 3, requests=requests)
    assert torch.equal(found.keys, decoder.decode(prompts, 3, requests=requests).keys)
    assert captured.compilations == made + 1
    captured.warm_up([(2, 4, 3)], requests)
    assert captured.compilations == made + 1


def test_compiling_that_fails_is_reported_and_the_decoder_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(torch, "compile", fail)
    model = tiny_model(IDS, layers=1).double().eval()
    decoder = ParallelHeadsDecoder(model, TrieVerifier(IDS))
    captured = CapturedDecoder(decoder, compile=True)
    prompts = model.build_prompts([[1, 2]], IDS)
    same(decoder, captured, prompts, 3)
    until(lambda: "no space left on device" in caplog.text)
    same(decoder, captured, prompts, 3)
    assert len(caplog.messages) == 1, "not tried again"
    with pytest.raises(RuntimeError, match="no space left on device"):
        captured.warm_up([(1, 2, 3)])


def test_a_model_in_training_mode_is_compiled_as_it_decodes(traced: list[int]) -> None:
    model = tiny_model(IDS, layers=1, dropout=0.5).double()
    decoder = NezhaDecoder(model, TrieVerifier(IDS))
    captured = CapturedDecoder(decoder, compile=True)
    model.train()
    prompts = model.build_prompts([[1, 2]], IDS)
    same(decoder, captured, prompts, 5)
    assert model.training
    assert captured.compilations == len(traced) == 1


# ---- elsewhere ----------------------------------------------------------------------------------


def test_graphs_share_a_pool_and_bear_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: a "graph" that runs the search again when it is replayed."""
    captures: list[dict[str, Any]] = []

    class Graph:
        def replay(self) -> None:
            program = self.program
            keys, scores, _ = program.search_again()
            program.keys.copy_(keys)
            program.scores.copy_(scores)

    @contextmanager
    def capture(graph: Graph, pool: object, stream: object, capture_error_mode: str) -> Any:
        captures.append({"pool": pool, "mode": capture_error_mode})
        yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "device": lambda device: nullcontext(),
        "stream": lambda stream: nullcontext(),
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "CUDAGraph": Graph,
        "graph": capture,
        "graph_pool_handle": object,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)

    model = tiny_model(IDS, layers=1).double().eval()
    verifier = TrieVerifier(IDS)
    decoder = ParallelHeadsDecoder(model, verifier)
    captured = CapturedDecoder(decoder, compile=False)
    changed = copy.deepcopy(verifier)
    changed.remove(IDS.keys[:4])
    shared = captured._programs
    graphs = []
    for beam in (3, 4):
        prompts = captured._bucketed(model.build_prompts([[1, 2]], IDS))
        batch = (prompts.input_ids, prompts.attention_mask, prompts.position_ids)
        search = captured_module.search_of(decoder, prompts, beam, None)
        inputs = captured_module.Inputs(batch, tuple(verifier.tensors))
        graph = captured_module._Graph(search, inputs, shared, verifier.signature)
        graph.graph.program = graph
        graph.search_again = partial(search, *graph.batch, *graph.catalogue.tensors)
        graphs.append(graph)
        for current in (verifier, changed, verifier):
            keys, _ = graph(captured_module.Inputs(batch, tuple(current.tensors)))
            assert torch.equal(keys, decoder.with_verifier(current).decode(prompts, beam).keys)
        verifier.remove(keys[0, :1])  # in place
        again, _ = graph(inputs)
        assert torch.equal(again, decoder.decode(prompts, beam).keys)
        assert keys[0, 0] not in again
        verifier.add(keys[0, :1])
    assert graphs[0].catalogue is graphs[1].catalogue
    assert captures[0] == captures[1]
    assert captures[0]["mode"] == "thread_local"


def test_apples_gpus_do_not_compile_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(IDS)
    monkeypatch.setattr(type(model), "device", torch.device("mps"))
    assert not CapturedDecoder(NezhaDecoder(model, TrieVerifier(IDS))).compiled


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
    captured = waiting(decoder)
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
