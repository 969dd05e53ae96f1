"""Response times of a cluster under a load, and the servers that a deadline needs."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nezha_lite.bench.capacity.queue import Journal, poisson_arrivals, serve
from nezha_lite.bench.capacity.service import Cluster, Service, check_positive

REQUESTS = 4000  # measured in a simulation, after its warm-up
# Above this load a queue needs far more requests than that to reach its length, and a small rise of
# the traffic overloads it: no plan should go there.
MAX_LOAD = 0.95


@dataclass(frozen=True)
class Forecast:
    """How a cluster does under a load, after the warm-up.

    Attributes:
        cluster: servers and batching.
        load: what arrives over what the servers can answer; from 1 on they are overloaded.
        responses: milliseconds from arrival to answer, rising; empty if overloaded.
        mean_queue: requests in line, averaged over time; those at work are not in it.
        peak_queue: the longest line.
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
        """Whether the line grows without end."""
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
            + "time."
            + (" So close to overload the queue grows longer still." * (self.load > MAX_LOAD))
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
        service: what a batch takes.
        requests_per_second: on average.
        cluster: servers and batching.
        requests: how many are measured.
        seed: of arrivals and jitter.

    Raises:
        ValueError: if a number is not positive, or `max_batch` is beyond the known sizes.
    """
    check_positive("requests", requests)
    load = cluster.load(service, requests_per_second)
    if load >= 1:
        return Forecast(cluster, load)
    warmup = _warmup(service, requests_per_second, requests)
    arrivals = poisson_arrivals(requests_per_second, warmup + requests, seed)
    factors = service.factors(len(arrivals), seed)
    return _summary(serve(arrivals, service, cluster, factors), warmup, cluster, load)


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

    Found by doubling and bisection on the same requests: the answer keeps the deadline at a load of
    at most 0.95, and one server fewer does not.

    Args:
        service: what a batch takes.
        requests_per_second: on average.
        deadline_ms: for 99 % of the requests.
        max_batch: requests that one server may take together.
        max_wait_ms: how long the first in line waits for a batch to fill.
        requests: how many are measured in each simulation.
        seed: of arrivals and jitter.

    Returns:
        The number, or None if the deadline is missed even when nobody waits for a free server.

    Raises:
        ValueError: as `simulate`.
    """
    check_positive("deadline_ms", deadline_ms)

    def enough(servers: int) -> bool:
        cluster = Cluster(servers, max_batch, max_wait_ms)
        if cluster.load(service, requests_per_second) > MAX_LOAD:
            return False
        forecast = simulate(service, requests_per_second, cluster, requests, seed)
        return forecast.percentile(99) <= deadline_ms

    warmup = _warmup(service, requests_per_second, requests)
    if max_batch == 1 or not max_wait_ms:  # then nobody waits at a free server
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


def _summary(journal: Journal, warmup: int, cluster: Cluster, load: float) -> Forecast:
    """What happened from the first measured arrival to the last one."""
    begin, end = int(journal.arrivals[warmup]), int(journal.arrivals[-1])
    span = max(1, end - begin)

    def overlap(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> int:
        return int((np.minimum(ends, end) - np.maximum(starts, begin)).clip(min=0).sum())

    heads = np.unique(journal.openers)
    # +1 at each arrival, -1 at each start; at one moment leaving comes before joining.
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
