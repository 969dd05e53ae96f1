"""The queue, against slower recursions and queueing theory, and what no queue may break."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.bench.capacity import (
    Cluster,
    Journal,
    Service,
    poisson_arrivals,
    serve,
    servers_needed,
    simulate,
)
from nezha_lite.bench.services import services_from_rows
from nezha_lite.common.results import ResultRow
from tests.helpers.rows import row_of

CONSTANT = Service("constant", ((1, 10.0), (32, 10.0)))
GROWING = Service("growing", ((1, 4.0), (8, 11.0)))

gap_lists = st.lists(st.integers(0, 30_000), min_size=1, max_size=60)


def arrivals_of(gaps: list[int]) -> np.ndarray:
    return np.cumsum(np.array(gaps, dtype=np.int64))


def waits_ms(journal: Journal) -> np.ndarray:
    return (journal.starts - journal.arrivals) / 1000


def erlang_c(servers: int, offered: float) -> float:
    """The share of requests that wait, from Erlang B's recursion."""
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


# ---- one request at a time ----------------------------------------------------------------------


@given(gaps=gap_lists, seed=st.integers(0, 99))
def test_one_server_is_lindleys_recursion(gaps: list[int], seed: int) -> None:
    service = Service("x", ((1, 7.0),), jitter=1.5)
    arrivals, factors = arrivals_of(gaps), service.factors(len(gaps), seed)
    journal = serve(arrivals, service, Cluster(), factors)
    took = [max(1, round(7000 * factor)) for factor in factors.tolist()]
    wait, waits = 0, [0]
    for before, length in enumerate(took[:-1]):
        gap = int(arrivals[before + 1] - arrivals[before])
        wait = max(0, wait + length - gap)
        waits.append(wait)
    assert (journal.starts - arrivals).tolist() == waits
    assert (journal.finishes - journal.starts).tolist() == took


@given(gaps=gap_lists, servers=st.integers(1, 5), seed=st.integers(0, 99))
def test_several_servers_each_take_the_next(gaps: list[int], servers: int, seed: int) -> None:
    service = Service("x", ((1, 20.0),), jitter=2.0)
    arrivals, factors = arrivals_of(gaps), service.factors(len(gaps), seed)
    free_at = [0] * servers
    starts = []
    for moment, factor in zip(arrivals.tolist(), factors.tolist(), strict=True):
        first = min(range(servers), key=free_at.__getitem__)
        starts.append(max(moment, free_at[first]))
        free_at[first] = starts[-1] + max(1, round(20_000 * factor))
    assert serve(arrivals, service, Cluster(servers), factors).starts.tolist() == starts


def batch_means(values: np.ndarray, batches: int = 20) -> tuple[float, float]:
    """Mean, and its standard error from batches long enough to be nearly independent."""
    means = [part.mean() for part in np.array_split(values, batches)]
    return float(np.mean(means)), float(np.std(means, ddof=1) / math.sqrt(batches))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_constant_times_wait_as_pollaczek_and_khinchine_say(load: float) -> None:
    arrivals = poisson_arrivals(100 * load, 60_000, seed=3)
    waits = waits_ms(serve(arrivals, CONSTANT, Cluster()))[5000:]
    mean, error = batch_means(waits)
    assert mean == pytest.approx(load * 10 / (2 * (1 - load)), abs=4 * error)
    assert error < 0.05 * mean


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (4, 0.8), (12, 0.85)])
def test_exponential_times_wait_as_erlang_says(servers: int, load: float) -> None:
    arrivals = poisson_arrivals(100 * load * servers, 60_000, seed=5)
    factors = np.random.default_rng(8).exponential(size=60_000)
    waits = waits_ms(serve(arrivals, CONSTANT, Cluster(servers), factors))[5000:]
    mean, error = batch_means(waits)
    delayed = erlang_c(servers, load * servers)
    assert mean == pytest.approx(delayed * 10 / (servers * (1 - load)), abs=4 * error)
    assert error < 0.1 * mean
    assert (waits > 0).mean() == pytest.approx(delayed, abs=0.02)


@given(gaps=gap_lists, servers=st.integers(1, 4), jitter=st.sampled_from([1.0, 1.5]))
def test_a_server_more_lets_nobody_wait_longer(
    gaps: list[int], servers: int, jitter: float
) -> None:
    # Not so with batches: a free server may leave with one request where two would have gone.
    service = Service("x", ((1, 10.0),), jitter)
    arrivals, factors = arrivals_of(gaps), service.factors(len(gaps))
    few, more = (
        serve(arrivals, service, Cluster(count), factors) for count in (servers, servers + 1)
    )
    assert (more.starts <= few.starts).all()
    p99 = [np.percentile(journal.finishes - arrivals, 99) for journal in (more, few)]
    assert p99[0] <= p99[1]


# ---- batches ------------------------------------------------------------------------------------


