"""Decode latency: every decoder on identical work, beside bare forward passes and their floor.

Within one batch size and history length all decoders get the same prompts, verifier, beams,
precision and threads, and they are timed in turns: a machine that slows down meanwhile slows all of
them down, the forward passes included.
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from nezha_lite.bench.decoders import DECODERS, USUAL, make_decoder
from nezha_lite.bench.interleaved import Case
from nezha_lite.bench.roofline import Peaks, forward_cost, measured_peaks
from nezha_lite.bench.timing import Latency
from nezha_lite.bench.workload import histories_of, prompts_of
from nezha_lite.common.checks import check, check_counts
from nezha_lite.common.memory import out_of_memory
from nezha_lite.common.results import ResultRow
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import VERIFICATIONS, Verification
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import VERIFIER_KINDS, Verifier, make_verifier

log = logging.getLogger("nezha_lite")

TURNS = 5
PROMPT_BATCHES = 32  # different ones, decoded in turn
UNCAPTURABLE = ("hash-set", "isin")  # verifiers that wait for the device


@dataclass(frozen=True)
class DecodeBench:
    """What is measured: all combinations of what is listed.

    Attributes:
        decoders: names in `decoders.DECODERS`; the forward passes they are compared with are always
            measured.
        beams: beam widths K.
        batches: prompts decoded together, B.
        histories: items per prompt, exactly.
        contexts: tokens per prompt: the shortest histories that fill as many, BOS and placeholders
            included.
        verifications: when drafts are checked; `generate` is off or by prefix by its name.
        structures: verifiers: auto, trie, bitset, sorted, hash-table, isin, hash-set.
        repeats: timed calls of each decoder.
        warmup: calls before the timed ones; the first one, which may compile, is not counted.
        seconds: time for a decoder's timed calls; a slow one is called less often, down to three
            times.
        phases: split eager decoders' time: forward, head, verify, select; in calls of their own.
        compile: compile captured decoders; by default wherever a compiler is found.
        generate_tokens: `generate` is left out where beams × batch × prompt have more tokens.
        seed: of prompts, random catalogues and random weights.

    Raises:
        ValueError: naming the field that is out of range.
    """

    decoders: Sequence[str] = USUAL
    beams: Sequence[int] = (10, 50, 512)
    batches: Sequence[int] = (1,)
    histories: Sequence[int] = (20,)
    contexts: Sequence[int] = ()
    verifications: Sequence[Verification] = ("prefix",)
    structures: Sequence[str] = ("auto",)
    repeats: int = 100
    warmup: int = 5
    seconds: float = 5.0
    phases: bool = True
    compile: bool | None = None
    generate_tokens: int = 200_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, valid in (
            ("decoder", tuple(DECODERS)),
            ("verification", VERIFICATIONS),
            ("structure", ("auto", *VERIFIER_KINDS)),
        ):
            for value in getattr(self, f"{name}s"):
                check(value in valid, name, value, f"one of {', '.join(valid)}")
        for name, values in (
            ("beam", self.beams),
            ("batch", self.batches),
            ("history", self.histories),
            ("context", self.contexts),
        ):
            for value in values:
                check(value >= 1, name, value, "at least 1")
        for name in ("decoders", "beams", "batches", "verifications", "structures"):
            check(bool(getattr(self, name)), name, getattr(self, name), "one or more")
        check(bool(self.histories or self.contexts), "histories", (), "one or more")
        check_counts(self, "repeats", "warmup")
        check_counts(self, "seed", low=0)
        check(0 < self.seconds < math.inf, "seconds", self.seconds, "a number above 0")

    def items_per_prompt(self, levels: int) -> tuple[int, ...]:
        """Histories and contexts in items, for IDs of so many levels."""
        contexts = (max(1, math.ceil((tokens - 1) / levels) - 1) for tokens in self.contexts)
        return (*self.histories, *contexts)


def bench_decoding(
    model: NezhaModel,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset | None = None,
    config: DecodeBench | None = None,
    peaks: Peaks | None = None,
) -> list[ResultRow]:
    """Latency of decoders, beside the bare forward pass of the same batch and history.

    What has to be left out is logged in a sentence each.

    Args:
        model: in eval mode; random weights take as long as trained ones.
        semantic_ids: the catalogue.
        dataset: where prompts come from; None: random histories.
        config: what is measured.
        peaks: of the device; None measures them.

    Returns:
        A row per decoder and combination, "forward" first. Its metrics: median_ms, p95_ms, p99_ms,
        ratio_to_captured_forward (captured decoders) or ratio_to_eager_forward (the others),
        floor_ms (the roofline of one forward pass), prompts_per_second, peak_mib, backbone_calls
        (the mean), the phases of eager decoders, and the accepted share of speculative decoding.

    Raises:
        ValueError: if a history is longer than the backbone's positions, or IDs do not fit.
        MemoryError: if nothing could be measured for lack of memory.
    """
    config = config or DecodeBench()
    levels = semantic_ids.levels
    histories = config.items_per_prompt(levels)
    positions = model.backbone.config.max_position_embeddings
    longest = _tokens(max(histories), levels)
    limit = f"a prompt of at most {positions:,} tokens, not {longest:,}"
    check(longest <= positions, "history", max(histories), limit)
    verifiers = _verifiers(semantic_ids, config.structures, model.device)
    if peaks is None:
        log.info("Measuring what this device reaches at best.")
        peaks = measured_peaks(model.device, model.dtype)
    rows: list[ResultRow] = []
    lacking = "all of it was left out"
    for history, batch in ((history, batch) for history in histories for batch in config.batches):
        items, origin = histories_of(
            history, PROMPT_BATCHES * batch, semantic_ids.n_items, dataset, config.seed
        )
        tokens = _tokens(history, levels)
        cost = forward_cost(model.backbone.config, batch, tokens, model.dtype)
        settings = {
            "batch": batch,
            "history": history,
            "tokens": tokens,
            "levels": levels,
            "codes": _one_if_equal(semantic_ids.radices),
            "items": semantic_ids.n_items,
            "prompts": origin,
            "precision": str(model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "warmup": config.warmup,
            "peak_gflops": round(peaks.flops / 1e9, 1),
            "peak_gbytes": round(peaks.bandwidth / 1e9, 1),
        }
        fields = {
            "started": time.perf_counter(),
            "device": model.device,
            "dataset": "synthetic" if dataset is None else dataset.name,
            "model": model.describe(),
        }
        prompts: Sequence[Prompts] = ()
        cases: Sequence[Case] = ()
        try:
            prompts = prompts_of(model, semantic_ids, items, batch)
            with _length_bucket_of(model, history):
                cases = _cases(model, verifiers, prompts, config)
                _time_in_turns(cases, model.device, config)
            rows += _rows(cases, cost.floor_ms(peaks), settings, fields)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            lacking = f"there is too little memory for one forward pass of {batch} prompts"
            log.info(f"Left out: {lacking} of {history} items.")
        del cases, prompts
        _release_memory(model.device)
    if not rows:
        raise MemoryError(f"Nothing was measured: {lacking}.")
    return rows


def _verifiers(
    semantic_ids: SemanticIds, structures: Sequence[str], device: torch.device
) -> dict[str, Verifier]:
    """Verifiers by the name of their kind, which for "auto" is the kind it selects."""
    verifiers = [make_verifier(structure, semantic_ids, device) for structure in structures]
    names: dict[type, str] = {kind: name for name, kind in VERIFIER_KINDS.items()}
    return {names[type(verifier)]: verifier for verifier in verifiers}


@contextmanager
def _length_bucket_of(model: NezhaModel, items: int) -> Iterator[None]:
    """Make prompts of so many items fill a length bucket: padding is not timed."""
    previous = model.config.max_items
    model.config.max_items = items
    try:
        yield
    finally:
        model.config.max_items = previous


def _cases(
    model: NezhaModel,
    verifiers: Mapping[str, Verifier],
    prompts: Sequence[Prompts],
    config: DecodeBench,
) -> list[Case]:
    """What is timed at one batch and history: the forward passes, then beam by beam."""
    cases: list[Case] = []
    any_verifier = next(iter(verifiers.values()))
    captured = any(DECODERS[name].captured for name in config.decoders)
    forwards = ("forward", "forward-captured") if captured else ("forward",)
    for name in dict.fromkeys((*forwards, *config.decoders)):
        kind = DECODERS[name]
        open_mode = not kind.forward and kind.verification is None
        for structure, verifier in verifiers.items() if open_mode else ((None, any_verifier),):
            for mode in config.verifications if open_mode else (kind.verification,):
                try:
                    timed = make_decoder(name, model, verifier, mode or "off", config.compile)
                except ValueError as error:
                    log.info(f"Left out: {name}: {error}")
                    continue
                beams = (None,) if kind.forward else config.beams
                cases += [Case(name, mode, structure, beam, timed, prompts) for beam in beams]
    possible = []
    for case in sorted(cases, key=lambda case: case.beam or 0):
        if reason := _refusal(case, config.generate_tokens):
            log.info(f"Left out: {case}: {reason}.")
        else:
            possible.append(case)
    return possible


def _refusal(case: Case, max_tokens: int) -> str | None:
    """Why a decoder is not even tried, if so."""
    kind = DECODERS[case.decoder]
    if kind.captured and case.structure in UNCAPTURABLE:
        return f"a verifier of kind {case.structure!r} waits for the device"
    # `generate` reads a copy of the prompt for every beam.
    tokens = case.prompts[0].input_ids.numel() * (case.beam or 1)
    if kind.verification and tokens > max_tokens:
        return f"it would read {tokens:,} tokens at once, more than {max_tokens:,}"
    return None


def _time_in_turns(cases: Sequence[Case], device: torch.device, config: DecodeBench) -> None:
    """Fill in every case, or its `failure`.

    Raises:
        MemoryError: if there is too little memory for the bare forward pass.
    """
    plan = (config.warmup, config.repeats, config.seconds, device)
    for case in cases:
        log.info(f"Warming up {case}.")
        _try(case, lambda case: case.warm_up(*plan), device)
    for turn in range(TURNS):
        log.info(f"Timing, turn {turn + 1} of {TURNS}.")
        for case in cases:
            _try(case, partial(Case.take_turn, turn=turn, turns=TURNS, device=device), device)
    for case in cases if config.phases else ():
        _try(case, partial(Case.split, device=device), device)


def _try(case: Case, step: Callable[[Case], None], device: torch.device) -> None:
    """Do a step of a case that has not failed; a lack of memory is its failure."""
    if case.failure is not None:
        return
    try:
        step(case)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        if case.decoder == "forward":
            raise MemoryError("There is too little memory for one forward pass.") from error
        case.failure = "there is too little memory for it"
        log.info(f"Left out: {case}: {case.failure}.")
    if case.failure is not None:
        _release_memory(device)


def _release_memory(device: torch.device) -> None:
    """Free what is no longer referenced, captured graphs above all."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _rows(
    cases: Sequence[Case], floor_ms: float, settings: Mapping[str, Any], fields: Mapping[str, Any]
) -> list[ResultRow]:
    measured = [(case, Latency.of(case.times)) for case in cases if case.failure is None]
    forwards = {case.decoder: latency.median_ms for case, latency in measured if case.beam is None}
    rows = []
    for case, latency in measured:
        metrics = latency.metrics()
        captured = DECODERS[case.decoder].captured
        if forward := forwards.get("forward-captured" if captured else "forward"):
            name = f"ratio_to_{'captured' if captured else 'eager'}_forward"
            metrics[name] = round(latency.median_ms / forward, 3)
        metrics["floor_ms"] = floor_ms
        metrics["prompts_per_second"] = round(1e3 * settings["batch"] / latency.median_ms, 1)
        rows.append(
            ResultRow.measured(
                kind="latency",
                decoder=case.decoder,
                verifier=case.verification,
                beam=case.beam,
                metrics={**metrics, **case.counts(), **case.phases},
                settings={**settings, "structure": case.structure, "repeats": latency.repeats},
                digits=4,
                **fields,
            )
        )
    return rows


def _tokens(items: int, levels: int) -> int:
    """Tokens of a prompt: BOS, the history's codes, the placeholders."""
    return 1 + levels * (items + 1)


def _one_if_equal(radices: Sequence[int]) -> int | list[int]:
    return radices[0] if len(set(radices)) == 1 else list(radices)
