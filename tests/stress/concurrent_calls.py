"""Random calls from several threads on one recommender, against the same calls made alone."""

from __future__ import annotations

import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor

from nezha_lite.common.results import ResultRow, provenance
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding.recommender import Recommender
from tests.stress.random_calls import Lists, RandomCall

log = logging.getLogger("nezha_lite")
SPOILT = 0.05  # share of the calls that name an unknown item, which must be refused


def bench_recommend(
    trained: Recommender,
    dataset: InteractionDataset,
    calls: int = 10_000,
    threads: int = 4,
    phases: int = 20,
    seed: int = 0,
) -> ResultRow:
    """Make random calls alone, one after another, then all of them from several threads.

    Between phases items leave the catalogue and come back. The calls alone are made on a new
    recommender of the same model, from which just these items were removed: it knows nothing of
    the changes before.

    Returns:
        Metrics: `tried` calls and those `kept`: nothing is wrong with the lists
        (`RandomCall.fault`), and they are to the last bit those of the same call alone; a call
        with an unknown item is refused in the same words both times. `alone_ms` and `threaded_ms`
        are what a call took on average, the machine being shared or not.

    Raises:
        ValueError: for fewer calls than phases, or no threads or phases.
    """
    if not 1 <= phases <= calls or threads < 1:
        raise ValueError(
            f"phases, calls and threads are {phases}, {calls} and {threads}, but must be positive, "
            "and there must be a call for every phase."
        )
    started = time.perf_counter()
    draw = random.Random(seed)
    ids, precision = trained.semantic_ids, str(trained.model.dtype).removeprefix("torch.")
    kept, alone_seconds, threaded_seconds = 0, 0.0, 0.0
    for phase in range(phases):
        _change(trained, draw)
        fresh = Recommender(trained.model, ids)
        fresh.remove_items(trained.removed)
        n_calls = (phase + 1) * calls // phases - phase * calls // phases
        drawn = [_call(draw, dataset) for _ in range(n_calls)]
        clock = time.perf_counter()
        alone = [_answer(fresh, call) for call in drawn]
        alone_seconds += time.perf_counter() - clock
        clock = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            together = list(pool.map(lambda call: _answer(trained, call), drawn))
        threaded_seconds += time.perf_counter() - clock
        for call, expected, found in zip(drawn, alone, together, strict=True):
            fault = _fault(call, expected, found, trained)
            if fault is None:
                kept += 1
            else:
                log.info(f"{fault}: {call}"[:500])
        log.info(f"Phase {phase + 1} of {phases}: {n_calls} calls, {len(trained.removed)} removed.")
    return ResultRow(
        kind="reliability",
        dataset=dataset.name,
        model=trained.model.describe(),
        decoder="nezha",
        metrics={
            "tried": calls,
            "kept": kept,
            "alone_ms": round(1e3 * alone_seconds / calls, 3),
            "threaded_ms": round(1e3 * threaded_seconds / calls, 3),
        },
        settings={
            "fault_class": f"recommend: random calls from several threads, {precision}",
            "threads": threads,
            "phases": phases,
            "seed": seed,
            "spoilt": SPOILT,
            "precision": precision,
        },
        **provenance(trained.model.device),
        seconds=round(time.perf_counter() - started, 1),
    )


def _change(trained: Recommender, draw: random.Random) -> None:
    """Let a few items go, or most of them, and some of those that are gone come back."""
    n_items = trained.semantic_ids.n_items
    gone = sorted(trained.removed)
    trained.restore_items(draw.sample(gone, draw.randint(0, len(gone))))
    share = draw.choice((0.01, 0.1, 0.3, 0.5, 1.0))
    trained.remove_items(draw.sample(range(n_items), int(share * n_items)))


def _call(draw: random.Random, dataset: InteractionDataset) -> RandomCall:
    call = RandomCall.draw(draw, dataset)
    return call.spoilt(draw, dataset.n_items) if draw.random() < SPOILT else call


def _answer(trained: Recommender, call: RandomCall) -> Lists | str:
    """The lists, or the sentence with which the call is refused; or what should not be raised."""
    try:
        return call.ask(trained)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _fault(
    call: RandomCall, expected: Lists | str, found: Lists | str, trained: Recommender
) -> str | None:
    if isinstance(found, str):
        refused = found.startswith("ValueError: ") and call.names_unknown(trained.semantic_ids)
        if not refused:
            return found
    elif call.names_unknown(trained.semantic_ids):
        return "an unknown item was taken"
    else:
        fault = call.fault(found, trained.semantic_ids, trained.removed)
        if fault is not None:
            return fault
    return None if found == expected else f"{found} instead of {expected}"
