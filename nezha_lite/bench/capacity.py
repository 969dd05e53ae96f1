"""How many servers a recommendation service needs: its queue, simulated event by event with SimPy.

Requests arrive at random and wait in one queue, first come, first served. Any of G servers answers
them, alone or in batches. A server is the hardware that a latency was measured on: a GPU, or two
CPU cores. The paper (arXiv 2511.18793) reports latencies; the number of servers that follows from
them is our addition.
Simulated times are whole microseconds, so that their sums are exact.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import simpy
from numpy.typing import NDArray

from nezha_lite.bench.services import Cluster, Service, check_positive

REQUESTS = 4000  # measured in a simulation, after its warm-up
# Above this load a queue needs far more requests than that to reach its length, and a small rise of
# the traffic overloads it: no plan should go there.
MAX_LOAD = 0.95


@dataclass(frozen=True, eq=False)
class Journal:
    """What happened to each request, in the order of arrival; all (N,) int64.

    Attributes:
        arrivals: microseconds.
        starts: when its batch began.
        finishes: when its batch was done.
        openers: the first request of its batch.
    """

    arrivals: NDArray[np.int64]
    starts: NDArray[np.int64]
    finishes: NDArray[np.int64]
    openers: NDArray[np.int64]


def poisson_arrivals(requests_per_second: float, requests: int, seed: int = 0) -> NDArray[np.int64]:
    """Arrival times of independent requests: (requests,) microseconds, in ascending order."""
    check_positive("requests_per_second", requests_per_second)
    gaps = np.random.default_rng([seed, 0]).exponential(1e6 / requests_per_second, requests)
    return np.rint(np.cumsum(gaps)).astype(np.int64)


def serve(
    arrivals: NDArray[np.int64],
    service: Service,
    cluster: Cluster,
    factors: NDArray[np.float64] | None = None,
) -> Journal:
    """Simulate the queue and the servers until the last request is answered.

    A free server starts a batch of all waiting requests, up to `max_batch`, as soon as the batch is
    full or its first request has waited for `max_wait_ms`.

    Args:
        arrivals: (N,) microseconds, in ascending order.
        service: the time of a batch.
        cluster: servers and batching.
        factors: (N,) factors of a batch's time, of which that of its first request counts; by
            default 1.

    Raises:
        ValueError: if arrivals are not in ascending order, factors do not fit, or `max_batch` is
            larger than the measured sizes.
    """
    if len(arrivals) and (arrivals[0] < 0 or (np.diff(arrivals) < 0).any()):
        raise ValueError("arrivals must begin at 0 or later and never fall")
    factors = np.ones(len(arrivals)) if factors is None else factors
    if len(factors) != len(arrivals):
        raise ValueError(f"factors are {len(factors)}, but there are {len(arrivals)} arrivals")
    queue = _Queue(arrivals, service, cluster, factors)
    queue.environment.process(queue.arrive())
    queue.environment.run()
    columns = (queue.arrivals, queue.starts, queue.finishes, queue.openers)
    return Journal(*(np.array(column, dtype=np.int64) for column in columns))


class _Queue:
    """The state of a simulation: which requests wait, and how many servers are free."""

    def __init__(
        self,
        arrivals: NDArray[np.int64],
        service: Service,
        cluster: Cluster,
        factors: NDArray[np.float64],
    ) -> None:
        self.environment = simpy.Environment()
        self.arrivals: list[int] = arrivals.tolist()
        self.factors: list[float] = factors.tolist()
        self.times = [1000 * service.milliseconds(n) for n in range(1, cluster.max_batch + 1)]
        self.max_batch = cluster.max_batch
        # Where batches hold one request, each is full and never waits for more.
        self.max_wait = round(1000 * cluster.max_wait_ms) if cluster.max_batch > 1 else 0
        self.free = cluster.servers
        self.waiting: deque[int] = deque()
        self.starts, self.finishes, self.openers = ([0] * len(arrivals) for _ in range(3))

    def arrive(self) -> Generator[simpy.Event, None, None]:
        """Add every request to the queue at its time."""
        for request, moment in enumerate(self.arrivals):
            yield self.environment.timeout(moment - int(self.environment.now))
            self.waiting.append(request)
            if self.max_wait:
                self._later(self.max_wait, self._dispatch)
            self._dispatch()

    def _dispatch(self, event: simpy.Event | None = None) -> None:
        """Start batches while there are free servers and waiting requests."""
        now = int(self.environment.now)
        while self.free and self.waiting:
            first, size = self.waiting[0], min(len(self.waiting), self.max_batch)
            if size < self.max_batch and now < self.arrivals[first] + self.max_wait:
                return
            duration = max(1, round(self.times[size - 1] * self.factors[first]))
            for request in (self.waiting.popleft() for _ in range(size)):
                self.starts[request], self.finishes[request] = now, now + duration
                self.openers[request] = first
            self.free -= 1
            self._later(duration, self._release)

    def _release(self, event: simpy.Event) -> None:
        self.free += 1
        self._dispatch()

    def _later(self, delay: int, action: Callable[[simpy.Event], None]) -> None:
        # A callback is twice as fast as a process of its own.
        callbacks = self.environment.timeout(delay).callbacks
        assert callbacks is not None  # None once they were called
        callbacks.append(action)


@dataclass(frozen=True)
class Forecast:
    """How a cluster does under a load, after the warm-up.

    Attributes:
        cluster: servers and batching.
        load: what arrives over what the servers can answer; from 1 on they are overloaded.
        responses: milliseconds from arrival to answer, in ascending order; empty if overloaded.
        mean_queue: waiting requests, averaged over time, without those being answered.
        peak_queue: the largest number of waiting requests.
        utilisation: share of the servers' time spent working.
        mean_batch: requests answered together; not a number if overloaded.
    """

    cluster: Cluster
    load: float
    responses: tuple[float, ...] = ()
    mean_queue: float = math.inf
    peak_queue: float = math.inf
    utilisation: float = 1.0
    mean_batch: float = math.nan

    @property
    def overloaded(self) -> bool:
        """Whether the queue grows without end."""
        return self.load >= 1

    def percentile(self, percent: float) -> float:
        """Milliseconds within which so many percent are answered; infinite if overloaded."""
        return float(np.percentile(self.responses, percent)) if self.responses else math.inf

    def within(self, deadline_ms: float) -> float:
        """Share of the requests answered by the deadline; 0 if overloaded."""
        return bisect_right(self.responses, deadline_ms) / max(1, len(self.responses))

    def sentence(self) -> str:
        """The outcome in plain text."""
        count = self.cluster.servers
        servers = f"{count:,} server{'' if count == 1 else 's'}"
        if self.overloaded:
            return (
                f"Overloaded: {self.load:.3g} times as much arrives as {servers} can answer, so "
                "the queue grows without end."
            )
        return (
            f"{servers}: half of the requests are answered within {self.percentile(50):.3g} ms, "
            f"99 % within {self.percentile(99):.3g} ms; {self.mean_queue:.2g} wait on average, "
            f"{self.peak_queue:,.0f} at most; servers work {100 * self.utilisation:.0f} % of the "
            f"time.{' So close to overload the queue grows longer still.' * (self.load > MAX_LOAD)}"
        )


def simulate(
    service: Service,
    requests_per_second: float,
    cluster: Cluster,
    requests: int = REQUESTS,
    seed: int = 0,
) -> Forecast:
    """Poisson requests at a cluster; the same seed sends the same requests to any cluster.

    The warm-up is a quarter as many requests, and those of five mean answers' time. Above a load of
    0.95 the queue comes out too short, unless many more requests are given.

    Args:
        service: the time of a batch.
        requests_per_second: on average.
        cluster: servers and batching.
        requests: how many are measured.
        seed: of arrivals and jitter.

    Raises:
        ValueError: if a number is not positive, or `max_batch` is larger than the measured sizes.
    """
    check_positive("requests", requests)
    load = cluster.load(service, requests_per_second)
    if load >= 1:
        return Forecast(cluster, load)
    warmup = _warmup(service, requests_per_second, requests)
    arrivals = poisson_arrivals(requests_per_second, warmup + requests, seed)
    factors = service.factors(len(arrivals), seed)
    return _forecast(serve(arrivals, service, cluster, factors), warmup, cluster, load)


def servers_needed(
    service: Service,
    requests_per_second: float,
    deadline_ms: float,
    max_batch: int = 1,
    max_wait_ms: float = 0.0,
    requests: int = REQUESTS,
    seed: int = 0,
) -> int | None:
    """The smallest number of servers that keeps p99 within a deadline, in simulation.

    It is searched by doubling and bisection on the same requests (see `simulate` and `Cluster` for
    the arguments), and keeps the deadline at a load of at most 0.95; one server fewer does not.
    None if the deadline is missed even when no request waits for a free server.
    """
    check_positive("deadline_ms", deadline_ms)

    def enough(servers: int) -> bool:
        cluster = Cluster(servers, max_batch, max_wait_ms)
        if cluster.load(service, requests_per_second) > MAX_LOAD:
            return False
        forecast = simulate(service, requests_per_second, cluster, requests, seed)
        return forecast.percentile(99) <= deadline_ms

    warmup = _warmup(service, requests_per_second, requests)
    if max_batch == 1 or not max_wait_ms:  # then no request waits at a free server
        alone = service.milliseconds(1) * service.factors(warmup + requests, seed)[warmup:]
        if np.percentile(alone, 99) > deadline_ms:
            return None
    few = math.ceil(Cluster(1, max_batch).load(service, requests_per_second) / MAX_LOAD) - 1
    step, most = 1, few + warmup + requests  # with a server for each request, more change nothing
    while not enough(few + step):
        few, step = few + step, 2 * step
        if few >= most:
            return None
    many = few + step
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def _warmup(service: Service, requests_per_second: float, requests: int) -> int:
    busy = requests_per_second * service.mean_milliseconds(1) / 1000  # servers, on average
    return requests // 4 + math.ceil(5 * busy)


def _forecast(journal: Journal, warmup: int, cluster: Cluster, load: float) -> Forecast:
    """What happened from the first measured arrival to the last one."""
    begin, end = int(journal.arrivals[warmup]), int(journal.arrivals[-1])
    span = max(1, end - begin)

    def overlap(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> int:
        return int((np.minimum(ends, end) - np.maximum(starts, begin)).clip(min=0).sum())

    heads = np.unique(journal.openers)
    # +1 at each arrival, -1 at each start; at one moment starts count before arrivals.
    moments = np.concatenate([journal.starts, journal.arrivals])
    steps = np.repeat([-1, 1], len(journal.arrivals))
    order = np.lexsort((steps, moments))
    lengths = np.cumsum(steps[order])[moments[order] >= begin]
    responses = (journal.finishes - journal.arrivals)[warmup:] / 1000
    return Forecast(
        cluster,
        load,
        tuple(np.sort(responses).tolist()),
        overlap(journal.arrivals, journal.starts) / span,
        float(max(0, lengths.max(initial=0))),
        overlap(journal.starts[heads], journal.finishes[heads]) / (span * cluster.servers),
        len(responses) / len(np.unique(journal.openers[warmup:])),
    )