@given(
    gaps=gap_lists,
    servers=st.integers(1, 3),
    batch=st.integers(1, 8),
    patience=st.sampled_from([0.0, 3.0, 12.0]),
)
def test_batches_lose_nobody_and_leave_no_server_idle(
    gaps: list[int], servers: int, batch: int, patience: float
) -> None:
    arrivals = arrivals_of(gaps)
    journal = serve(arrivals, GROWING, Cluster(servers, batch, patience))
    batches = Counter(journal.openers.tolist())
    assert sum(batches.values()) == len(arrivals)
    assert max(batches.values()) <= batch
    assert (journal.starts >= arrivals).all()
    assert (np.diff(journal.starts) >= 0).all(), "first come, first served"
    for opener, size in batches.items():
        members = slice(opener, opener + size)  # neighbours in the line
        assert (journal.openers[members] == opener).all()
        assert len(set(journal.starts[members].tolist())) == 1
        took = round(1000 * GROWING.milliseconds(size))
        assert (journal.finishes[members] - journal.starts[members] == took).all()

    opened = [(int(journal.starts[i]), int(journal.finishes[i])) for i in batches]
    for place, (opener, size) in enumerate(batches.items()):
        start = opened[place][0]
        ready = int(arrivals[opener]) + round(1000 * patience) * (batch > 1)
        if size == batch:
            ready = min(ready, int(arrivals[opener + size - 1]))
        earlier = sorted(finish for _, finish in opened[:place])
        free = 0 if place < servers else earlier[-servers]
        behind = opened[place - 1][0] if place else 0
        assert start == max(ready, free, behind), "neither too early nor with a server idle"
        assert sum(begin <= start < end for begin, end in opened) <= servers


def test_a_batch_by_hand() -> None:
    arrivals = np.array([0, 1000, 2000, 3000, 40_000], dtype=np.int64)
    journal = serve(arrivals, GROWING, Cluster(1, 2))
    assert journal.starts.tolist() == [0, 4000, 4000, 9000, 40_000]
    assert journal.finishes.tolist() == [4000, 9000, 9000, 13_000, 44_000]
    patient = serve(arrivals, GROWING, Cluster(1, 2, max_wait_ms=6))
    assert patient.starts.tolist() == [1000, 1000, 6000, 6000, 46_000]


def test_between_measured_batches_time_runs_straight() -> None:
    assert [GROWING.milliseconds(size) for size in (1, 2, 5, 8)] == [4, 5, 8, 11]
    with pytest.raises(ValueError, match="batch is 9, but must be 1 to 8, the measured"):
        GROWING.milliseconds(9)


# ---- input --------------------------------------------------------------------------------------


def latency_row(decoder: str, batch: int, median: float, p95: float) -> ResultRow:
    times = {"median_ms": median, "p95_ms": p95}
    return row_of(times, decoder=decoder, settings={"batch": batch})


def test_services_come_from_measured_rows() -> None:
    rows = [latency_row("a", 4, 6.0, 7.0), latency_row("b", 1, 9.0, 9.0)]
    rows.append(latency_row("a", 1, 3.0, 4.5))
    assert services_from_rows(rows) == (
        Service("a", ((1, 3.0), (4, 6.0)), 1.5),
        Service("b", ((1, 9.0),)),
    )
    with pytest.raises(ValueError, match="batch of a is 4, but must be in one row"):
        services_from_rows([*rows, rows[0]])
    with pytest.raises(ValueError, match=r"batch sizes of 'a' is \[4\]"):
        services_from_rows(rows[:1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Service("x", ()), "batch sizes"),
        (lambda: Service("x", ((1, 2.0), (1, 3.0))), r"\[1, 1\], but must be ascending from 1"),
        (lambda: Service("x", ((1, 0.0),)), "batch 1 in points is 0.0"),
        (lambda: Service("x", ((1, math.inf),)), "finite number above 0"),
        (lambda: Service("x", ((1, 1.0),), 0.9), "jitter is 0.9"),
        (lambda: Cluster(0), "servers is 0"),
        (lambda: Cluster(1, 0), "max_batch is 0"),
        (lambda: Cluster(1, 1, -1), "max_wait_ms is -1"),
        (lambda: Cluster(1, 1, math.nan), "max_wait_ms is nan"),
        (lambda: poisson_arrivals(0, 5), "requests_per_second is 0"),
        (lambda: simulate(CONSTANT, -1, Cluster()), "requests_per_second is -1"),
        (lambda: simulate(CONSTANT, 1, Cluster(), requests=0), "requests is 0"),
        (lambda: simulate(CONSTANT, 1, Cluster(1, 33)), "batch is 33"),
        (lambda: servers_needed(CONSTANT, 1, 0), "deadline_ms is 0"),
        (lambda: serve(np.array([5, 4]), CONSTANT, Cluster()), "never fall"),
        (lambda: serve(np.array([-5, 4]), CONSTANT, Cluster()), "begin at 0"),
        (lambda: serve(np.array([4]), CONSTANT, Cluster(), np.ones(2)), "factors are 2"),
    ],
)
def test_bad_arguments_are_one_sentence(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_nobody_comes() -> None:
    empty = serve(np.array([], dtype=np.int64), CONSTANT, Cluster())
    assert len(empty.finishes) == 0
