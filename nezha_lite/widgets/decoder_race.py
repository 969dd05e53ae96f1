"""Decoders raced on one user: time, calls of the backbone, and the lists side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets
import traitlets

from nezha_lite.bench.race import RACERS, Race, entry
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import VERIFICATIONS, Verification
from nezha_lite.model import NezhaModel
from nezha_lite.plots.race_figures import race_figure
from nezha_lite.plots.style import Figure
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets.background_task import Progress, SlowWork
from nezha_lite.widgets.panel import (
    DESCRIPTION,
    MODES,
    WIDE,
    Subject,
    SubjectPanel,
    figure_widget,
    link,
    paragraph,
    redraw,
    user_control,
    verification_control,
)
from nezha_lite.widgets.race_results import Raced, lists_html, lists_lines, racer_name

MAX_BEAM = 128
CHEAP = ("nezha", "nezha-unchecked", "parallel-heads", "autoregressive", "speculative")
USUAL = ("nezha", "nezha-unchecked", "autoregressive", "speculative", "generate-constrained")
PENDING = "What is chosen above differs from this race: press Start to run it."


class DecoderRace(SubjectPanel):
    """Race decoders for one user's list: they take turns, each is timed, and the lists compared.

    The first race is run at once, with the cheap decoders among the chosen and one timed call each.
    "Start" runs the others too, in five turns. Nothing is compiled: `bench` times what is deployed.

    Args:
        model: a trained model.
        semantic_ids: the catalogue it was trained for.
        dataset: for users and titles.
        users: indices of the users on offer; by default eight of the test split.
        decoders: which to race, of `bench.race.RACERS`.
        beam: beam width at first, 1 to 128.
        verification: at first, of the decoders that leave it open: "off", "final" or "prefix".

    The traits `user`, `beam`, `verification` and `decoders` may be set and observed; they count at
    the next start. `raced` is the `Raced` on show.
    """

    beam = traitlets.Int(min=1, max=MAX_BEAM)
    verification = traitlets.Enum(VERIFICATIONS)
    decoders: Any = traitlets.Tuple()

    def __init__(
        self,
        model: NezhaModel,
        semantic_ids: SemanticIds,
        dataset: InteractionDataset,
        users: Sequence[int] | None = None,
        decoders: Sequence[str] = USUAL,
        beam: int = 10,
        verification: Verification = "prefix",
    ) -> None:
        self.subject = Subject(model, semantic_ids, dataset, users)
        self.track = Race(model, semantic_ids, self.subject.verifier)
        self.summary, self.table = widgets.HTML(), widgets.HTML()
        self.boxes = {
            name: widgets.Checkbox(
                description=racer_name(*entry(name, "prefix")),
                indent=False,
                layout={"width": "230px"},
            )
            for name in RACERS
        }
        super().__init__(
            user=self.subject.users[0],
            beam=beam,
            verification=verification,
            decoders=tuple(decoders),
        )
        self.problem = ""
        self.raced = Raced(self.user, beam, verification)
        cheap = tuple(name for name in self.decoders if name in CHEAP)
        try:
            for _ in self._pieces(cheap or self.decoders[:1], turns=1, calls=1):
                pass
            self.raced = self._prepared
        except ValueError as error:
            self.problem = str(error)
        # Drawn at once as it is to be: a page that is still loading may miss a redrawing.
        self.figure = figure_widget(self._figure())
        self.work = SlowWork(
            "Start the race",
            lambda: self._pieces(self.decoders),
            self._show,
            "Time the chosen decoders in turns, for the chosen user and beam width",
        )
        user_choice, verification_choice = user_control(self.subject), verification_control()
        beam_choice = widgets.IntSlider(
            min=1, max=MAX_BEAM, description="Beam width", style=DESCRIPTION, layout=WIDE
        )
        boxes = widgets.HBox(
            list(self.boxes.values()), layout={"flex_flow": "row wrap", "max_width": "760px"}
        )
        controls = [user_choice, beam_choice, verification_choice, boxes, self.work]
        self.children = [*controls, self.summary, self.figure, self.table]
        link(self, "user", user_choice)
        link(self, "beam", beam_choice)
        link(self, "verification", verification_choice)
        self._tick()
        for name, box in self.boxes.items():
            box.observe(partial(self._choose, name), "value")
        self.observe(self._tick, "decoders")
        self.observe(self._tell, ["user", "beam", "verification", "decoders"])
        self._tell()

    @traitlets.validate("decoders")
    def _are_racers(self, proposal: Any) -> tuple[str, ...]:
        for name in proposal.value:
            if name not in RACERS:
                raise traitlets.TraitError(
                    f"decoder is {name!r}, but must be one of {', '.join(RACERS)}."
                )
        return tuple(name for name in RACERS if name in proposal.value)

    # ---- racing -----------------------------------------------------------------------------

    def run(self, turns: int = 5, calls: int = 4) -> None:
        """Race the chosen decoders at once, without progress or a way to cancel.

        Raises:
            ValueError: if none is chosen.
        """
        for _ in self._pieces(self.decoders, turns, calls):
            pass
        self._show()

    def _pieces(
        self, decoders: tuple[str, ...], turns: int = 5, calls: int = 4
    ) -> Iterator[Progress]:
        if not decoders:
            raise ValueError("No decoder is chosen: tick at least one.")
        user, beam, checked, subject = self.user, self.beam, self.verification, self.subject
        prompts = subject.model.build_prompts([subject.histories[user]], subject.semantic_ids)
        finishes = yield from self.track.run(decoders, checked, prompts, beam, turns, calls)
        ids, popularity = subject.semantic_ids, subject.popularity
        self._prepared = Raced.of(user, beam, checked, finishes, ids, popularity)

    def _show(self) -> None:
        self.raced, self.problem = self._prepared, ""
        redraw(self.figure, self._figure())
        self._tell()

    # ---- reactions --------------------------------------------------------------------------

    def _choose(self, name: str, change: Any) -> None:
        others = {*self.decoders} - {name}
        self.decoders = tuple(others | {name} if change.new else others)

    def _tick(self, change: Any = None) -> None:
        wanted = self.decoders
        for name, box in self.boxes.items():
            box.value = name in wanted

    def _tell(self, change: Any = None) -> None:
        """Everything but the figure."""
        raced, lines = self.raced, self.sentences()
        chosen = self.decoders, self.user, self.beam, self.verification
        if not self.problem and not raced.was(*chosen):
            lines.append(PENDING)
        self.summary.value = "".join(map(paragraph, lines))
        self.table.value = self._table_html() if raced.entrants else ""

    # ---- what is shown ----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """What is to be seen but for the times, or what went wrong, in plain text."""
        if self.problem:
            return [self.problem]
        raced = self.raced
        mode = f"Verification {raced.verification}: {MODES[raced.verification]}."
        settings = f"Beam width {raced.beam}. {mode}"
        return [self.subject.introduction(raced.user), settings, *raced.sentences()]

    def _figure(self) -> Figure:
        raced = self.raced
        most = max((len(finish.times) for finish in raced.finishes), default=0)
        where = f"on {self.subject.model.device.type}, not compiled"
        caption = (
            f"Median of up to {most} calls each, {where}; the decoders took turns."
            if most > 1
            else f"One call each after a warm-up, {where}: a first glance only."
        )
        bars = [one.bar for one in raced.entrants]
        return race_figure(bars, f"One list at beam {raced.beam}", caption)

    def _table_html(self) -> str:
        raced, subject = self.raced, self.subject
        target = subject.targets[raced.user]
        return lists_html(raced.entrants, subject.dataset, target, raced.reference)

    def blocks(self) -> list[Any]:
        """The race on show: sentences, bars, and the lists one below the other."""
        raced, subject = self.raced, self.subject
        lists = lists_lines(raced.entrants, subject.dataset, subject.targets[raced.user])
        return [self.sentences(), self._figure(), *lists]
