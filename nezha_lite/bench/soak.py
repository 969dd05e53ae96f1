"""A long run: threads recommend without a pause while the catalogue changes under them."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from nezha_lite.bench.random_calls import RandomCall
from nezha_lite.bench.soak_figures import STATM, Minute, summary
from nezha_lite.bench.turns import Report, silent
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import CapturedDecoder, NezhaDecoder
from nezha_lite.recommender import Recommender
from nezha_lite.results import ResultRow, provenance
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import Verifier, make_verifier

WARM_UP = 200  # calls before the clock starts
PAUSE = 0.01  # seconds between two changes of the catalogue
CAPTURED_EVERY = 50  # calls; then a captured decoder is asked too
REMEMBERED = 500  # states of the catalogue: more than it goes through during one call


@dataclass
class _Soak:
    """A recommender under load.

    A list is right if it is right for one state that the catalogue was in during the call: states
    are written down before they are made, and marked as made afterwards.
    """

    trained: Recommender
    dataset: InteractionDataset
    report: Report
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    states: deque[tuple[int, frozenset[int]]] = field(
        default_factory=lambda: deque([(0, frozenset())], maxlen=REMEMBERED)
    )
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
            self.report(fault[:500])

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
    report: Report = silent,
) -> Iterator[ResultRow]:
    """Recommend from several threads while one more removes and restores items.

    Calls are of all kinds (`RandomCall`), and every list is checked. Now and then each thread also
    asks a captured decoder of its own, with a catalogue of its own.

    Args:
        minute: seconds after which figures are taken.

    Returns:
        After every minute, one row of all minutes so far. Metrics: `tried` lists or calls and those
        `kept` right; `changes`; medians over the minutes of `median_ms`, `p95_ms`, `cpu_median_ms`
        and `cpu_p95_ms`, where CPU time is the calling thread's own, whatever else runs on the
        machine; `rss_mib` at the end; `rss_slope_mib_per_hour`, a straight line through the last
        three quarters of the minutes; `wall_ratio` and `cpu_ratio`, the median of the last quarter
        over that of the first. The minutes themselves are in the settings.

    Raises:
        ValueError: for no minutes or threads, or a system without /proc.
    """
    if minutes < 1 or threads < 1:
        raise ValueError(f"minutes and threads are {minutes} and {threads}; both must be positive.")
    if not STATM.exists():
        raise ValueError(f"There is no {STATM} here, where resident memory is read: use Linux.")
    started = time.perf_counter()
    soak = _Soak(trained, dataset, report)
    warm = random.Random(seed)
    for _ in range(WARM_UP):
        RandomCall.draw(warm, dataset).ask(trained)
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
                metrics={"tried": soak.tried, "kept": soak.kept, **summary(series, minute)},
                settings={
                    "fault_class": "soak: recommending while the catalogue changes",
                    "minutes": len(series["calls"]),
                    "threads": threads,
                    "seed": seed,
                    "items": dataset.n_items,
                    "cores": os.cpu_count(),
                    "niceness": os.nice(0),
                    "per_minute": series,
                },
                **provenance(trained.model.device),
                seconds=round(time.perf_counter() - started, 1),
            )


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
