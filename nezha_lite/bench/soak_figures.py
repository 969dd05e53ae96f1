"""What a minute of a soak was like, and whether the minutes are alike."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nezha_lite.bench.timing import Latency

STATM = Path("/proc/self/statm")  # where Linux says how much memory a process has


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
