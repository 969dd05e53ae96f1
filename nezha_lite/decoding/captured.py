"""A beam search as one fixed program: static shapes, compiled, and on CUDA captured as one graph.

What a decoder computes does not change; what it costs to tell the device so does. Prompts are
padded to a length bucket and a batch bucket, so that few shapes occur, and for each (batch, length,
beam) the whole decode (backbone, head, verifier and selection) becomes one program.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._inductor import config as inductor_config

from nezha_lite.decoding.base import DecodeResult, ModelDecoder
from nezha_lite.decoding.beam_search import BeamSearchDecoder
from nezha_lite.model.prompts import Prompts
from nezha_lite.verifiers import HashSetVerifier, IsinVerifier, RequestFilter, Verifier

SHORTEST_BUCKET = 5  # items; longer buckets double, up to the model's longest history
# On a CPU the weights become part of the program: packed once, and what depends on them alone,
# such as the transition's view of every code, is computed once.
CPU_OPTIONS: dict[str, Any] = {
    "freezing": True,
    "cpp.enable_concat_linear": True,
    "cpp_wrapper": True,  # the calls between kernels in C++ too
}


class CapturedDecoder(ModelDecoder):
    """The fast path of a beam-search decoder: the same lists, up to ties (see `DecodeResult`).

    The first prompts of a new shape pay for compiling (seconds to a minute); later ones run the
    finished program. Weights are part of it: after training or loading others, make a new
    `CapturedDecoder`. A living catalogue may change between any two decodes: what a verifier
    changes in place the program sees, and when it replaced its tensors the programs are made anew,
    compiled again as for a new shape: only a bitset, and a hash table while it has room, change in
    place. Threads that share a stream may share a decoder: they take turns.

    Args:
        decoder: what to run; with `trace=True` it runs as it is.
        compile: by torch.compile; None: wherever a compiler is found. Without it only the static
            shapes remain, on CUDA as a graph of the very same kernels, bit by bit.
        max_programs: kept at once; the one not used for longest goes first.

    Raises:
        ValueError: if `decoder` has no fixed program or a verifier that cannot be part of one,
            `compile` is asked for and there is no C++ compiler for the CPU, or `max_programs` is
            below 1.
    """

    def __init__(
        self, decoder: BeamSearchDecoder, compile: bool | None = None, max_programs: int = 32
    ) -> None:
        device = decoder.model.device
        able = device.type != "cpu" or cpp_compiler() is not None
        if not decoder.static:
            raise ValueError(
                f"{type(decoder).__name__} decides by what it finds how often to run the backbone: "
                "it has no fixed program to capture."
            )
        if compile and not able:
            raise ValueError(
                "compile is True, but no C++ compiler was found: install g++, name one in CXX, or "
                "use compile=False."
            )
        if max_programs < 1:
            raise ValueError(f"max_programs is {max_programs}, but must be at least 1.")
        self.decoder, self.model = decoder, decoder.model
        self.compiled = able if compile is None else compile
        self.max_programs = max_programs
        self._check_verifier()
        self._programs: OrderedDict[tuple[object, ...], _Program] = OrderedDict()
        self._generation: int | None = None  # of the catalogue that the programs were made for
        # A program has one set of inputs: without turns, threads would get each other's lists.
        self._turn = threading.Lock()

    def with_verifier(self, verifier: Verifier) -> CapturedDecoder:
        """The same decoder for another catalogue; its programs are made anew."""
        return CapturedDecoder(
            self.decoder.with_verifier(verifier), self.compiled, self.max_programs
        )

    def _decode(
        self, prompts: Prompts, beam: int, trace: bool, requests: RequestFilter | None
    ) -> DecodeResult:
        if trace:
            return self.decoder.decode(prompts, beam, trace, requests)
        batch = len(prompts)
        fixed = self._bucketed(prompts)
        if requests is not None:
            requests = requests.padded_to(len(fixed))
        with self._turn:
            program = self._program(fixed, beam, requests)
            keys, scores = program(fixed, requests)
        return DecodeResult(keys[:batch], scores[:batch], program.backbone_calls, None)

    def _check_verifier(self) -> None:
        """ValueError for a verifier whose answer waits for the device."""
        on_cuda = self.decoder.model.device.type == "cuda"
        waits = (HashSetVerifier, IsinVerifier) if on_cuda else (HashSetVerifier,)
        asked = self.decoder.verification != "off" and isinstance(self.decoder.verifier, waits)
        if asked and (on_cuda or self.compiled):
            remedy = "" if on_cuda else ", or use compile=False"
            raise ValueError(
                f"The verifier is a {type(self.decoder.verifier).__name__}, which waits for the "
                f"device and cannot be part of a program: take a trie{remedy}."
            )

    def _bucketed(self, prompts: Prompts) -> Prompts:
        levels, longest = self.decoder.model.head.levels, self.decoder.model.config.max_items
        present, items = prompts.input_ids.shape[1], SHORTEST_BUCKET
        while items < longest and 1 + levels * (items + 1) < present:
            items *= 2
        width = max(1 + levels * (min(items, longest) + 1), present)
        rows = 1 << (len(prompts) - 1).bit_length()
        return prompts.padded_to(rows, width, self.decoder.model.vocabulary.pad)

    def _program(self, prompts: Prompts, beam: int, requests: RequestFilter | None) -> _Program:
        verifier = self.decoder.verifier
        generation = None if verifier is None else verifier.generation
        if generation != self._generation:
            self._programs.clear()  # nobody can use them again, and each holds memory
            self._generation = generation
        key = (
            tuple(prompts.input_ids.shape),
            prompts.padded,
            beam,
            None if requests is None else requests.signature,
        )
        if key not in self._programs:
            while len(self._programs) >= self.max_programs:
                self._programs.popitem(last=False)
            self._programs[key] = _Program(self.decoder, prompts, beam, requests, self.compiled)
        self._programs.move_to_end(key)
        return self._programs[key]


def _search(
    decoder: BeamSearchDecoder, like: Prompts, beam: int, requests: RequestFilter | None
) -> Callable[..., tuple[Tensor, Tensor, int]]:
    """A decoder's search as a function of tensors alone."""

    def search(
        input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, *sets: Tensor
    ) -> tuple[Tensor, Tensor, int]:
        prompts = Prompts(input_ids, attention_mask, position_ids, like.levels, like.padded)
        chosen = None if requests is None else requests.with_tensors(sets)
        steps = decoder.search(prompts, beam, False, chosen)
        calls = decoder.run(prompts, steps)
        result = steps.result(calls)
        return result.keys, result.scores, calls

    # torch.compile keeps what it made by code object. Each search gets one of its own: without
    # guards (below) it would otherwise take one program for another.
    return FunctionType(
        search.__code__.replace(), search.__globals__, "search", None, search.__closure__
    )


