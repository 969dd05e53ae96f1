"""A long run: threads recommend without a pause while the catalogue changes under them."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nezha_lite.bench.timing import Latency
from nezha_lite.common.results import ResultRow, provenance
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import CapturedDecoder, NezhaDecoder
from nezha_lite.decoding.captured import SHORTEST_BUCKET
from nezha_lite.decoding.recommender import Recommender, captured_nezha
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import Verifier, make_verifier
from tests.stress.random_calls import RandomCall

log = logging.getLogger("nezha_lite")
WARM_UP = 200  # calls before the clock starts
PAUSE = 0.01  # seconds between two changes of the catalogue
CAPTURED_EVERY = 50  # calls; then a captured decoder is asked too
BEAM = 50  # of compiled programs
REMEMBERED = 500  # states of the catalogue: more than it goes through during one call


@dataclass
class Minute:
    """What was counted in it.

    Attributes:
        wall: milliseconds of each call.
        cpu: milliseconds that the calling thread worked for it.
        changes: of the catalogue.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    changes: int = 0

    def figures(self) -> dict[str, float]:
        """Calls, changes and latencies, and beside them memory in RAM and the machine's load."""
        wall, cpu = Latency.of(self.wall), Latency.of(self.cpu)
        return {
            "calls": len(self.wall),
            "changes": self.changes,
            "median_ms": round(wall.median_ms, 3),
            "p95_ms": round(wall.p95_ms, 3),
            "cpu_median_ms": round(cpu.median_ms, 3),
            "cpu_p95_ms": round(cpu.p95_ms, 3),
            "rss_mib": round(_resident_mib(), 2),
            "load": round(os.getloadavg()[0], 2),
        }


