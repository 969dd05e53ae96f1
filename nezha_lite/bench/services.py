"""What answers requests: the time of a batch, and a cluster of servers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from nezha_lite.common.checks import Checked, Count, Valid, check
from nezha_lite.common.results import ResultRow

_P95 = 1.6449  # standard deviations from a normal distribution's median to its 95th percentile


def check_positive(name: str, value: float) -> None:
    """ValueError unless it is a finite number above 0."""
    check(0 < value < math.inf, name, value, "a finite number above 0")


@dataclass(frozen=True)
class Service:
    """The time in which one server answers a batch of requests.

    Between two measured batch sizes the time is interpolated; beyond the largest one it is unknown.

    Args:
        name: of the decoder, as in the results.
        points: (batch size, median milliseconds), sizes ascending from 1. One point: no batching.
        jitter: p95 over median of that time, at least 1. With 1 every batch has the median time;
            above 1 the times are lognormal.

    Raises:
        ValueError: naming what is wrong with the points or the jitter.
    """

    name: str
    points: tuple[tuple[int, float], ...]
    jitter: float = 1.0

    def __post_init__(self) -> None:
        sizes = [size for size, _ in self.points]
        ascending = sizes[:1] == [1] and all(a < b for a, b in pairwise(sizes))
        check(ascending, f"batch sizes of {self.name!r}", sizes, "ascending from 1")
        for size, milliseconds in self.points:
            check_positive(f"the time of batch {size} in points", milliseconds)
        check(1 <= self.jitter < math.inf, "jitter", self.jitter, "p95 over median, at least 1")

    @property
    def max_batch(self) -> int:
        """The largest batch size with a time."""
        return self.points[-1][0]

    def milliseconds(self, batch: int) -> float:
        """Median time of a batch; ValueError for a size larger than the measured ones."""
        measured = f"1 to {self.max_batch}, the measured sizes of {self.name!r}"
        check(1 <= batch <= self.max_batch, "batch", batch, measured)
        sizes, times = zip(*self.points, strict=True)
        return float(np.interp(batch, sizes, times))

    def mean_milliseconds(self, batch: int) -> float:
        """Mean time of a batch: that of a lognormal lies above its median."""
        return self.milliseconds(batch) * math.exp(self._sigma**2 / 2)

    def factors(self, requests: int, seed: int = 0) -> NDArray[np.float64]:
        """Random factors of the median, (requests,)."""
        draws = np.random.default_rng([seed, 1]).standard_normal(requests)
        return np.exp(self._sigma * draws)

    @property
    def _sigma(self) -> float:
        return math.log(self.jitter) / _P95


# The production setting of arXiv 2511.18793 (beam 512, L = 3, T = 512, 0.6 B weights): "more than
# 1000 ms" before NEZHA, "less than 30 ms" with it, taken at these bounds. Not measured here.
PAPER_SERVICES = (
    Service("paper: before NEZHA", ((1, 1000.0),)),
    Service("paper: NEZHA", ((1, 30.0),)),
)


def services_from_rows(rows: Sequence[ResultRow]) -> tuple[Service, ...]:
    """One service for each decoder, from measured latencies at one beam width and history.

    The jitter is that of batch 1.

    Args:
        rows: with `settings["batch"]`, `median_ms` and `p95_ms`, as `bench_decoding` makes them.

    Raises:
        ValueError: if a decoder was measured twice for a batch size, or not for batch 1.
    """
    by_decoder: dict[str, dict[int, ResultRow]] = {}
    for row in rows:
        batches = by_decoder.setdefault(str(row.decoder), {})
        batch = int(row.settings["batch"])
        once = "in one row: choose the rows of one verifier, beam width and history"
        check(batch not in batches, f"batch of {row.decoder}", batch, once)
        batches[batch] = row
    services = []
    for name, batches in by_decoder.items():
        points = tuple((batch, batches[batch].metrics["median_ms"]) for batch in sorted(batches))
        smallest = batches[min(batches)].metrics
        services.append(Service(name, points, max(1.0, smallest["p95_ms"] / smallest["median_ms"])))
    return tuple(services)


@dataclass(frozen=True)
class Cluster(Checked):
    """Servers behind one queue, and how they batch.

    Args:
        servers: how many, at least 1.
        max_batch: how many waiting requests one server may take together.
        max_wait_ms: how long the first request waits, at a free server, for a batch to fill.

    Raises:
        ValueError: naming the field, its value and what would be valid.
    """

    servers: Count = 1
    max_batch: Count = 1
    max_wait_ms: Annotated[float, Valid(lambda ms: 0 <= ms < math.inf, "0 or a finite time")] = 0.0

    def load(self, service: Service, requests_per_second: float) -> float:
        """What arrives over what the servers can answer in full batches; from 1 on too much."""
        check_positive("requests_per_second", requests_per_second)
        busy = requests_per_second * service.mean_milliseconds(self.max_batch) / 1000
        return busy / (self.max_batch * self.servers)
