"""Verifiers at catalogue scale: memory, building, one beam step, and a living catalogue's changes.

The catalogue is made of distinct random IDs, the hardest case for every cache. A beam step is what
the last level of a decode asks: which of the C continuations of each of K existing prefixes exist?
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nezha_lite.bench.timing import Latency, synchronise, time_calls
from nezha_lite.bench.workload import (
    N_BEAMS,
    BeamStep,
    histories_of,
    prompts_of,
    random_keys,
    synthetic_ids,
)
from nezha_lite.common.memory import free_memory, out_of_memory
from nezha_lite.common.results import ResultRow, provenance
from nezha_lite.decoding import NezhaDecoder
from nezha_lite.decoding.captured import CapturedDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.verifiers import VERIFIER_KINDS, CatalogueKeys, Verifier, make_verifier

log = logging.getLogger("nezha_lite")
BASELINE = "isin"
STRUCTURES = (BASELINE, "sorted", "hash-table", "bitset", "trie")
SECONDS = 5.0  # for one kind of call: a slow one is timed less often
DECODE_ITEMS = 10_000


def bench_verifiers(
    sizes: Sequence[int] = (10_000, 100_000, 1_000_000, 10_000_000),
    radices: Sequence[int] = (512, 512, 512),
    structures: Sequence[str] = STRUCTURES,
    beam: int = 512,
    repeats: int = 30,
    seed: int = 0,
    device: torch.device | str = "cpu",
    decode: bool = True,
    compile: bool | None = None,
) -> list[ResultRow]:
    """Time every structure on the same catalogues and beams.

    Args:
        sizes: of catalogues, in distinct IDs.
        radices: T_1 … T_L.
        structures: names in `VERIFIER_KINDS`.
        beam: K.
        repeats: timed calls; fewer where they take longer than a few seconds.
        seed: of IDs, beams and the model.
        device: where the verifiers are.
        decode: also time a NEZHA decode at this beam and these radices, by the `small` preset with
            random weights over 10,000 items, for `share_of_decode`.
        compile: see `CapturedDecoder`.

    Returns:
        A row per size and structure, of these metrics:
        build_seconds, from (N,) keys on the CPU in random order;
        bytes_per_item of the finished structure;
        step_ms, p95_ms, p99_ms: `prefix_contains` of the K · C keys of a beam step;
        candidates_ms: `candidates` of the same step, which is what a decoder calls;
        ranked_ms: that, and choosing the best K of what exists by random scores;
        ratio_to_isin, candidates_ratio_to_isin: the baseline's milliseconds over this one's, where
        the baseline takes part;
        decode_ms, and share_of_decode: candidates_ms over it;
        remove_ms and add_ms: 1,000 IDs leaving together, and coming back.

    Raises:
        ValueError: naming the argument that is out of range.
    """
    if not sizes or not structures:
        raise ValueError("sizes or structures is empty, but must name at least one.")
    space = math.prod(radices)
    for name, numbers in (("size", sizes), ("beam", (beam,)), ("repeats", (repeats,))):
        for number in numbers:
            if number < 1:
                raise ValueError(f"{name} is {number:,}, but must be at least 1.")
    if seed < 0:
        raise ValueError(f"seed is {seed}, but must be 0 or more.")
    if max(sizes) > space:
        raise ValueError(
            f"size is {max(sizes):,}, but {' × '.join(map(str, radices))} codes name {space:,} IDs."
        )
    if unknown := [name for name in structures if name not in VERIFIER_KINDS]:
        raise ValueError(
            f"structure is {unknown[0]!r}, but must be one of {', '.join(VERIFIER_KINDS)}."
        )
    place = torch.device(device)
    facts = provenance(place)
    model: dict[str, Any] = {}
    whole: dict[str, float] = {}
    if decode:
        log.info("Timing a decode.")
        model, whole["decode_ms"] = _decode(radices, beam, repeats, seed, place, compile)
    rows: list[ResultRow] = []
    for size in sizes:
        kinds = _fitting(structures, size, space, place)
        if not kinds:
            continue
        keys = random_keys(size, space, seed)
        step = BeamStep.of(keys, radices, beam, seed, place)
        baseline: dict[str, float] | None = None
        for kind in kinds:
            log.info(f"Measuring {kind} at {size:,} items.")
            started = time.perf_counter()
            try:
                catalogue = CatalogueKeys(keys, tuple(radices))
                metrics, calls = _measure(kind, catalogue, step, repeats, place)
            except (MemoryError, ValueError, RuntimeError) as error:
                if not isinstance(error, ValueError) and not out_of_memory(error):
                    raise
                log.info(f"Left out: {kind} at {size:,} items: {error}")
                continue
            baseline = metrics if kind == BASELINE else baseline
            if baseline is not None:
                metrics = {**metrics, **_ratios(metrics, baseline)}
            if whole:
                share = metrics["candidates_ms"] / whole["decode_ms"]
                metrics |= {**whole, "share_of_decode": round(share, 4)}
            rows.append(
                ResultRow(
                    kind="latency",
                    dataset="synthetic",
                    model=model,
                    verifier=kind,
                    beam=beam,
                    metrics=metrics,
                    settings={
                        "items": size,
                        "radices": list(radices),
                        "beam": beam,
                        "repeats": calls,
                        "changed": len(step.changed[0]),
                        "threads": torch.get_num_threads(),
                    },
                    **facts,
                    seconds=round(time.perf_counter() - started, 2),
                )
            )
    return rows


def _fitting(structures: Sequence[str], size: int, space: int, device: torch.device) -> list[str]:
    """Those for which there is memory, the baseline first: the others are compared to it."""
    kinds = []
    for kind in sorted(structures, key=lambda name: name != BASELINE):
        try:
            _check_memory(kind, size, space, device)
            kinds.append(kind)
        except MemoryError as error:
            log.info(f"Left out: {kind} at {size:,} items: {error}")
    return kinds


@torch.inference_mode()
def _measure(
    kind: str, catalogue: CatalogueKeys, step: BeamStep, repeats: int, device: torch.device
) -> tuple[dict[str, float], int]:
    """The figures of one row, and how many calls the beam step was timed."""
    begun = time.perf_counter()
    verifier = make_verifier(kind, catalogue, device)
    synchronise(device)
    built = time.perf_counter() - begun
    n_codes = catalogue.radices[-1]
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(1, step.prefixes[0].shape[1] * n_codes, generator=draw).to(device)

    def latency(call: Callable[[int], object]) -> Latency:
        return Latency.of(time_calls(call, repeats, 2, device, SECONDS))

    checked = latency(
        lambda i: verifier.prefix_contains(step.level, step.continuations[i % N_BEAMS])
    )
    offered = latency(lambda i: verifier.candidates(step.level, step.prefixes[i % N_BEAMS]))
    ranked = latency(lambda i: _best(verifier, step.level, step.prefixes[i % N_BEAMS], scores))
    metrics = {
        "build_seconds": round(built, 4),
        "bytes_per_item": round(verifier.nbytes / len(catalogue.keys), 3),
        "step_ms": round(checked.median_ms, 4),
        "p95_ms": round(checked.p95_ms, 4),
        "p99_ms": round(checked.p99_ms, 4),
        "candidates_ms": round(offered.median_ms, 4),
        "ranked_ms": round(ranked.median_ms, 4),
        **_changes(verifier, step.changed, device),
    }
    return metrics, checked.repeats


def _ratios(metrics: dict[str, float], baseline: dict[str, float]) -> dict[str, float]:
    return {
        "ratio_to_isin": round(baseline["step_ms"] / metrics["step_ms"], 2),
        "candidates_ratio_to_isin": round(baseline["candidates_ms"] / metrics["candidates_ms"], 2),
    }


def _best(verifier: Verifier, level: int, prefixes: Tensor, scores: Tensor) -> Tensor:
    """A beam search's choice: the best continuations that exist, as many as there are prefixes."""
    candidates = verifier.candidates(level, prefixes)
    assert candidates.exists is not None  # a verifier always knows
    offered = scores if candidates.index is None else scores.gather(1, candidates.index)
    ranked = offered.masked_fill(~candidates.exists, -torch.inf)
    return ranked.topk(min(prefixes.shape[1], ranked.shape[1])).indices


