"""Verifiers at catalogue scale: memory, build time, one beam step, and catalogue changes.

The catalogue has distinct random IDs, the hardest case for every cache. A beam step is the query of
a decode's last level: which of the C continuations of each of K existing prefixes exist?
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nezha_lite.bench.timing import Latency, synchronise, time_calls
from nezha_lite.bench.workload import (
    check_fits,
    histories_of,
    prompts_of,
    random_keys,
    synthetic_ids,
)
from nezha_lite.common.checks import Checked, Count, CountOrZero, check
from nezha_lite.common.memory import free_memory, out_of_memory
from nezha_lite.common.results import ResultRow
from nezha_lite.decoding import CapturedDecoder, NezhaDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers import VERIFIER_KINDS, CatalogueKeys, Verifier, child_keys, make_verifier

log = logging.getLogger("nezha_lite")

BASELINE = "isin"
STRUCTURES = (BASELINE, "sorted", "hash-table", "bitset", "trie")
SECONDS = 5.0  # for one kind of call: a slow one is timed less often
DECODE_ITEMS = 10_000
N_BEAMS = 16  # different ones, used in turn: no call repeats the previous one's beams
CHANGES = 3
CHANGED = 1_000  # IDs that are removed and added together
BUILD_BYTES = {"hash-set": 250}  # for each ID: its key, sorting, and all its levels
OTHER_BUILD_BYTES = 80


@dataclass(frozen=True, eq=False)
class BeamStep:
    """The queries of every structure.

    Attributes:
        level: of the codes to be selected, the last one.
        prefixes: (1, K) int64 each, existing prefixes of one code less.
        continuations: (1, K, C) int64 each, their keys.
        changed: (M,) int64 each, IDs that are removed and added.
    """

    level: int
    prefixes: list[Tensor]
    continuations: list[Tensor]
    changed: list[Tensor]

    @classmethod
    def of(cls, keys: Tensor, config: VerifierBench, device: torch.device) -> BeamStep:
        """Beams among the prefixes of a catalogue in random order, and IDs of it to change."""
        draw = torch.Generator().manual_seed(config.seed)
        beam, radices, level = config.beam, config.radices, len(config.radices)
        existing = torch.unique(keys[: 4 * N_BEAMS * beam] % radix_strides(radices)[-1])
        # A catalogue with fewer prefixes than the beam is wide repeats them.
        existing = existing.repeat(-(-beam // len(existing)))
        prefixes = [
            existing[torch.randperm(len(existing), generator=draw)[:beam]].unsqueeze(0).to(device)
            for _ in range(N_BEAMS)
        ]
        return cls(
            level,
            prefixes,
            [child_keys(beams, level, radices) for beams in prefixes],
            [keys[torch.randperm(len(keys), generator=draw)[:CHANGED]] for _ in range(CHANGES)],
        )


@dataclass(frozen=True)
class VerifierBench(Checked):
    """What is measured: every structure on the same catalogues and beams.

    Attributes:
        sizes: sizes of catalogues, in distinct IDs.
        radices: T_1 … T_L.
        structures: isin, sorted, hash-table, bitset, trie, hash-set.
        beam: prefixes whose continuations are checked, K.
        repeats: timed calls; fewer where they take longer than a few seconds.
        seed: of IDs, beams and the model.
        decode: also time a NEZHA decode at this beam and these radices, by the `small` preset with
            random weights over 10,000 items, for the verifier's share.
        compile: compile that decode; by default where possible.

    Raises:
        ValueError: naming the field that is out of range.
    """

    sizes: Sequence[int] = (10_000, 100_000, 1_000_000, 10_000_000)
    radices: Sequence[int] = (512, 512, 512)
    structures: Sequence[str] = STRUCTURES
    beam: Count = 512
    repeats: Count = 30
    seed: CountOrZero = 0
    decode: bool = True
    compile: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sizes", "structures"):
            check(bool(getattr(self, name)), name, (), "one or more")
        for size in self.sizes:
            check_fits("size", size, self.radices)
        for kind in self.structures:
            check(kind in VERIFIER_KINDS, "structure", kind, f"one of {', '.join(VERIFIER_KINDS)}")


def bench_verifiers(config: VerifierBench, device: torch.device | str = "cpu") -> list[ResultRow]:
    """Time every structure on the same catalogues and beams.

    What has to be left out is logged in a sentence each.

    Returns:
        A row per size and structure, of these metrics:
        build_seconds, from (N,) keys on the CPU in random order;
        bytes_per_item of the finished structure;
        step_ms, p95_ms, p99_ms: `prefix_contains` of the K · C keys of a beam step;
        candidates_ms: `candidates` of the same step, which is what a decoder calls;
        ranked_ms: that, and selecting the best K of what exists by random scores;
        ratio_to_isin, candidates_ratio_to_isin: the baseline's milliseconds over this one's, where
        the baseline is measured;
        decode_ms, and share_of_decode: candidates_ms over it;
        remove_ms and add_ms: 1,000 IDs removed together, and added again.
    """
    space, torch_device = math.prod(config.radices), torch.device(device)
    model: dict[str, Any] = {}
    decode_ms = None
    if config.decode:
        log.info("Timing a decode.")
        model, decode_ms = _decode(config, torch_device)
    rows: list[ResultRow] = []
    for size in config.sizes:
        kinds = _fitting(config.structures, size, space, torch_device)
        if not kinds:
            continue
        keys = random_keys(size, space, config.seed)
        step = BeamStep.of(keys, config, torch_device)
        baseline: dict[str, float] | None = None
        for kind in kinds:
            log.info(f"Measuring {kind} at {size:,} items.")
            started = time.perf_counter()
            try:
                catalogue = CatalogueKeys(keys, tuple(config.radices))
                metrics, calls = _measure(kind, catalogue, step, config.repeats, torch_device)
            except (MemoryError, ValueError, RuntimeError) as error:
                if not isinstance(error, ValueError) and not out_of_memory(error):
                    raise
                log.info(f"Left out: {kind} at {size:,} items: {error}")
                continue
            baseline = metrics if kind == BASELINE else baseline
            if baseline:
                metrics["ratio_to_isin"] = baseline["step_ms"] / metrics["step_ms"]
                candidates_ratio = baseline["candidates_ms"] / metrics["candidates_ms"]
                metrics["candidates_ratio_to_isin"] = candidates_ratio
            if decode_ms:
                metrics["decode_ms"] = decode_ms
                metrics["share_of_decode"] = metrics["candidates_ms"] / decode_ms
            settings = {
                "items": size,
                "radices": list(config.radices),
                "beam": config.beam,
                "repeats": calls,
                "changed": len(step.changed[0]),
                "threads": torch.get_num_threads(),
            }
            rows.append(
                ResultRow.measured(
                    device=torch_device,
                    started=started,
                    digits=6,
                    kind="latency",
                    dataset="synthetic",
                    model=model,
                    verifier=kind,
                    beam=config.beam,
                    metrics=metrics,
                    settings=settings,
                )
            )
    return rows


def _fitting(structures: Sequence[str], size: int, space: int, device: torch.device) -> list[str]:
    """Structures for which there is memory, the baseline first: the others are compared with it."""
    free, kinds = free_memory(device), []
    for kind in sorted(structures, key=lambda name: name != BASELINE):
        needed = size * BUILD_BYTES.get(kind, OTHER_BUILD_BYTES)
        needed += space // 8 if kind == "bitset" else 0
        if free is None or needed <= free:
            kinds.append(kind)
        else:
            log.info(
                f"Left out: {kind} at {size:,} items: building takes about "
                f"{needed / 2**30:,.1f} GiB, but {free / 2**30:,.1f} are free."
            )
    return kinds


@torch.inference_mode()
def _measure(
    kind: str, catalogue: CatalogueKeys, step: BeamStep, repeats: int, device: torch.device
) -> tuple[dict[str, float], int]:
    """The metrics of one row, and how many calls of the beam step were timed."""
    begun = time.perf_counter()
    verifier = make_verifier(kind, catalogue, device)
    synchronise(device)
    built = time.perf_counter() - begun
    n_codes = catalogue.radices[-1]
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(1, step.prefixes[0].shape[1] * n_codes, generator=draw).to(device)

    def latency(call: Callable[[int], object]) -> Latency:
        return Latency.of(time_calls(lambda i: call(i % N_BEAMS), repeats, 2, device, SECONDS))

    checked = latency(lambda i: verifier.prefix_contains(step.level, step.continuations[i]))
    listed = latency(lambda i: verifier.candidates(step.level, step.prefixes[i]))
    ranked = latency(lambda i: _best(verifier, step.level, step.prefixes[i], scores))
    metrics = {
        "build_seconds": built,
        "bytes_per_item": verifier.nbytes / len(catalogue.keys),
        "step_ms": checked.median_ms,
        "p95_ms": checked.p95_ms,
        "p99_ms": checked.p99_ms,
        "candidates_ms": listed.median_ms,
        "ranked_ms": ranked.median_ms,
        **_changes(verifier, step.changed, device),
    }
    return metrics, checked.repeats


def _best(verifier: Verifier, level: int, prefixes: Tensor, scores: Tensor) -> Tensor:
    """The selection of a beam search: the best existing continuations, as many as prefixes."""
    candidates = verifier.candidates(level, prefixes)
    assert candidates.exists is not None  # a verifier always knows
    listed = scores if candidates.index is None else scores.gather(1, candidates.index)
    ranked = listed.masked_fill(~candidates.exists, -torch.inf)
    return ranked.topk(min(prefixes.shape[1], ranked.shape[1])).indices


def _changes(
    verifier: Verifier, changed: Sequence[Tensor], device: torch.device
) -> dict[str, float]:
    """Milliseconds to remove IDs and to add them again: afterwards nothing has changed."""
    spent: dict[str, list[float]] = {"remove_ms": [], "add_ms": []}
    for keys in changed:
        for name, change in (("remove_ms", verifier.remove), ("add_ms", verifier.add)):
            spent[name] += time_calls(lambda _, c=change, k=keys: c(k), 1, 0, device)  # type: ignore[misc]
    return {name: float(np.median(times)) for name, times in spent.items()}


def _decode(config: VerifierBench, device: torch.device) -> tuple[dict[str, Any], float]:
    """The `small` model's description, and the median milliseconds of its decode."""
    ids = synthetic_ids(min(DECODE_ITEMS, math.prod(config.radices)), config.radices, config.seed)
    model = NezhaModel.from_preset("small", ids, seed=config.seed).eval().to(device)
    histories, _ = histories_of(model.config.max_items, N_BEAMS, ids.n_items, None, config.seed)
    prompts = prompts_of(model, ids, histories, batch=1)
    eager = NezhaDecoder(model, make_verifier("auto", ids, device))
    decoder = CapturedDecoder(eager, config.compile, background=False)

    def decode(index: int) -> object:
        return decoder.decode(prompts[index % N_BEAMS], config.beam)

    times = time_calls(decode, config.repeats, 3, device, SECONDS)
    return model.describe(), round(Latency.of(times).median_ms, 3)
