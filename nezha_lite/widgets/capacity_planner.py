"""Traffic, deadline and servers turned by hand: what waits, and how many machines it takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import ipywidgets as widgets
import traitlets
from markupsafe import Markup

from nezha_lite.bench.capacity import Cluster, Forecast, Service, servers_needed, simulate
from nezha_lite.plots.basic_charts import number
from nezha_lite.plots.capacity_figures import responses_figure, servers_figure, service_style
from nezha_lite.widgets.html_table import html_table
from nezha_lite.widgets.panel import Panel, figure_widget, link, paragraph, redraw, slider

RATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
DEADLINES = (5, 10, 20, 50, 100, 200, 500, 2000, 5000)
SERVERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
BATCHES = (1, 2, 4, 8, 16, 32)
REQUESTS = 3000  # simulated for each figure: a change of a slider is answered in about 0.2 s


HEADS = (
    "decoder",
    "p50 (ms)",
    "p99 (ms)",
    "queue",
    "in time",
    "busy",
    "servers needed",
)


class CapacityPlanner(Panel):
    """Choose traffic, deadline, servers and batching, and compare decoders side by side.

    Args:
        services: what may answer the requests, with different names.
        where: what a server is and where its times come from, in a sentence.
        requests_per_second: at first, one of 1, 2, 5, … 1000.
        deadline_ms: at first, one of 5, 10, 20, 50, 100, 200, 500, 2000, 5000.
        servers: at first, one of `SERVERS`.
        max_batch: at first, one of 1, 2, 4, … 32. A service takes batches as large as its times
            are known; where none is known beyond 1, there is no such control.
        seed: of arrivals and jitter.

    The traits `decoder` (index of a service), `requests_per_second`, `deadline_ms`, `servers` and
    `max_batch` may be set and observed. `forecasts` and `needed` are what is on show, service by
    service.

    Raises:
        ValueError: for no services, or two of one name.
    """

    decoder = traitlets.Int(min=0)
    requests_per_second = traitlets.Enum(RATES)
    deadline_ms = traitlets.Enum(DEADLINES)
    servers = traitlets.Enum(SERVERS)
    max_batch = traitlets.Enum(BATCHES)

    def __init__(
        self,
        services: Sequence[Service],
        where: str = "",
        requests_per_second: int = 100,
        deadline_ms: int = 100,
        servers: int = 4,
        max_batch: int = 1,
        seed: int = 0,
    ) -> None:
        names = [service.name for service in services]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"services are {names}; give at least one, each name once")
        self.services, self.where, self.seed = tuple(services), where, seed
        self.forecasts: list[Forecast] = []
        self.needed: list[int | None] = []
        # What was simulated last is kept: not every slider changes everything.
        self._simulate = lru_cache(maxsize=64)(simulate)
        self._search = lru_cache(maxsize=256)(servers_needed)
        self.summary, self.table = widgets.HTML(), widgets.HTML()
        looks = [service_style(service, place) for place, service in enumerate(self.services)]
        self.names = [look.name for look in looks]
        controls = {
            "decoder": slider("Decoder", [(name, i) for i, name in enumerate(self.names)]),
            "requests_per_second": slider("Requests / s", _options(RATES, "")),
            "deadline_ms": slider("Deadline", _options(DEADLINES, " ms")),
            "servers": slider("Servers", _options(SERVERS, "")),
        }
        if max(service.max_batch for service in self.services) > 1:
            controls["max_batch"] = slider("Largest batch", _options(BATCHES, ""))
        super().__init__(
            requests_per_second=requests_per_second,
            deadline_ms=deadline_ms,
            servers=servers,
            max_batch=max_batch,
        )
        self._plan()
        # Drawn at once as they are to be: a page that is still loading may miss a redrawing.
        self.responses = figure_widget(self._responses())
        self.counts = figure_widget(self._counts())
        self._tell()
        self.children = [
            *controls.values(),
            self.summary,
            self.counts,
            self.responses,
            self.table,
        ]
        for name, control in controls.items():
            link(self, name, control)
        self.observe(
            self._refresh,
            ["decoder", "requests_per_second", "deadline_ms", "servers", "max_batch"],
        )

    @traitlets.validate("decoder")
    def _is_a_service(self, proposal: Any) -> int:
        if proposal.value >= len(self.services):
            raise traitlets.TraitError(
                f"decoder is {proposal.value}; valid are 0 to {len(self.services) - 1}."
            )
        return int(proposal.value)

    # ---- simulating -------------------------------------------------------------------------

    def _plan(self) -> None:
        rate, deadline = self.requests_per_second, self.deadline_ms
        self.forecasts, self.needed = [], []
        for place, service in enumerate(self.services):
            batch = self._batch(place)
            cluster = Cluster(self.servers, batch)
            self.forecasts.append(self._simulate(service, rate, cluster, REQUESTS, self.seed))
            self.needed.append(
                self._search(service, rate, deadline, batch, 0.0, REQUESTS, self.seed)
            )

    def _batch(self, place: int) -> int:
        return min(self.max_batch, self.services[place].max_batch)

    # ---- showing ----------------------------------------------------------------------------

    def _refresh(self, change: Any = None) -> None:
        self._plan()
        redraw(self.responses, self._responses())
        redraw(self.counts, self._counts())
        self._tell()

    def _responses(self) -> Any:
        return responses_figure(self.services, self.forecasts, self.decoder, self.deadline_ms)

    def _counts(self) -> Any:
        return servers_figure(
            self.services, self.needed, self.decoder, self.deadline_ms, self.requests_per_second
        )

    def _tell(self) -> None:
        self.summary.value = "".join(map(paragraph, self.sentences()))
        self.table.value = self._table_html()

    def sentences(self) -> list[str]:
        """What is to be seen, in plain text."""
        forecast, needed = self.forecasts[self.decoder], self.needed[self.decoder]
        name = self.names[self.decoder]
        load = f"{self.requests_per_second:,} requests a second"
        goal = f"99 % within {self.deadline_ms:,} ms"
        if needed is None:
            plan = f"{name} cannot keep {goal}: it is too slow even without a queue."
        else:
            plan = f"{name} needs {_servers(needed)} for {load} and {goal}."
        share = f" {100 * forecast.within(self.deadline_ms):.3g} % keep the deadline."
        lines = [plan, forecast.sentence() + share * (not forecast.overloaded)]
        if self.max_batch > self._batch(self.decoder):
            limit = self._batch(self.decoder)
            lines.append(
                f"Its time is known for batches of up to {limit}, so it gets no larger ones."
                if limit > 1
                else "Its time is known for one request at a time, so it gets no batches."
            )
        if self.where:
            lines.append(self.where)
        return lines

    def rows(self) -> list[tuple[str, ...]]:
        """Each service with the chosen number of servers, in plain text, below `HEADS`."""
        found: list[tuple[str, ...]] = []
        for name, forecast, needed in zip(self.names, self.forecasts, self.needed, strict=True):
            if forecast.overloaded:
                shown = ("–", "–", "grows without end", "0 %", "100 %")
            else:
                shown = (
                    number(forecast.percentile(50)),
                    number(forecast.percentile(99)),
                    f"{forecast.mean_queue:.2f}",
                    f"{100 * forecast.within(self.deadline_ms):.3g} %",
                    f"{100 * forecast.utilisation:.1f} %",
                )
            found.append((name, *shown, f"{needed:,}" if needed else "✕"))
        return found

    def _caption(self) -> str:
        return (
            f"Every decoder with {_servers(self.servers)} (the queue is a mean over time), and how "
            "many servers it needs:"
        )

    def _table_html(self) -> str:
        rows = [
            (Markup("<b>{}</b>").format(name) if place == self.decoder else name, *figures)
            for place, (name, *figures) in enumerate(self.rows())
        ]
        return html_table(self._caption(), HEADS, rows, range(1, len(HEADS)), row_heads=True)

    def blocks(self) -> list[Any]:
        """The state on show: sentences, both figures, and the table as lines."""
        lines = [
            f"{name}: " + "; ".join(map(" ".join, zip(HEADS[1:], figures, strict=True)))
            for name, *figures in self.rows()
        ]
        return [self.sentences(), self._counts(), self._responses(), [self._caption(), *lines]]


def _options(values: Sequence[int], unit: str) -> list[tuple[str, int]]:
    return [(f"{value:,}{unit}", value) for value in values]


def _servers(count: int) -> str:
    return f"{count:,} server{'' if count == 1 else 's'}"