def summary(series: Mapping[str, Sequence[float]], minute: float) -> dict[str, float]:
    """Whether the minutes are alike: the metrics of `bench_soak`.

    Args:
        series: the figures by name, each minute's after the other.
        minute: how many seconds one is.
    """
    n = len(series["calls"])
    quarter = max(1, n // 4)
    settled = np.array(series["rss_mib"][n // 4 :])
    hours = np.arange(len(settled)) * minute / 3600
    slope = float(np.polyfit(hours, settled, 1)[0]) if len(settled) > 1 else 0.0
    medians = {
        name: round(float(np.median(series[name])), 3)
        for name in ("median_ms", "p95_ms", "cpu_median_ms", "cpu_p95_ms")
    }
    ratios = {
        ratio: round(
            float(np.median(series[name][-quarter:]) / np.median(series[name][:quarter])), 4
        )
        for ratio, name in (("wall_ratio", "median_ms"), ("cpu_ratio", "cpu_median_ms"))
    }
    return {
        "changes": sum(series["changes"]),
        **medians,
        **ratios,
        "rss_mib": series["rss_mib"][-1],
        "rss_slope_mib_per_hour": round(slope, 2),
    }


def _resident_mib() -> float:
    """Memory of this process that lies in RAM now, in MiB."""
    pages = int(STATM.read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class _Soak:
    """A recommender under load.

    A list is right if it is right for one state that the catalogue was in during the call: states
    are written down before they are made, and marked as made afterwards.
    """

    trained: Recommender
    dataset: InteractionDataset
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    states: deque[tuple[int, frozenset[int]]] = field(
        default_factory=lambda: deque([(0, frozenset())], maxlen=REMEMBERED)
    )
    narrow: bool = False  # calls of few shapes, which compiled programs are made for beforehand
    made: int = 0
    now: Minute = field(default_factory=Minute)
    tried: int = 0
    kept: int = 0

    def change(self, seed: int) -> None:
        """Remove and restore items until told to stop."""
        draw, n_items = random.Random(seed), self.trained.semantic_ids.n_items
        while not self.stop.wait(PAUSE):
            removed = self.trained.removed
            size = draw.choice(
                (1, 1, 10, n_items // 10, n_items - 5 if draw.random() < 0.05 else 1)
            )
            some = frozenset(draw.sample(range(n_items), max(0, min(size, n_items))))
            remove = draw.random() > len(removed) / n_items
            with self.lock:
                number = self.states[-1][0] + 1
                self.states.append((number, removed | some if remove else removed - some))
            if remove:
                self.trained.remove_items(some)
            else:
                self.trained.restore_items(some)
            with self.lock:
                self.made = number
                self.now.changes += 1

    def recommend(self, seed: int) -> None:
        """Ask for lists, and check them, until told to stop."""
        draw = random.Random(seed)
        ids, model = self.trained.semantic_ids, self.trained.model
        verifier = make_verifier("auto", ids, model.device)
        captured = CapturedDecoder(NezhaDecoder(model, verifier), compile=False, max_programs=4)
        calls = 0
        while not self.stop.is_set():
            call = RandomCall.draw(draw, self.dataset)
            if self.narrow:
                call = _narrow(call)
            calls += 1
            try:
                if calls % CAPTURED_EVERY == 0:
                    self._count(_captured_fault(captured, verifier, ids, call.histories[0]))
                self._count(self._one(call))
            except Exception as error:  # whatever it is, it must not happen
                self._count(f"{type(error).__name__}: {error}")

    def _one(self, call: RandomCall) -> str | None:
        with self.lock:
            first = self.made
        wall, cpu = time.perf_counter(), time.thread_time()
        lists = call.ask(self.trained)
        cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
        with self.lock:
            self.now.wall.append(1e3 * wall)
            self.now.cpu.append(1e3 * cpu)
            states = [removed for number, removed in self.states if number >= first]
        faults = [call.fault(lists, self.trained.semantic_ids, removed) for removed in states]
        return None if None in faults else f"{faults[0]}, in {call}"

    def _count(self, fault: str | None) -> None:
        with self.lock:
            self.tried += 1
            self.kept += fault is None
        if fault is not None:
            log.info(fault[:500])

    def take(self) -> Minute:
        """What was counted since the last time."""
        with self.lock:
            minute, self.now = self.now, Minute()
        return minute


def bench_soak(
    trained: Recommender,
    dataset: InteractionDataset,
    minutes: int = 60,
    threads: int = 2,
    seed: int = 0,
    minute: float = 60.0,
    compile: bool = False,
) -> Iterator[ResultRow]:
    """Recommend from several threads while one more removes and restores items.

    Calls are of all kinds (`RandomCall`), and every list is checked. Now and then each thread also
    asks a captured decoder of its own, with a catalogue of its own.

    Args:
        minute: seconds after which figures are taken.
        compile: recommend by `CapturedDecoder`. Calls then have few shapes, compiled beforehand.

    Returns:
        After every minute, one row of all minutes so far. Metrics: `tried` lists or calls and those
        `kept` right; `changes`; medians over the minutes of `median_ms`, `p95_ms`, `cpu_median_ms`
        and `cpu_p95_ms`, where CPU time is the calling thread's own, whatever else runs on the
        machine; `rss_mib` at the end; `rss_slope_mib_per_hour`, a straight line through the last
        three quarters of the minutes; `wall_ratio` and `cpu_ratio`, the median of the last quarter
        over that of the first; with `compile`, `recompilations` after the warm-up. The minutes
        themselves are in the settings.

    Raises:
        ValueError: for no minutes or threads, or a system without /proc.
    """
    if minutes < 1 or threads < 1:
        raise ValueError(f"minutes and threads are {minutes} and {threads}; both must be positive.")
    if not STATM.exists():
        raise ValueError(f"There is no {STATM} here, where resident memory is read: use Linux.")
    started = time.perf_counter()
    captured: list[CapturedDecoder] = []
    if compile:
        trained = _compiled(trained, captured)
    soak = _Soak(trained, dataset, narrow=compile)
    warm = random.Random(seed)
    for _ in range(WARM_UP):
        call = RandomCall.draw(warm, dataset)
        (_narrow(call) if compile else call).ask(trained)
    warmed = _made(captured)
    series: dict[str, list[float]] = {}
    with _running(soak, threads, seed):
        for _ in range(minutes):
            time.sleep(minute)
            while not soak.now.wall:  # a machine may be that busy
                time.sleep(0.01)
            for name, value in soak.take().figures().items():
                series.setdefault(name, []).append(value)
            yield ResultRow(
                kind="reliability",
                dataset=dataset.name,
                model=trained.model.describe(),
                decoder="nezha",
                verifier="prefix, final and off",
                metrics={
                    "tried": soak.tried,
                    "kept": soak.kept,
                    **summary(series, minute),
                    **({"recompilations": _made(captured) - warmed} if compile else {}),
                },
                settings={
                    "fault_class": "soak: recommending while the catalogue changes",
                    "minutes": len(series["calls"]),
                    "threads": threads,
                    "seed": seed,
                    "compile": compile,
                    "items": dataset.n_items,
                    "cores": os.cpu_count(),
                    "niceness": os.nice(0),
                    "per_minute": series,
                },
                **provenance(trained.model.device),
                seconds=round(time.perf_counter() - started, 1),
            )


def _narrow(call: RandomCall) -> RandomCall:
    """The same call with few possible shapes: a short history, one beam, and small deny sets."""
    history = call.histories[0][-SHORTEST_BUCKET:]
    deny = None if call.deny is None else (frozenset(sorted(call.deny[0] or ())[:20]),)
    return RandomCall((history,), 10, BEAM, "prefix", allow=None, deny=deny, exclude_seen=False)


def _compiled(trained: Recommender, captured: list[CapturedDecoder]) -> Recommender:
    """A recommender by compiled programs of all shapes of `_narrow`; its decoder is appended."""
    decoder = captured_nezha(trained.model, trained.verifier, "prefix")
    compiled = Recommender(
        trained.model, trained.semantic_ids, lambda _, verifier, __: decoder.with_verifier(verifier)
    )
    shape = (1, SHORTEST_BUCKET, min(BEAM, trained.semantic_ids.n_distinct))
    for requests in (None, compiled.request_filter(deny=[[0]])):
        # Its own verifier: another one of the same catalogue has another signature.
        decoder.with_verifier(compiled.verifier).warm_up([shape], requests)
    captured.append(decoder)
    return compiled


def _made(captured: Sequence[CapturedDecoder]) -> int:
    return sum(decoder.compilations for decoder in captured)


@contextmanager
def _running(soak: _Soak, threads: int, seed: int) -> Iterator[None]:
    with ThreadPoolExecutor(threads + 1) as pool:
        futures = [pool.submit(soak.recommend, seed + 2 + thread) for thread in range(threads)]
        futures.append(pool.submit(soak.change, seed + 1))
        try:
            yield
        finally:
            soak.stop.set()
            for future in futures:
                future.result()


def _captured_fault(
    captured: CapturedDecoder, verifier: Verifier, ids: SemanticIds, history: tuple[int, ...]
) -> str | None:
    """Take the best ID out of the decoder's own catalogue: it must go, and come back."""
    prompts = captured.decoder.model.build_prompts([history], ids)
    beam = min(10, ids.n_distinct - 1)
    before = captured.decode(prompts, beam).keys  # (1, K)
    best = before[0, :1]
    verifier.remove(best)
    without = captured.decode(prompts, beam).keys
    verifier.add(best)
    again = captured.decode(prompts, beam).keys
    if bool((without == best).any()) or bool((without < 0).any()) or not again.equal(before):
        return f"captured: {before.tolist()}, without the best {without.tolist()}, again {again}"
    return None


STATM = Path("/proc/self/statm")  # where Linux says how much memory a process has
