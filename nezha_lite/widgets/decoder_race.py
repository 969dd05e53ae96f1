"""Decoders raced on one user: time, calls of the backbone, and the lists side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ipywidgets as widgets
import traitlets

from nezha_lite.bench.race import RACERS, Race, entry
from nezha_lite.plots.speed_figures import race_figure
from nezha_lite.plots.style import Figure
from nezha_lite.widgets.background_task import BackgroundTask, Progress
from nezha_lite.widgets.panel import Drawings, columns, row, some_of
from nezha_lite.widgets.race_results import Raced, racer_name
from nezha_lite.widgets.subject import DecodePanel, verification_sentence
from nezha_lite.widgets.tables import Table, paragraphs

CHEAP = ("nezha", "nezha-unchecked", "parallel-heads", "autoregressive", "speculative")
USUAL = ("nezha", "nezha-unchecked", "autoregressive", "speculative", "generate-constrained")
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
PENDING = "What is chosen above differs from this race: press Start to run it."


class DecoderRace(DecodePanel):
    """Race decoders for one user's list: they take turns, each is timed, and the lists compared.

    The first race is run at once, with the cheap decoders of the selection and one timed call each.
    "Start" runs the others too, in five turns. Nothing is compiled: `bench` times what is deployed.

    The arguments are `SubjectPanel`'s: a trained model, its catalogue, the data set, the users on
    offer, and first values of the traits.

    These traits may be given, set and observed, and count at the next start: `user`; `beam`, 1 to
    128; `verification`, "off", "final" or "prefix", of the decoders that leave it open; and
    `decoders`, a tuple of names in `bench.race.RACERS`. `raced` is the `Raced` on show.
    """

    beam = traitlets.Int(10, min=1, max=128)
    decoders: Any = traitlets.Tuple(default_value=USUAL)
    refreshed_by = ("user", "beam", "verification", "decoders")

    def compute(self, change: Any = None) -> None:
        """The first race."""
        subject = self.subject
        self.track = Race(subject.model, subject.semantic_ids, subject.verifier)
        self.raced = Raced(subject, self.user, self.beam, self.verification)
        cheap = tuple(name for name in self.decoders if name in CHEAP)
        try:
            for _ in self._pieces(cheap or self.decoders[:1], turns=1, calls=1):
                pass
            self.raced = self._prepared
        except ValueError as error:
            self.problem = str(error)

    def controls(self) -> list[widgets.Widget]:
        """What is decoded, and by whom."""
        names = {name: racer_name(*entry(name, "prefix")) for name in RACERS}
        self.boxes = self.checkboxes("decoders", names)
        return [*super().controls(), *self.boxes.values()]

    def build(self) -> list[widgets.Widget]:
        """Controls and start; bars, sentences and numbers; and the lists below."""
        tooltip = "Time the chosen decoders in turns, for the chosen user and beam width"
        self.work = BackgroundTask(
            "Start the race", lambda: self._pieces(self.decoders), self._show, tooltip
        )
        self.outcomes = widgets.HTML()
        numbers = columns(self.figures, [self.summary, self.outcomes])
        return [row(*self.controls(), self.work), numbers, self.table]

    def drawings(self) -> Drawings:
        """A bar for each decoder."""
        return [self._figure]

    @traitlets.validate("decoders")
    def _are_racers(self, proposal: Any) -> tuple[str, ...]:
        return some_of(proposal, RACERS)

    # ---- racing -----------------------------------------------------------------------------

    def run(self, turns: int = 5, calls: int = 4) -> None:
        """Race the selected decoders at once, without progress or a way to cancel.

        Raises:
            ValueError: if none is selected.
        """
        for _ in self._pieces(self.decoders, turns, calls):
            pass
        self._show()

    def _pieces(
        self, decoders: tuple[str, ...], turns: int = 5, calls: int = 4
    ) -> Iterator[Progress]:
        if not decoders:
            raise ValueError("No decoder is chosen: tick at least one.")
        user, beam, verification, subject = self.user, self.beam, self.verification, self.subject
        prompts = subject.prompts(user)
        finishes = yield from self.track.run(decoders, verification, prompts, beam, turns, calls)
        self._prepared = Raced(subject, user, beam, verification, finishes)

    def _show(self) -> None:
        self.raced, self.problem = self._prepared, ""
        self.redraw()
        self.tell()

    # ---- what is shown ----------------------------------------------------------------------

    def refresh(self, change: Any = None) -> None:
        """Say that the settings differ; the race on show stays until the next start."""
        self.tell()

    def tell(self) -> None:
        """Show the sentences and the lists."""
        super().tell()
        self.outcomes.value = self.raced.outcomes().html()
        settings = self.decoders, self.user, self.beam, self.verification
        if not self.problem and not self.raced.was(*settings):
            self.summary.value += paragraphs([PENDING])

    def tables(self) -> list[Table]:
        """The lists side by side."""
        return [self.raced.lists()] if self.raced.entrants else []

    def sentences(self) -> list[str]:
        """The race on show but for the times, or what went wrong, in plain text."""
        if self.problem:
            return [self.problem]
        raced = self.raced
        settings = f"Beam width {raced.beam}. {verification_sentence(raced.verification)}"
        return [self.subject.introduction(raced.user), settings, *raced.sentences()]

    def _figure(self) -> Figure:
        raced = self.raced
        calls = max((len(finish.times) for finish in raced.finishes), default=0)
        device = self.subject.model.device.type
        where = f"on the {DEVICES.get(device, device)}, not compiled"
        caption = (
            f"Median of up to {calls} calls each, {where}; the decoders took turns."
            if calls > 1
            else f"One call each after a warm-up, {where}: a first glance only."
        )
        return race_figure(raced.entrants, f"One list at beam {raced.beam}", caption)

    def blocks(self) -> list[Any]:
        """The race on show: sentences, bars, and the lists one below the other."""
        raced = self.raced
        numbers = [raced.outcomes().lines()] if raced.entrants else []
        return [self.sentences(), self._figure(), *numbers, *raced.lists_lines()]
