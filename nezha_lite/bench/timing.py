"""How long calls take: one after another, with the device synchronised around each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from nezha_lite.common.checks import check
from nezha_lite.common.memory import without_garbage_collection

MIN_CALLS = 3


@dataclass(frozen=True)
class Latency:
    """What many calls took, in milliseconds; percentiles are linear between neighbouring calls.

    The 99th percentile says little below 100 calls: `repeats` tells how many there were.
    """

    median_ms: float
    p95_ms: float
    p99_ms: float
    repeats: int

    @classmethod
    def of(cls, times: Sequence[float]) -> Latency:
        """The summary of these milliseconds."""
        median, p95, p99 = (float(value) for value in np.quantile(times, (0.5, 0.95, 0.99)))
        return cls(median, p95, p99, len(times))

    def metrics(self) -> dict[str, float]:
        """The figures of a result row, to the microsecond."""
        return {name: round(getattr(self, name), 3) for name in ("median_ms", "p95_ms", "p99_ms")}


def time_calls(
    call: Callable[[int], object],
    repeats: int,
    warmup: int,
    device: torch.device,
    seconds: float | None = None,
    least: int = MIN_CALLS,
) -> list[float]:
    """Milliseconds of `call(0)` … `call(repeats − 1)`, each synchronised, after a warm-up.

    Python's garbage collector waits meanwhile, as in `timeit`.

    Args:
        call: what is timed, given the number of the call.
        repeats: how many calls are timed.
        warmup: how many come before them, from `call(0)` on.
        device: where the work is done.
        seconds: stop early once the timed calls have taken this long, but not before `least`.
        least: see `seconds`.
    """
    check(repeats >= 1, "repeats", repeats, "at least 1")
    for index in range(warmup):
        call(index)
    times: list[float] = []
    with without_garbage_collection():
        while len(times) < repeats:
            synchronise(device)
            start = time.perf_counter()
            call(len(times))
            synchronise(device)
            times.append(1e3 * (time.perf_counter() - start))
            if seconds is not None and len(times) >= least and sum(times) >= 1e3 * seconds:
                break
    return times


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class PhaseClock:
    """Splits decodes into phases: what a beam-search decoder's `on_phase` is set to.

    Waiting for the device at every mark costs time of its own, so that the phases add up to more
    than an unmarked decode takes: they tell shares.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.passes: list[dict[str, float]] = []
        self._last = 0.0

    def start(self) -> None:
        """Begin another decode."""
        self.passes.append({})
        synchronise(self.device)
        self._last = time.perf_counter()

    def __call__(self, phase: str) -> None:
        """A phase ends here; it may come several times in a decode."""
        synchronise(self.device)
        now = time.perf_counter()
        spent = self.passes[-1]
        spent[phase] = spent.get(phase, 0.0) + 1e3 * (now - self._last)
        self._last = now

    def medians(self) -> dict[str, float]:
        """Per phase, the median over the decodes: {"forward_ms": …}."""
        phases = dict.fromkeys(phase for spent in self.passes for phase in spent)
        return {
            f"{phase}_ms": round(float(np.median([s.get(phase, 0.0) for s in self.passes])), 3)
            for phase in phases
        }


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Run `call` once: the peak of tensor memory it requested, or None where it is not counted.

    On CUDA from the allocator's own counters. On a CPU from the allocations that the profiler
    sees, compiled code's included, so keep such a call out of every timing. Memory that is freed
    by the call but was there before is not counted on a CPU.
    """
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronise(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    if device.type != "cpu":
        return None
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = record.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


@contextmanager
def _quiet() -> Iterator[None]:
    """The profiler's native code writes remarks to stderr, past Python; they are dropped."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
