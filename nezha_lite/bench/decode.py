"""Decode latency: every decoder on identical work, beside the bare forward pass and its floor.

Within one batch size and history length all decoders see the same prompts, verifier, beams,
precision and threads, and take turns: a machine that slows down meanwhile slows all of them down,
the forward pass that they are compared to included.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from nezha_lite.bench.decode_config import DecodeBench
from nezha_lite.bench.decoders import FORWARDS, GENERATES, make_contestant
from nezha_lite.bench.interleaved import Case, collect, measure_in_turns
from nezha_lite.bench.roofline import Cost, Peaks, forward_cost, measured_peaks
from nezha_lite.bench.timing import Latency
from nezha_lite.bench.workload import histories_of, prompts_of
from nezha_lite.common.memory import out_of_memory
from nezha_lite.common.results import ResultRow, provenance
from nezha_lite.datasets import InteractionDataset
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import VERIFIER_KINDS, Verifier, make_verifier

log = logging.getLogger("nezha_lite")
PROMPT_BATCHES = 32  # different ones, taken in turn


def bench_decoding(
    model: NezhaModel,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset | None = None,
    config: DecodeBench | None = None,
    peaks: Peaks | None = None,
) -> list[ResultRow]:
    """Latency of decoders; ratios are to the bare forward pass of the same batch and history.

    Args:
        model: in eval mode; random weights take as long as trained ones.
        semantic_ids: the catalogue.
        dataset: where prompts come from; None: random histories.
        config: what is measured.
        peaks: of the device; None measures them.

    Returns:
        A row per decoder and combination, "forward" first. Its metrics: median_ms, p95_ms, p99_ms,
        ratio_to_forward, ratio_to_captured_forward (where that was measured), floor_ms (the
        roofline of one forward pass), prompts_per_second, peak_mib, backbone_calls (the mean), the
        phases of eager decoders, and the accepted share of speculative decoding.

    Raises:
        ValueError: if a history is longer than the backbone's positions, or IDs do not fit.
        MemoryError: if nothing could be measured for lack of memory.
    """
    config = config or DecodeBench()
    backbone = model.backbone.config
    levels = semantic_ids.levels
    lengths, positions = config.items_per_prompt(levels), backbone.max_position_embeddings
    if (longest := _tokens(max(lengths), levels)) > positions:
        raise ValueError(
            f"history is {max(lengths)}, a prompt of {longest:,} tokens, but this backbone has "
            f"{positions:,} positions."
        )
    verifiers = _verifiers(semantic_ids, config.structures, model.device)
    if peaks is None:
        log.info("Measuring what this device reaches at best.")
        peaks = measured_peaks(model.device, model.dtype)
    facts = {
        "dataset": "synthetic" if dataset is None else dataset.name,
        "model": model.describe(),
        **provenance(model.device),
    }
    rows: list[ResultRow] = []
    lacking = "all of it was left out"
    for history in lengths:
        tokens = _tokens(history, levels)
        for batch in config.batches:
            histories, origin = histories_of(
                history, PROMPT_BATCHES * batch, semantic_ids.n_items, dataset, config.seed
            )
            cost = forward_cost(backbone, batch, tokens, model.dtype)
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
            started = time.perf_counter()
            prompts: Sequence[Prompts] = ()
            cases: Sequence[Case] = ()
            try:
                prompts = prompts_of(model, semantic_ids, histories, batch)
                with _longest_history(model, history):
                    cases = _cases(model, verifiers, prompts, config)
                    measure_in_turns(cases, config, model.device)
                seconds = round(time.perf_counter() - started, 2)
                rows += _rows(cases, cost, peaks, settings, {**facts, "seconds": seconds})
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                lacking = f"there is too little memory for one forward pass of {batch} prompts"
                log.info(f"Left out: {lacking} of {history} items.")
            del cases, prompts
            collect(model.device)
    if not rows:
        raise MemoryError(f"Nothing was measured: {lacking}.")
    return rows


def _verifiers(
    semantic_ids: SemanticIds, structures: Sequence[str], device: torch.device
) -> dict[str, Verifier]:
    """Each by the name of its kind, "auto" by that of what it picked."""
    made = [make_verifier(structure, semantic_ids, device) for structure in structures]
    names: dict[type, str] = {kind: name for name, kind in VERIFIER_KINDS.items()}
    return {names[type(verifier)]: verifier for verifier in made}


@contextmanager
def _longest_history(model: NezhaModel, items: int) -> Iterator[None]:
    """Let prompts of so many items fill a length bucket: nobody is timed on padding."""
    kept = model.config.max_items
    model.config.max_items = items
    try:
        yield
    finally:
        model.config.max_items = kept


def _cases(
    model: NezhaModel,
    verifiers: dict[str, Verifier],
    prompts: Sequence[Prompts],
    config: DecodeBench,
) -> list[Case]:
    """What takes part at one batch and history: the forward passes, then beam by beam."""
    first = next(iter(verifiers.values()))
    names = ["forward", *(name for name in config.decoders if name != "forward")]
    made: list[Case] = []
    for name in names:
        by_prefix = name not in FORWARDS and name not in GENERATES
        for structure, verifier in verifiers.items() if by_prefix else ((None, first),):
            for verification in config.verifications if by_prefix else (GENERATES.get(name),):
                try:
                    contestant = make_contestant(
                        name, model, verifier, verification or "off", config.compile
                    )
                except ValueError as error:
                    log.info(f"Left out: {name}: {error}")
                    continue
                made += [
                    Case(name, verification, structure, beam, contestant, prompts)
                    for beam in ((None,) if name in FORWARDS else config.beams)
                ]
    return sorted(made, key=lambda case: case.beam or 0)


def _rows(
    cases: Sequence[Case],
    cost: Cost,
    peaks: Peaks,
    settings: dict[str, Any],
    facts: dict[str, Any],
) -> list[ResultRow]:
    measured = [(case, Latency.of(case.times)) for case in cases if case.failure is None]
    medians = {case.decoder: latency.median_ms for case, latency in measured if case.beam is None}
    rows = []
    for case, latency in measured:
        metrics = latency.metrics()
        metrics["ratio_to_forward"] = round(latency.median_ms / medians["forward"], 3)
        if "forward-captured" in medians:
            ratio = latency.median_ms / medians["forward-captured"]
            metrics["ratio_to_captured_forward"] = round(ratio, 3)
        metrics["floor_ms"] = round(cost.floor_ms(peaks), 4)
        metrics["prompts_per_second"] = round(1e3 * settings["batch"] / latency.median_ms, 1)
        if case.peak is not None:
            metrics["peak_mib"] = round(case.peak / 2**20, 2)
        if case.backbone_calls:
            metrics["backbone_calls"] = round(float(np.mean(case.backbone_calls)), 3)
        if case.accepted:
            metrics["accepted"] = round(float(torch.cat(case.accepted).mean()), 4)
        rows.append(
            ResultRow(
                kind="latency",
                decoder=case.decoder,
                verifier=case.verification,
                beam=case.beam,
                metrics={**metrics, **case.phases},
                settings={**settings, "structure": case.structure, "repeats": latency.repeats},
                **facts,
            )
        )
    return rows


def _tokens(items: int, levels: int) -> int:
    """Of a prompt: BOS, the history's codes, the placeholders."""
    return 1 + levels * (items + 1)


def _one_if_equal(radices: Sequence[int]) -> int | list[int]:
    return radices[0] if len(set(radices)) == 1 else list(radices)
