"""Time against quality, from measured rows: the best decoder within a latency budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import traitlets

from nezha_lite.common.results import ResultRow
from nezha_lite.plots.numbers import number
from nezha_lite.plots.style import Figure, decoder_style
from nezha_lite.plots.tradeoff_figures import (
    TradeoffPoint,
    selected_points_figure,
    tradeoff_points,
    with_dominated,
)
from nezha_lite.widgets.panel import Drawings, Panel, one_of, some_of
from nezha_lite.widgets.tables import Table

METRICS = {"recall@10": "Recall@10", "ndcg@10": "NDCG@10", "valid": "share of the list that exists"}
ALL = "all"
STEPS = (1, 1.5, 2, 3, 5, 7)  # budgets in every decade of milliseconds
HEADS = ("decoder", "verifier", "beam", "ms", *METRICS, "")
NUMBERS = range(2, len(HEADS) - 1)  # columns
DOMINATED = "○ dominated"
HOLLOW = "Hollow: another mark is as fast and as good, and better in one of the two."


class TradeoffExplorer(Panel):
    """Choose a quality, beams and decoders, and find the best within a budget of milliseconds.

    Args:
        speed_rows: rows with median_ms, at one batch size and history.
        quality_rows: rows with recall@10, ndcg@10 and valid; joined to the others by decoder,
            verifier and beam.
        traits: first values of the traits.

    Raises:
        ValueError: if no decoder was measured for both.

    These traits may be given, set and observed: `metric`, "recall@10", "ndcg@10" or "valid";
    `beam`, 0 for all; `verifier`, "all" or one of those measured; `decoders`, a tuple of names; and
    `budget`, milliseconds, one of those on the slider, infinite for none. `points` are those on
    show, the fastest first, and `best` is the best within the budget, or None.
    """

    metric = traitlets.Enum(tuple(METRICS), "recall@10")
    beam = traitlets.Int()
    verifier = traitlets.Unicode(ALL)
    decoders: Any = traitlets.Tuple()
    budget = traitlets.Float(math.inf)
    refreshed_by = ("metric", "beam", "verifier", "decoders", "budget")

    def __init__(
        self, speed_rows: Sequence[ResultRow], quality_rows: Sequence[ResultRow], **traits: Any
    ) -> None:
        self.everything = {
            name: tradeoff_points(speed_rows, quality_rows, name) for name in METRICS
        }
        self.device = speed_rows[0].device
        self.users = quality_rows[0].settings.get("users")
        measured = self.everything["recall@10"]
        self.names = tuple(dict.fromkeys(point.decoder for point in measured))
        beams = sorted({point.beam for point in measured})
        verifiers = dict.fromkeys([ALL, *sorted(str(point.verifier) for point in measured)])
        self.options: dict[str, list[tuple[str, Any]]] = {
            "metric": [(text, name) for name, text in METRICS.items()],
            "beam": [(ALL, 0), *((str(beam), beam) for beam in beams)],
            "verifier": [(name, name) for name in verifiers],
            "budget": [*((f"{ms:g} ms", ms) for ms in _budgets(measured)), ("none", math.inf)],
        }
        super().__init__(**{"decoders": self.names, **traits})

    def controls(self) -> list[widgets.Widget]:
        """What is shown, and the budget."""
        names = {name: decoder_style(name, "prefix").name for name in self.names}
        self.boxes = self.checkboxes("decoders", names)
        return [
            self.buttons("metric", "Quality", self.options["metric"]),
            self.menu("beam", "Beam width", self.options["beam"]),
            self.buttons("verifier", "Verification", self.options["verifier"]),
            self.slider("budget", "Latency budget", self.options["budget"]),
            *self.boxes.values(),
        ]

    def drawings(self) -> Drawings:
        """The points on show."""
        return [self._figure]

    @traitlets.validate("beam", "verifier", "budget")
    def _on_offer(self, proposal: Any) -> Any:
        return one_of(proposal, [value for _, value in self.options[proposal.trait.name]])

    @traitlets.validate("decoders")
    def _measured(self, proposal: Any) -> tuple[str, ...]:
        return some_of(proposal, self.names)

    def compute(self, change: Any = None) -> None:
        """The points on show, and the best of them within the budget."""
        points = [
            point
            for point in self.everything[self.metric]
            if point.decoder in self.decoders
            and self.beam in (0, point.beam)
            and self.verifier in (ALL, str(point.verifier))
        ]
        self.points = sorted(with_dominated(points), key=lambda point: point.milliseconds)
        affordable = [point for point in self.points if point.milliseconds <= self.budget]
        self.best = max(affordable, key=lambda point: point.value, default=None)

    def tables(self) -> list[Table]:
        """The points on show."""
        return [Table("", HEADS, self._cells(), NUMBERS, row_heads=True)]

    def blocks(self) -> list[Any]:
        """The points on show; of dominated ones, only the picture."""
        lines = self.tables()[0].lines()
        undominated = [line for line in lines if not line.endswith(DOMINATED)]
        return [self.sentences(), self._figure(), undominated]

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """The best decoder, and how many are never the best, in plain text."""
        if not self.points:
            return ["Nothing was measured for this choice: tick another decoder or verification."]
        first, best = self.points[0], self.best
        within = "Without a budget" if math.isinf(self.budget) else f"Within {self.budget:g} ms"
        advice = (
            f"Nothing on show answers within {self.budget:g} ms; the fastest is "
            f"{_name(first)}: {number(first.milliseconds)} ms."
            if best is None
            else f"{within}, {_name(best)} has the best {METRICS[self.metric]}: "
            f"{number(best.value)}, in {number(best.milliseconds)} ms.{self._noise(best.value)}"
        )
        hollow = sum(point.dominated for point in self.points)
        count = f"{hollow} of {len(self.points)} points on show are dominated: another one is as "
        return [advice, f"{count}fast and as good, and better in one of the two."]

    def _noise(self, value: float) -> str:
        """The half width of the binomial 95 % interval of a share of users."""
        if self.metric != "recall@10" or not self.users:
            return ""
        half = 1.96 * math.sqrt(value * (1 - value) / self.users)
        return f" With {self.users:,} users such a Recall@10 is known to ±{number(half)}."

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                *(point.style.name, point.verifier or "", str(point.beam)),
                number(point.milliseconds),
                *(self._value(name, point) for name in METRICS),
                "★ best within the budget" if point == self.best else DOMINATED * point.dominated,
            )
            for point in self.points
        ]

    def _value(self, metric: str, point: TradeoffPoint) -> str:
        same = (one for one in self.everything[metric] if _key(one) == _key(point))
        return next((number(one.value) for one in same), "")

    # ---- what is drawn ----------------------------------------------------------------------

    def _figure(self) -> Figure:
        title = METRICS[self.metric]
        return selected_points_figure(
            sorted(self.points, key=lambda point: point.beam),
            self.everything[self.metric],
            title,
            f"{title[0].upper()}{title[1:]} against time",
            f"{HOLLOW} Measured on {self.device}.",
            self.budget,
        )


def _key(point: TradeoffPoint) -> tuple[str, str | None, int]:
    return point.decoder, point.verifier, point.beam


def _name(point: TradeoffPoint) -> str:
    return f"{point.style.name} (beam {point.beam})"


def _budgets(points: Sequence[TradeoffPoint]) -> list[float]:
    """Round milliseconds, from one that no point meets to one that all do."""
    milliseconds = [point.milliseconds for point in points]
    least, most = min(milliseconds), max(milliseconds)
    powers = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 1)
    steps = [float(f"{step}e{power}") for power in powers for step in STEPS]
    below = max(step for step in steps if step < least)
    above = min(step for step in steps if step >= most)
    return [step for step in steps if below <= step <= above]
