"""Time against quality, from measured rows: which decoder to take within a latency budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import traitlets

from nezha_lite.common.results import ResultRow
from nezha_lite.plots.basic_charts import number
from nezha_lite.plots.speed_figures import decoder_style
from nezha_lite.plots.style import Figure
from nezha_lite.plots.tradeoff_figures import (
    TradeoffPoint,
    chosen_points_figure,
    tradeoff_points,
    with_dominated,
)
from nezha_lite.widgets.html_table import html_table
from nezha_lite.widgets.panel import (
    DESCRIPTION,
    WIDE,
    Panel,
    figure_widget,
    link,
    paragraph,
    redraw,
    slider,
)

METRICS = {
    "recall@10": "Recall@10",
    "ndcg@10": "NDCG@10",
    "valid": "share of the list that exists",
}
ALL = "all"
STEPS = (1, 1.5, 2, 3, 5, 7)  # budgets in every decade of milliseconds
HEADS = ("decoder", "verifier", "beam", "ms", *METRICS, "")
HOLLOW = "Hollow: another mark is as fast and as good, and better in one of the two."


class TradeoffExplorer(Panel):
    """Choose a quality, beams and decoders, and find the best within a budget of milliseconds.

    Args:
        speed_rows: rows with median_ms, at one batch size and history.
        quality_rows: rows with recall@10, ndcg@10 and valid; joined to the others by decoder,
            verifier and beam.
        metric: the quality at first: "recall@10", "ndcg@10" or "valid".
        budget: milliseconds at first, one of those on the slider; infinite for none.

    Raises:
        ValueError: if nothing was measured for both.

    The traits `metric`, `beam` (0 for all), `verifier` ("all" or one of those measured),
    `decoders` (a tuple of names) and `budget` may be set and observed; `points` are those on
    show, the fastest first, and `best` is the one to take, or None.
    """

    metric = traitlets.Enum(tuple(METRICS))
    beam = traitlets.Int()
    verifier = traitlets.Unicode(ALL)
    decoders: Any = traitlets.Tuple()
    budget = traitlets.Float()

    def __init__(
        self,
        speed_rows: Sequence[ResultRow],
        quality_rows: Sequence[ResultRow],
        metric: str = "recall@10",
        budget: float = math.inf,
    ) -> None:
        self.everything = {
            name: tradeoff_points(speed_rows, quality_rows, name) for name in METRICS
        }
        self.values = {
            name: {_key(point): point.value for point in points}
            for name, points in self.everything.items()
        }
        self.device = speed_rows[0].device
        self.users = quality_rows[0].settings.get("users")
        measured = self.everything["recall@10"]
        self.names = tuple(dict.fromkeys(point.decoder for point in measured))
        self.points: list[TradeoffPoint] = []
        self.best: TradeoffPoint | None = None
        self.summary, self.table = widgets.HTML(), widgets.HTML()
        self.metric_choice = _buttons("Quality", [(text, name) for name, text in METRICS.items()])
        beams = sorted({point.beam for point in measured})
        self.beam_choice = slider("Beam width", [(ALL, 0), *((str(beam), beam) for beam in beams)])
        modes = dict.fromkeys([ALL, *sorted(str(point.verifier) for point in measured)])
        self.verifier_choice = _buttons("Verification", [(mode, mode) for mode in modes])
        self.boxes = {name: _box(name) for name in self.names}
        room = {"width": DESCRIPTION["description_width"], "justify_content": "flex-end"}
        label = widgets.Label(
            "Decoders", layout={**room, "display": "flex", "padding": "0 8px 0 0"}
        )
        budgets = [(f"{ms:g} ms", ms) for ms in _budgets(measured)]
        self.budget_choice = slider("Latency budget", [*budgets, ("none", math.inf)])
        choices = [self.metric_choice, self.beam_choice, self.verifier_choice, self.budget_choice]
        super().__init__(metric=metric, decoders=self.names, budget=budget)
        self.figure = figure_widget(self._figure())
        self.children = [
            *choices[:3],
            widgets.HBox([label, *self.boxes.values()], layout={"flex_flow": "row wrap"}),
            *(choices[3], self.summary, self.figure, self.table),
        ]
        for trait, choice in zip(("metric", "beam", "verifier", "budget"), choices, strict=True):
            link(self, trait, choice)
        for box in self.boxes.values():
            box.observe(self._toggled, "value")
        self.observe(self._refresh, ["metric", "beam", "verifier", "decoders", "budget"])
        self._refresh()

    @traitlets.validate("beam", "verifier", "budget")
    def _on_offer(self, proposal: Any) -> Any:
        name, value = proposal.trait.name, proposal.value
        offered = [option for _, option in getattr(self, f"{name}_choice").options]
        if value not in offered:
            raise traitlets.TraitError(f"{name} is {value!r}, but must be one of {offered}.")
        return value

    @traitlets.validate("decoders")
    def _measured(self, proposal: Any) -> tuple[str, ...]:
        unknown = sorted(set(proposal.value) - set(self.names))
        if unknown:
            raise traitlets.TraitError(
                f"Decoder {unknown[0]!r} was not measured; there are {', '.join(self.names)}."
            )
        return tuple(name for name in self.names if name in proposal.value)

    # ---- reactions --------------------------------------------------------------------------

    def _toggled(self, change: Any) -> None:
        name = next(name for name, box in self.boxes.items() if box is change.owner)
        others = tuple(other for other in self.decoders if other != name)
        self.decoders = (*others, name) if change.new else others

    def _refresh(self, change: Any = None) -> None:
        for name, box in self.boxes.items():
            box.value = name in self.decoders
        chosen = [
            point
            for point in self.everything[self.metric]
            if point.decoder in self.decoders
            and self.beam in (0, point.beam)
            and self.verifier in (ALL, str(point.verifier))
        ]
        self.points = sorted(with_dominated(chosen), key=lambda point: point.milliseconds)
        affordable = [point for point in self.points if point.milliseconds <= self.budget]
        self.best = max(affordable, key=lambda point: point.value, default=None)
        redraw(self.figure, self._figure())
        self.summary.value = "".join(map(paragraph, self.sentences()))
        self.table.value = _table(self._cells()) if self.points else ""

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """What to take, and what never to, in plain text."""
        if not self.points:
            return ["Nothing was measured for this choice: tick another decoder or verification."]
        first = self.points[0]
        free = math.isinf(self.budget)
        if self.best is None:
            found = (
                f"Nothing on show answers within {self.budget:g} ms; the fastest is "
                f"{_name(first)}: {number(first.milliseconds)} ms."
            )
        else:
            found = (
                f"{'Without a budget' if free else f'Within {self.budget:g} ms'}, "
                f"{_name(self.best)} has the best {METRICS[self.metric]}: "
                f"{number(self.best.value)}, in {number(self.best.milliseconds)} ms."
                f"{self._noise(self.best.value)}"
            )
        hollow = sum(point.dominated for point in self.points)
        count = f"{hollow} of {len(self.points)} points on show are dominated: another one is as "
        return [found, f"{count}fast and as good, and better in one of the two."]

    def _noise(self, value: float) -> str:
        """How well a share of users is known: its binomial 95 % interval, as half a width."""
        if self.metric != "recall@10" or not self.users:
            return ""
        half = 1.96 * math.sqrt(value * (1 - value) / self.users)
        return f" With {self.users:,} users such a Recall@10 is known to ±{number(half)}."

    def _cells(self) -> list[tuple[str, ...]]:
        rows = []
        for point in self.points:
            values = (self.values[name].get(_key(point)) for name in METRICS)
            said = "★ best within the budget" if point == self.best else ""
            rows.append(
                (
                    *(point.style.name, point.verifier or "", str(point.beam)),
                    number(point.milliseconds),
                    *("" if value is None else number(value) for value in values),
                    said or ("○ dominated" if point.dominated else ""),
                )
            )
        return rows

    # ---- what is drawn ----------------------------------------------------------------------

    def _figure(self) -> Figure:
        in_order = sorted(self.points, key=lambda point: point.beam)
        title = METRICS[self.metric]
        return chosen_points_figure(
            in_order,
            self.everything[self.metric],
            title,
            f"{title[0].upper()}{title[1:]} against time",
            f"{HOLLOW} Measured on {self.device}.",
            self.budget,
        )

    def blocks(self) -> list[Any]:
        """The choice on show: sentences, figure, and the table as lines."""
        if not self.points:
            return [self.sentences()]
        heading = "Milliseconds, then recall@10, ndcg@10 and valid:"
        lines = [
            f"{decoder}, beam {beam}: {ms} ms; {recall}; {ndcg}; {valid} {said}".rstrip()
            for decoder, _, beam, ms, recall, ndcg, valid, said in self._cells()
        ]
        return [self.sentences(), self._figure(), [heading, *lines]]


def _key(point: TradeoffPoint) -> tuple[str, str | None, int]:
    return point.decoder, point.verifier, point.beam


def _name(point: TradeoffPoint) -> str:
    return f"{point.style.name} (beam {point.beam})"


def _budgets(points: Sequence[TradeoffPoint]) -> list[float]:
    """Round milliseconds, from one that nothing meets to one that everything does."""
    times = [point.milliseconds for point in points]
    powers = range(math.floor(math.log10(min(times))) - 1, math.ceil(math.log10(max(times))) + 1)
    steps = [float(f"{step}e{power}") for power in powers for step in STEPS]
    below = max(step for step in steps if step < min(times))
    above = min(step for step in steps if step >= max(times))
    return [step for step in steps if below <= step <= above]


def _buttons(name: str, options: list[tuple[str, str]]) -> widgets.ToggleButtons:
    buttons = widgets.ToggleButtons(
        options=options,
        description=name,
        style={**DESCRIPTION, "button_width": "auto"},
        layout=WIDE,
    )
    buttons.add_class("widget-inline-hbox")
    return buttons


def _box(name: str) -> widgets.Checkbox:
    title = decoder_style(name, "prefix").name
    layout = {"width": "auto", "margin": "2px 12px 2px 0"}
    return widgets.Checkbox(True, description=title, indent=False, layout=layout)


def _table(rows: list[tuple[str, ...]]) -> str:
    words = ("decoder", "verifier", "")
    return html_table("", HEADS, rows, [n for n, head in enumerate(HEADS) if head not in words])
