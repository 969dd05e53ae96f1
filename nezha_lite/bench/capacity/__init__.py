"""How many servers a recommendation service needs: its queue, simulated event by event.

Requests arrive at random, wait in one line, and are answered, alone or in batches, by any of G
servers. A server is what a latency was measured on: a GPU, or two CPU cores. The paper (arXiv
2511.18793) reports latencies; how many machines follow from them is an addition of ours.
"""

from nezha_lite.bench.capacity.forecast import Forecast, servers_needed, simulate
from nezha_lite.bench.capacity.queue import Journal, poisson_arrivals, serve
from nezha_lite.bench.capacity.service import PAPER_SERVICES, Cluster, Service, services_from_rows

__all__ = [
    "PAPER_SERVICES",
    "Cluster",
    "Forecast",
    "Journal",
    "Service",
    "poisson_arrivals",
    "serve",
    "servers_needed",
    "services_from_rows",
    "simulate",
]
