"""The line and the servers as events, with SimPy: one line, first come first served.

Times are whole microseconds, so that their sums are exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import simpy
from numpy.typing import NDArray

from nezha_lite.bench.capacity.service import Cluster, Service, check_positive


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
    """When requests arrive that know nothing of each other: (requests,) microseconds, rising."""
    check_positive("requests_per_second", requests_per_second)
    gaps = np.random.default_rng([seed, 0]).exponential(1e6 / requests_per_second, requests)
    return np.rint(np.cumsum(gaps)).astype(np.int64)


def serve(
    arrivals: NDArray[np.int64],
    service: Service,
    cluster: Cluster,
    factors: NDArray[np.float64] | None = None,
) -> Journal:
    """Simulate the line and the servers until the last request is answered.

    A free server takes all that wait, up to `max_batch`, as soon as the batch is full or its first
    request has waited for `max_wait_ms`.

    Args:
        arrivals: (N,) microseconds, not falling.
        service: what a batch takes.
        cluster: servers and batching.
        factors: (N,) what the time of a batch is multiplied with, read at its first request; by
            default 1.

    Raises:
        ValueError: if arrivals fall, factors do not fit, or `max_batch` is beyond the known sizes.
    """
    if len(arrivals) and (arrivals[0] < 0 or (np.diff(arrivals) < 0).any()):
        raise ValueError("arrivals must begin at 0 or later and never fall")
    if factors is not None and len(factors) != len(arrivals):
        raise ValueError(f"factors are {len(factors)}, but there are {len(arrivals)} arrivals")
    room = _ServerRoom(arrivals, service, cluster, factors)
    room.environment.process(room.arrive())
    room.environment.run()
    found = (room.arrivals, room.starts, room.finishes, room.openers)
    return Journal(*(np.array(column, dtype=np.int64) for column in found))


class _ServerRoom:
    """The state of a simulation: who waits, and how many servers are free."""

    def __init__(
        self,
        arrivals: NDArray[np.int64],
        service: Service,
        cluster: Cluster,
        factors: NDArray[np.float64] | None,
    ) -> None:
        self.environment = simpy.Environment()
        self.arrivals: list[int] = arrivals.tolist()
        self.factors = [1.0] * len(arrivals) if factors is None else factors.tolist()
        self.times = [1000 * service.milliseconds(n) for n in range(1, cluster.max_batch + 1)]
        self.max_batch = cluster.max_batch
        # One request is a full batch where batches hold one: it never waits for company.
        self.max_wait = round(1000 * cluster.max_wait_ms) if cluster.max_batch > 1 else 0
        self.free = cluster.servers
        self.waiting: deque[int] = deque()
        self.starts, self.finishes, self.openers = ([0] * len(arrivals) for _ in range(3))

    def arrive(self) -> Generator[simpy.Event, None, None]:
        """Every request, at its time."""
        for request, moment in enumerate(self.arrivals):
            yield self.environment.timeout(moment - int(self.environment.now))
            self.waiting.append(request)
            if self.max_wait:
                self._later(self.max_wait, self._dispatch)
            self._dispatch()

    def _dispatch(self, event: simpy.Event | None = None) -> None:
        """Give batches to free servers while there are both."""
        now = int(self.environment.now)
        while self.free and self.waiting:
            first, size = self.waiting[0], min(len(self.waiting), self.max_batch)
            if size < self.max_batch and now < self.arrivals[first] + self.max_wait:
                return
            took = max(1, round(self.times[size - 1] * self.factors[first]))
            for _ in range(size):
                request = self.waiting.popleft()
                self.starts[request], self.finishes[request] = now, now + took
                self.openers[request] = first
            self.free -= 1
            self._later(took, self._release)

    def _release(self, event: simpy.Event) -> None:
        self.free += 1
        self._dispatch()

    def _later(self, delay: int, action: Callable[[simpy.Event], None]) -> None:
        # A callback, not a process of its own: twice as fast, and as plain.
        callbacks = self.environment.timeout(delay).callbacks
        assert callbacks is not None  # None once they were called
        callbacks.append(action)