def _changes(
    verifier: Verifier, changed: Sequence[Tensor], device: torch.device
) -> dict[str, float]:
    """Milliseconds for IDs to leave, and to come back: afterwards nothing has changed."""
    spent: dict[str, list[float]] = {"remove_ms": [], "add_ms": []}
    for keys in changed:
        for name, change in (("remove_ms", verifier.remove), ("add_ms", verifier.add)):
            spent[name] += time_calls(lambda _, c=change, k=keys: c(k), 1, 0, device)  # type: ignore[misc]
    return {name: round(float(np.median(times)), 4) for name, times in spent.items()}


def _decode(
    radices: Sequence[int],
    beam: int,
    repeats: int,
    seed: int,
    device: torch.device,
    compile: bool | None,
) -> tuple[dict[str, Any], float]:
    """The `small` model's description, and the median milliseconds of its decode."""
    ids = synthetic_ids(min(DECODE_ITEMS, math.prod(radices)), radices, seed)
    model = NezhaModel.from_preset("small", ids, seed=seed).eval()
    model.to(device)
    histories, _ = histories_of(model.config.max_items, N_BEAMS, ids.n_items, None, seed)
    prompts = prompts_of(model, ids, histories, batch=1)
    decoder = CapturedDecoder(NezhaDecoder(model, make_verifier("auto", ids, device)), compile)
    times = time_calls(
        lambda i: decoder.decode(prompts[i % N_BEAMS], beam), repeats, 3, device, SECONDS
    )
    return model.describe(), round(Latency.of(times).median_ms, 3)


BUILD_BYTES = {"hash-set": 250}  # for each ID: its key, sorting, and all its levels
OTHER_BUILD_BYTES = 80


def _check_memory(kind: str, items: int, space: int, device: torch.device) -> None:
    """MemoryError if a verifier of this kind for so many items would not fit."""
    free = free_memory(device)
    needed = items * BUILD_BYTES.get(kind, OTHER_BUILD_BYTES)
    if kind == "bitset":
        needed += space // 8
    if free is not None and needed > free:
        raise MemoryError(
            f"building takes about {needed / 2**30:,.1f} GiB, but {free / 2**30:,.1f} are free."
        )
