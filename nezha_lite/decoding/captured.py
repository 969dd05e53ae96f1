"""A beam search as one fixed program: static shapes, compiled, and on CUDA captured as one graph.

A program computes the same as its decoder, with less overhead. Prompts are padded to a length
bucket and a batch bucket, so that few shapes occur, and for each (batch, length, beam) the whole
decode (backbone, head, verifier and selection) becomes one program. The prompts, the request filter
and the verifier's tensors are its inputs, so one program serves every state of the catalogue.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.decoding.base import Decoder, DecodeResult
from nezha_lite.decoding.beam_search import BeamSearchDecoder
from nezha_lite.model.prompts import Prompts
from nezha_lite.verifiers import HashSetVerifier, IsinVerifier, RequestFilter, Verifier

log = logging.getLogger("nezha_lite")
SHORTEST_BUCKET = 5  # items; longer buckets double, up to the model's longest history
CPU_OPTIONS = {"cpp_wrapper": True}  # the calls between kernels in C++ too
_COMPILING = threading.Lock()  # torch.compile is not safe in several threads

Shape = tuple[int, int, int]
Search = Callable[..., tuple[Tensor, Tensor, int]]


class Inputs(NamedTuple):
    """The tensors of one decode: of prompts and requests, and of the verifier."""

    batch: tuple[Tensor, ...]
    catalogue: tuple[Tensor, ...]


class CapturedDecoder(Decoder):
    """The fast path of a beam-search decoder: the same lists, up to ties (see `DecodeResult`).

    The first prompts of a new shape start a compilation in the background, which takes seconds to a
    minute; until it ends the decoder itself answers. `warm_up` compiles beforehand. Weights and
    catalogue may change between any two decodes. A verifier changed in place, and a changed copy of
    it (`with_verifier`), run in the same programs; only where a verifier needs larger tensors are
    programs compiled anew. Threads may share a decoder; on CUDA they must share a stream too.

    Args:
        decoder: what to run; with `trace=True` it runs as it is.
        compile: by torch.compile; None: on CUDA, and on a CPU where a C++ compiler is installed.
            Without it prompts still have static shapes, and CUDA captures the same kernels as one
            graph, equal bit by bit.
        max_programs: capacity; the least recently used program is dropped first.
        background: False compiles in the thread that decodes, which waits.

    Raises:
        ValueError: if `decoder` has no fixed program or a verifier that cannot be part of one,
            `compile` is true and there is no C++ compiler for the CPU, or `max_programs` is
            below 1.
    """

    def __init__(
        self,
        decoder: BeamSearchDecoder,
        compile: bool | None = None,
        max_programs: int = 32,
        background: bool = True,
    ) -> None:
        device = decoder.model.device.type
        if not decoder.static:
            raise ValueError(
                f"{type(decoder).__name__} decides by its results how often to run the backbone: "
                "it has no fixed program to capture."
            )
        if compile and device == "cpu" and cpp_compiler() is None:
            raise ValueError(
                "compile is True, but no C++ compiler was found: install g++, name one in CXX, or "
                "use compile=False."
            )
        check(max_programs >= 1, "max_programs", max_programs, "at least 1")
        self.decoder, self.model = decoder, decoder.model
        able = device == "cuda" or (device == "cpu" and cpp_compiler() is not None)
        self.compiled = able if compile is None else compile
        self.background = background
        self._check_verifier()
        self._programs = _Programs(max_programs)

    def with_verifier(self, verifier: Verifier) -> CapturedDecoder:
        """The same decoder for another catalogue; both share their programs."""
        other = copy.copy(self)
        other.decoder = self.decoder.with_verifier(verifier)
        other._check_verifier()
        return other

    @property
    def compilations(self) -> int:
        """How many programs were made so far, by this decoder and those that share its programs."""
        return self._programs.made

    def warm_up(self, shapes: Iterable[Shape], requests: RequestFilter | None = None) -> None:
        """Compile the missing programs of these shapes, and wait for them.

        Args:
            shapes: (batch, items, beam) each: prompts in a batch, items in the longest history, and
                beam width.
            requests: a filter of the calls' size; None for calls without one.
        """
        for batch, items, beam in shapes:
            width = 1 + self.model.head.levels * (items + 1)
            ids = torch.zeros(batch, width, dtype=torch.int64, device=self.model.device)
            for padded in (False, True):  # two programs where the shape is that of a bucket
                prompts = Prompts(
                    ids, torch.ones_like(ids), ids, self.model.head.levels, padded=padded
                )
                self._waiting().decode(prompts, beam, requests=requests)

    def decode(
        self,
        prompts: Prompts,
        beam: int,
        trace: bool = False,
        requests: RequestFilter | None = None,
    ) -> DecodeResult:
        """See `Decoder.decode`. For a model in training mode, a new shape compiles in this call."""
        decoder = self._waiting() if self.model.training else self
        return super(CapturedDecoder, decoder).decode(prompts, beam, trace, requests)

    def _decode(
        self, prompts: Prompts, beam: int, trace: bool, requests: RequestFilter | None
    ) -> DecodeResult:
        if trace:
            return self.decoder.decode(prompts, beam, trace, requests)
        batch, fixed = len(prompts), self._bucketed(prompts)
        if requests is not None:
            requests = requests.padded_to(len(fixed))
        if not self.compiled and self.model.device.type != "cuda":
            result = self.decoder.decode(fixed, beam, requests=requests)
            return replace(result, keys=result.keys[:batch], scores=result.scores[:batch])
        self.model.head.refresh_tables()
        decoder = copy.copy(self.decoder)  # compiled later: its settings may change meanwhile
        if decoder.verification == "off":
            decoder.verifier = None
        verifier = decoder.verifier
        inputs = Inputs(
            (fixed.input_ids, fixed.attention_mask, fixed.position_ids)
            + (() if requests is None else requests.tensors()),
            () if verifier is None else tuple(verifier.tensors),
        )
        program = self._programs.get(
            _key(decoder, fixed, beam, requests),
            partial(self._program, decoder, fixed, beam, requests, inputs),
            self.background,
        )
        if program is None:
            return self.decoder.decode(prompts, beam, requests=requests)
        keys, scores = program(inputs)
        return DecodeResult(keys[:batch], scores[:batch], program.backbone_calls, None)

    def _waiting(self) -> CapturedDecoder:
        """The same decoder without a background thread."""
        other = copy.copy(self)
        other.background = False
        return other

    def _program(
        self,
        decoder: BeamSearchDecoder,
        prompts: Prompts,
        beam: int,
        requests: RequestFilter | None,
        inputs: Inputs,
    ) -> _Program:
        search = search_of(decoder, prompts, beam, requests)
        if self.compiled:
            search = _compiled(search, decoder.model.device)
        if decoder.model.device.type == "cuda":
            signature = None if decoder.verifier is None else decoder.verifier.signature
            return _Graph(search, inputs, self._programs, signature)
        return _Program(search, inputs)

    def _check_verifier(self) -> None:
        """ValueError for a verifier whose answer waits for the device."""
        on_cuda = self.model.device.type == "cuda"
        waits = (HashSetVerifier, IsinVerifier) if on_cuda else (HashSetVerifier,)
        used = self.decoder.verification != "off" and isinstance(self.decoder.verifier, waits)
        if used and (on_cuda or self.compiled):
            remedy = "" if on_cuda else ", or use compile=False"
            raise ValueError(
                f"The verifier is a {type(self.decoder.verifier).__name__}, which waits for the "
                f"device and cannot be part of a program: take a trie{remedy}."
            )

    def _bucketed(self, prompts: Prompts) -> Prompts:
        levels, longest = self.model.head.levels, self.model.config.max_items
        present, items = prompts.input_ids.shape[1], SHORTEST_BUCKET
        while items < longest and 1 + levels * (items + 1) < present:
            items *= 2
        width = max(1 + levels * (min(items, longest) + 1), present)
        rows = 1 << (len(prompts) - 1).bit_length()
        return prompts.padded_to(rows, width, self.model.vocabulary.pad)


class _Programs:
    """Programs by key, with what they share."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.made = 0
        self.futures: OrderedDict[Hashable, Future[_Program]] = OrderedDict()
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.graph_lock = threading.Lock()  # graphs share their inputs, outputs and memory pool
        self.graph_pool: Any = None
        self.graph_inputs: WeakValueDictionary[Hashable, _StaticTensors] = WeakValueDictionary()

    def get(self, key: Hashable, make: Callable[[], _Program], background: bool) -> _Program | None:
        """The program of this key, made if it is missing.

        `background` makes it in a thread, one at a time, and returns None until it is ready.
        """
        with self.lock:
            future = self.futures.get(key)
            missing = future is None
            if future is None:
                if background and self.thread is not None and self.thread.is_alive():
                    return None  # a later call starts it
                while len(self.futures) >= self.capacity:
                    self.futures.popitem(last=False)
                future = self.futures[key] = Future()
                if background:
                    self.thread = threading.Thread(target=self._make, args=(future, make))
                    self.thread.start()
            self.futures.move_to_end(key)
        if not background:
            if missing:
                self._make(future, make)
            return future.result()
        return future.result() if future.done() and not future.exception() else None

    def _make(self, future: Future[_Program], make: Callable[[], _Program]) -> None:
        try:
            with _COMPILING, torch.inference_mode():
                program = make()
            self.made += 1
            future.set_result(program)
        except Exception as error:
            log.warning(f"Compiling failed, and the decoder itself answers: {error}")
            future.set_exception(error)


