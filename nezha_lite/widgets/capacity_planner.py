"""Traffic, deadline and servers set by hand: queues, response times, and the servers needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import ipywidgets as widgets
import traitlets
from markupsafe import Markup

from nezha_lite.bench.capacity import Forecast, servers_needed, simulate
from nezha_lite.bench.services import Cluster, Service
from nezha_lite.common.checks import check
from nezha_lite.plots.capacity_figures import responses_figure, servers_figure, service_style
from nezha_lite.plots.numbers import counted, number
from nezha_lite.plots.style import Figure
from nezha_lite.widgets.panel import Drawings, Panel, at_most
from nezha_lite.widgets.tables import Table

RATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
DEADLINES = (5, 10, 20, 50, 100, 200, 500, 2000, 5000)
SERVERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
BATCHES = (1, 2, 4, 8, 16, 32)
REQUESTS = 3000  # simulated for each figure: a change of a slider is answered in about 0.2 s
HEADS = ("decoder", "p50 (ms)", "p99 (ms)", "queue", "in time", "busy", "servers needed")
OVERLOADED = ("–", "–", "grows without end", "0 %", "100 %")


class CapacityPlanner(Panel):
    """Choose traffic, deadline, servers and batching, and compare decoders side by side.

    Args:
        services: what may answer the requests, with different names.
        where: what a server is and where its times come from, in a sentence.
        seed: of arrivals and jitter.
        traits: first values of the traits.

    These traits may be given, set and observed: `decoder`, the index of a service;
    `requests_per_second`, one of `RATES`; `deadline_ms`, one of `DEADLINES`; `servers`, one of
    `SERVERS`; and `max_batch`, one of `BATCHES`. A service gets no larger batches than those it was
    measured for; where that is 1 for all, there is no such control. `forecasts` and `needed` are
    what is on show, service by service.

    Raises:
        ValueError: for no services, or two of one name.
    """

    decoder = traitlets.Int(min=0)
    requests_per_second = traitlets.Enum(RATES, 100)
    deadline_ms = traitlets.Enum(DEADLINES, 100)
    servers = traitlets.Enum(SERVERS, 4)
    max_batch = traitlets.Enum(BATCHES, 1)
    refreshed_by = ("decoder", "requests_per_second", "deadline_ms", "servers", "max_batch")

    def __init__(
        self, services: Sequence[Service], where: str = "", seed: int = 0, **traits: Any
    ) -> None:
        names = [service.name for service in services]
        check(0 < len(names) == len(set(names)), "services", names, "one or more, each name once")
        self.services, self.where, self.seed = tuple(services), where, seed
        self.names = [service_style(service, n).name for n, service in enumerate(services)]
        # Recent simulations are cached: not every slider changes all of them.
        self._simulate = lru_cache(maxsize=64)(simulate)
        self._search = lru_cache(maxsize=256)(servers_needed)
        super().__init__(**traits)

    def controls(self) -> list[widgets.Widget]:
        """The decoder, and what it has to answer with how much."""
        controls = [
            self.menu("decoder", "Decoder", [(name, n) for n, name in enumerate(self.names)]),
            self.slider("requests_per_second", "Requests / s"),
            self.slider("deadline_ms", "Deadline", unit=" ms"),
            self.slider("servers", "Servers"),
        ]
        if max(service.max_batch for service in self.services) > 1:
            controls.append(self.slider("max_batch", "Largest batch"))
        return controls

    def drawings(self) -> Drawings:
        """The servers needed, and the response times."""
        return [self._counts, self._responses]

    @traitlets.validate("decoder")
    def _is_a_service(self, proposal: Any) -> int:
        return at_most(proposal, len(self.services) - 1)

    # ---- simulating -------------------------------------------------------------------------

    def compute(self, change: Any = None) -> None:
        """Simulate the traffic, and search the number of servers, for each service."""
        rate, deadline = self.requests_per_second, self.deadline_ms
        batches = [(service, self._batch(n)) for n, service in enumerate(self.services)]
        self.forecasts: list[Forecast] = [
            self._simulate(service, rate, Cluster(self.servers, batch), REQUESTS, self.seed)
            for service, batch in batches
        ]
        self.needed: list[int | None] = [
            self._search(service, rate, deadline, batch, 0.0, REQUESTS, self.seed)
            for service, batch in batches
        ]

    def _batch(self, index: int) -> int:
        return min(self.max_batch, self.services[index].max_batch)

    # ---- showing ----------------------------------------------------------------------------

    def _responses(self) -> Figure:
        return responses_figure(self.services, self.forecasts, self.decoder, self.deadline_ms)

    def _counts(self) -> Figure:
        return servers_figure(
            self.services, self.needed, self.decoder, self.deadline_ms, self.requests_per_second
        )

    def tables(self) -> list[Table]:
        """Each service with its figures."""
        rows = [
            (Markup("<b>{}</b>").format(name) if index == self.decoder else name, *figures)
            for index, (name, *figures) in enumerate(self.rows())
        ]
        caption = (
            f"Every decoder with {counted(self.servers, 'server')} (the queue is a mean over "
            "time), and how many servers it needs:"
        )
        return [Table(caption, HEADS, rows, range(1, len(HEADS)), row_heads=True)]

    def sentences(self) -> list[str]:
        """The decoder on show: servers needed, response times, and limits; in plain text."""
        forecast, needed = self.forecasts[self.decoder], self.needed[self.decoder]
        name, batch = self.names[self.decoder], self._batch(self.decoder)
        load = f"{self.requests_per_second:,} requests a second"
        goal = f"99 % within {self.deadline_ms:,} ms"
        plan = f"{name} cannot keep {goal}: it is too slow even without a queue."
        if needed is not None:
            plan = f"{name} needs {counted(needed, 'server')} for {load} and {goal}."
        share = f" {100 * forecast.within(self.deadline_ms):.3g} % keep the deadline."
        lines = [plan, forecast.sentence() + share * (not forecast.overloaded)]
        if self.max_batch > batch:
            lines.append(
                f"Its time is known for batches of up to {batch}, so it gets no larger ones."
                if batch > 1
                else "Its time is known for one request at a time, so it gets no batches."
            )
        return [*lines, self.where] if self.where else lines

    def rows(self) -> list[tuple[str, ...]]:
        """Each service with the current number of servers, in plain text, below `HEADS`."""
        return [
            (name, *self._figures_of(forecast), f"{needed:,}" if needed else "✕")
            for name, forecast, needed in zip(self.names, self.forecasts, self.needed, strict=True)
        ]

    def _figures_of(self, forecast: Forecast) -> tuple[str, ...]:
        if forecast.overloaded:
            return OVERLOADED
        return (
            number(forecast.percentile(50)),
            number(forecast.percentile(99)),
            f"{forecast.mean_queue:.2f}",
            f"{100 * forecast.within(self.deadline_ms):.3g} %",
            f"{100 * forecast.utilisation:.1f} %",
        )