def _compiled(search: Callable[..., Any]) -> Callable[..., Any]:
    options: dict[str, Any] = {}
    if hasattr(torch.compiler, "skip_guard_on_inbuilt_nn_modules_unsafe"):  # since torch 2.8
        # Before every run torch.compile would check a thousand things (each weight's shape, say)
        # that cannot change here: a program always runs on its own tensors. That costs 0.2 ms.
        options["guard_filter_fn"] = lambda guards: [False] * len(guards)
    return torch.compile(search, fullgraph=True, dynamic=False, options=options)


class _Program:
    """One search of fixed shape, ready to run."""

    def __init__(
        self,
        decoder: BeamSearchDecoder,
        prompts: Prompts,
        beam: int,
        requests: RequestFilter | None,
        compiled: bool,
    ) -> None:
        self.inputs = [tensor.clone() for tensor in _tensors(prompts, requests)]
        self.run = _search(decoder, prompts, beam, requests)
        on_cpu = decoder.model.device.type == "cpu"
        if compiled:
            self.run = _compiled(self.run)
        self.graph: torch.cuda.CUDAGraph | None = None
        if decoder.model.device.type == "cuda":
            self._capture(decoder.model.device)
        else:  # the first run compiles
            with inductor_config.patch(CPU_OPTIONS if on_cpu else {}):
                self.backbone_calls = self.run(*self.inputs)[2]

    def _capture(self, device: torch.device) -> None:
        # Compiling, autotuning and lazy initialisation happen before, on a stream of their own.
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(3):
                self.run(*self.inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        # By default a graph records a stream of the current device, which need not be the model's.
        with torch.cuda.device(device), torch.cuda.graph(self.graph, stream=side):
            self.keys, self.scores, self.backbone_calls = self.run(*self.inputs)

    def __call__(self, prompts: Prompts, requests: RequestFilter | None) -> tuple[Tensor, Tensor]:
        # Always the same tensors: a graph reads at fixed places, and a compiled program would be
        # made again for tensors of another kind.
        for fixed, tensor in zip(self.inputs, _tensors(prompts, requests), strict=True):
            fixed.copy_(tensor)
        if self.graph is None:
            keys, scores, _ = self.run(*self.inputs)
            return keys, scores
        self.graph.replay()
        return self.keys.clone(), self.scores.clone()  # the next replay writes over them


def _tensors(prompts: Prompts, requests: RequestFilter | None) -> tuple[Tensor, ...]:
    sets = () if requests is None else requests.tensors()
    return (prompts.input_ids, prompts.attention_mask, prompts.position_ids, *sets)


def cpp_compiler() -> str | None:
    """The C++ compiler that torch.compile would use on a CPU, or None."""
    return shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))