class _Program:
    """One search of static shape on a CPU. Threads may call it together."""

    def __init__(self, search: Search, inputs: Inputs) -> None:
        self.search = search
        # Compiles, on a copy: the verifier may change meanwhile.
        copied = [tensor.clone() for tensor in (*inputs.batch, *inputs.catalogue)]
        self.backbone_calls = search(*copied)[2]

    def __call__(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        # Of the layout that was compiled for: nothing checks it.
        batch = [tensor.contiguous() for tensor in inputs.batch]
        keys, scores, _ = self.search(*batch, *inputs.catalogue)
        return keys, scores


class _Graph(_Program):
    """One search as a CUDA graph, which reads and writes at fixed addresses."""

    def __init__(
        self, search: Search, inputs: Inputs, shared: _Programs, signature: Hashable
    ) -> None:
        self.shared = shared
        self.batch = [tensor.clone() for tensor in inputs.batch]
        with shared.graph_lock:
            self.catalogue = shared.graph_inputs.setdefault(
                signature, _StaticTensors(inputs.catalogue)
            )
        device = self.batch[0].device
        fixed = (*self.batch, *self.catalogue.tensors)
        with torch.cuda.device(device):
            # Compiling, autotuning and lazy initialisation happen before, on a side stream.
            side = torch.cuda.Stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                for _ in range(3):
                    search(*fixed)
            torch.cuda.current_stream(device).wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with shared.graph_lock:
                shared.graph_pool = shared.graph_pool or torch.cuda.graph_pool_handle()
                # By default, work of other threads would make the capture fail.
                with torch.cuda.graph(
                    self.graph, shared.graph_pool, side, capture_error_mode="thread_local"
                ):
                    self.keys, self.scores, self.backbone_calls = search(*fixed)

    def __call__(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        with self.shared.graph_lock:
            for fixed, tensor in zip(self.batch, inputs.batch, strict=True):
                fixed.copy_(tensor)
            self.catalogue.follow(inputs.catalogue)
            self.graph.replay()
            return self.keys.clone(), self.scores.clone()  # the next replay overwrites them


class _StaticTensors:
    """Copies of a verifier's tensors at fixed addresses, for all graphs of its signature."""

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self.tensors = [tensor.clone() for tensor in tensors]
        self.copied: list[tuple[Tensor, int]] | None = None

    def follow(self, tensors: tuple[Tensor, ...]) -> None:
        """Copy these if they are others than the last ones, or were changed since then."""
        versions = [(tensor, tensor._version) for tensor in tensors]
        if self.copied is None or any(
            old is not new or before != now
            for (old, before), (new, now) in zip(self.copied, versions, strict=True)
        ):
            for fixed, tensor in zip(self.tensors, tensors, strict=True):
                fixed.copy_(tensor)
            self.copied = versions


def _key(
    decoder: BeamSearchDecoder, prompts: Prompts, beam: int, requests: RequestFilter | None
) -> Hashable:
    """Everything that a program depends on beside its inputs and the weights."""
    weight = decoder.model.head.classifiers[0].weight
    return (
        type(decoder),
        decoder.model,
        weight.dtype,
        weight.device,
        # Its own settings, such as the temperature.
        *(item for item in vars(decoder).items() if item[0] not in ("verifier", "on_phase")),
        None if decoder.verifier is None else decoder.verifier.signature,
        tuple(prompts.input_ids.shape),
        prompts.padded,
        beam,
        None if requests is None else requests.signature,
    )


def search_of(
    decoder: BeamSearchDecoder, like: Prompts, beam: int, requests: RequestFilter | None
) -> Search:
    """A decoder's search as a function of tensors alone: those of `Inputs`, in order."""
    levels, padded = like.levels, like.padded
    n_sets = 0 if requests is None else len(requests.tensors())
    # Without their tensors: a program must not keep a catalogue alive.
    verifier = None if decoder.verifier is None else decoder.verifier.with_tensors(())

    def search(
        input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, *rest: Tensor
    ) -> tuple[Tensor, Tensor, int]:
        prompts = Prompts(input_ids, attention_mask, position_ids, levels, padded)
        own = None if requests is None else requests.with_tensors(rest[:n_sets])
        steps = decoder.search(prompts, beam, False, own)
        if verifier is not None:
            steps.verifier = verifier.with_tensors(rest[n_sets:])
        calls = decoder.run(prompts, steps)
        result = steps.result(calls)
        return result.keys, result.scores, calls

    # torch.compile keeps what it made by code object. Each search gets one of its own: without
    # guards (below) it would otherwise take one program for another.
    return FunctionType(
        search.__code__.replace(), search.__globals__, "search", None, search.__closure__
    )


def _compiled(search: Search, device: torch.device) -> Search:
    options: dict[str, Any] = dict(CPU_OPTIONS) if device.type == "cpu" else {}
    if hasattr(torch.compiler, "skip_guard_on_inbuilt_nn_modules_unsafe"):  # since torch 2.8
        # Before every run torch.compile would check a thousand properties (each weight's shape,
        # say). The program's key covers those that can change. The check costs 0.2 ms.
        options["guard_filter_fn"] = lambda guards: [False] * len(guards)
    return torch.compile(search, fullgraph=True, dynamic=False, options=options)


def cpp_compiler() -> str | None:
    """The C++ compiler that torch.compile would use on a CPU, or None."""
    return shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))
