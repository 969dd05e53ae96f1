"""The draft head, one code at a time: how each code of an ID changes the chances of the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
import traitlets
from torch import Tensor

from nezha_lite.model import NezhaModel
from nezha_lite.model.draft_head import at_least_float32
from nezha_lite.model.prompts import Prompts
from nezha_lite.plots.agreement_figures import shares_figure
from nezha_lite.plots.numbers import code_text, probability
from nezha_lite.plots.prefix_figures import items_below
from nezha_lite.plots.style import Figure
from nezha_lite.widgets.panel import ChoiceBox, Drawings, check_trait
from nezha_lite.widgets.subject import SubjectPanel
from nezha_lite.widgets.tables import some_titles

SHOWN_CODES, SHOWN_TITLES = 10, 3
BEGINNINGS = 1000  # that an average is over: the width of the beam that searches them


@dataclass(frozen=True)
class NextCode:
    """A possible next code: its probability, its average probability, and the items behind it."""

    code: int
    log_prob: float
    average: float
    items: int


class DraftHeadExplorer(SubjectPanel):
    """Write an ID by the draft head, and see how each code changes the next one's chances.

    The backbone runs once for each user; taking a code changes only the head's small state. Bars
    compare the next code's probabilities with its average over all beginnings of an ID. Nothing is
    verified here: codes that lead to no item are on offer, and marked.

    The arguments are `SubjectPanel`'s: a trained model, its catalogue, the data set, the users on
    offer, and first values of the traits.

    The traits `user` and `codes` (the ID so far, a tuple of 0 to L) may be given, set and observed;
    `nexts` are the `NextCode`s on show, likeliest first.

    Raises:
        ValueError: if the model's head was not trained.
    """

    codes: Any = traitlets.Tuple()
    refreshed_by = ("user", "codes")

    def controls(self) -> list[widgets.Widget]:
        """The user, the next code, and the way back."""
        self.next_choice = ChoiceBox("Next code", {"Take this code": self._take})
        self.back = widgets.Button(description="One code back")
        self.back.on_click(lambda _: setattr(self, "codes", self.codes[:-1]))
        self.figure.data[0].on_click(self._clicked)
        return [*super().controls(), self.next_choice, self.back]

    def drawings(self) -> Drawings:
        """Bars for the likeliest next codes."""
        return [self._figure]

    @traitlets.validate("codes")
    def _codes_of_an_id(self, proposal: Any) -> tuple[int, ...]:
        codes, radices = tuple(proposal.value), self.subject.semantic_ids.radices
        below = [isinstance(c, int) and 0 <= c < r for c, r in zip(codes, radices, strict=False)]
        rule = f"at most {len(radices)} whole numbers from 0, below {', '.join(map(str, radices))}"
        check_trait(proposal, len(codes) <= len(radices) and all(below), rule)
        return codes

    # ---- reactions --------------------------------------------------------------------------

    def compute(self, change: Any = None) -> None:
        """The next code's chances; after the last code, still those of the last code."""
        ids = self.subject.semantic_ids
        if change is None or change.name == "user":  # the one pass of the backbone for this user
            self.steps = HeadSteps(self.subject.model, self.subject.prompts(self.user))
        level = min(len(self.codes), ids.levels - 1)
        self.before = self.codes[:level]
        self.log_prob, following = self.steps.after(self.before)
        self.average = self.steps.averages[level]
        following_codes = ids.codes[items_below(ids, self.before), level]
        items = torch.bincount(following_codes, minlength=ids.radices[level])
        log_probs, codes = following.topk(min(SHOWN_CODES, len(following)))
        self.nexts = [
            NextCode(code, log_prob, float(self.average[code]), int(items[code]))
            for code, log_prob in zip(codes.tolist(), log_probs.tolist(), strict=True)
        ]
        # Half the sum of differences: the least that must move for one to become the other.
        self.moved = float((following.exp() - self.average).abs().sum()) / 2

    def tell(self) -> None:
        """Show everything but the bars."""
        options = [(_label(one), one.code) for one in self.nexts]
        self.next_choice.offer([] if self._complete() else options)
        self.next_choice.menu.index = 0  # the likeliest
        self.back.disabled = not self.codes
        super().tell()

    def _complete(self) -> bool:
        return len(self.codes) == self.subject.semantic_ids.levels

    def _take(self) -> None:
        self.codes = (*self.codes, self.next_choice.menu.value)

    def _clicked(self, trace: Any, points: Any, state: Any) -> None:
        for index in points.point_inds:
            if not self._complete():
                self.codes = (*self.codes, self.nexts[index].code)

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """The ID so far, and its likeliest next code, in plain text."""
        lines = [self.subject.introduction(self.user), self._beginning()]
        if self._complete():
            return lines
        best = self.nexts[0]
        line = f"Likeliest next: code {best.code}, {probability(best.log_prob)}"
        if not self.codes:
            return [*lines, line + "."]
        moved = f"{probability(math.log(max(self.moved, 1e-9)))} of the probability"
        return [
            *lines,
            f"{line}; on average over what might have been taken, "
            f"{probability(math.log(max(best.average, 1e-9)))}. The state moved {moved} elsewhere.",
        ]

    def _beginning(self) -> str:
        levels, complete = self.subject.semantic_ids.levels, self._complete()
        if not self.codes:
            return (
                f"One pass of the backbone left h_0 to h_{levels}; the state is h_0, and no code "
                f"is taken of {levels}."
            )
        log_prob = self.log_prob
        if complete:
            log_prob += float(self.steps.after(self.before)[1][self.codes[-1]])
        below = items_below(self.subject.semantic_ids, self.codes)
        items = below.nonzero().flatten().tolist()
        written = f"{code_text(self.codes)} has probability {probability(log_prob)}"
        titles = some_titles(self.subject.dataset, items, SHOWN_TITLES)
        if complete:
            return f"{written} and names {titles or 'no item'}."
        begin = "1 item begins" if len(items) == 1 else f"{len(items) or 'no'} items begin"
        end = "" if titles.endswith("…") else "."
        return f"{written}; {begin} so{': ' * bool(items)}{titles}{end}"

    # ---- what is drawn ----------------------------------------------------------------------

    def _figure(self) -> Figure:
        level = len(self.before)
        caption = f"The {len(self.nexts)} likeliest codes. ×: no item has this code here."
        given = "from the history alone"
        averages: list[float] = []
        if level:
            given = f"after {code_text(self.before)}"
            averages = [one.average for one in self.nexts]
            caption += f" Hatched: the average over {self._beginnings(level)}."
        chances = [math.exp(one.log_prob) for one in self.nexts]
        series = {given: chances, "on average over beginnings": averages}
        groups = [f"{one.code}{'' if one.items else ' ×'}" for one in self.nexts]
        return shares_figure(series, f"Code {level + 1}, {given}", caption, groups)

    def _beginnings(self, level: int) -> str:
        count = math.prod(self.subject.semantic_ids.radices[:level])
        if count <= BEGINNINGS:
            return f"all {count:,} beginnings"
        held = probability(math.log(self.steps.covered[level]))
        return f"{BEGINNINGS:,} likely beginnings, which hold {held} of the probability"


class HeadSteps:
    """One prompt's h_0 … h_L, and the head that continues from them.

    Attributes:
        averages: L tensors (T_l,), the probabilities of level l's codes without knowing the codes
            before: a mean over likely beginnings, weighted by their probability. Up to `BEGINNINGS`
            it is over all of them.
        covered: for each level the probability of all those beginnings together.

    Raises:
        ValueError: if the head was not trained.
    """

    @torch.inference_mode()
    def __init__(self, model: NezhaModel, prompts: Prompts) -> None:
        self.head = model.head
        self.hidden = model.draft_states(prompts)[0]  # (L+1, D)
        self.averages: list[Tensor] = []
        self.covered: list[float] = []
        state = self.hidden[:1]  # (W, D), of W beginnings
        precision = at_least_float32(state.dtype)
        log_probs = torch.zeros(1, dtype=precision, device=state.device)  # (W,)
        for level, radix in enumerate(self.head.radices):
            following = self.head.log_probs(level, self.hidden[level + 1], state)  # (W, T)
            self.averages.append(log_probs.softmax(0) @ following.exp())
            self.covered.append(float(log_probs.exp().sum()))
            together = (log_probs.unsqueeze(1) + following).flatten()  # (W·T,)
            log_probs, indices = together.topk(min(BEGINNINGS, len(together)))
            if level + 1 < self.head.levels:
                state = self.head.advance(level, indices % radix, state[indices // radix])

    @torch.inference_mode()
    def after(self, codes: Sequence[int]) -> tuple[float, Tensor]:
        """A beginning's log-probability, and log p (T_l,) of the code after it.

        Args:
            codes: the beginning's 0 to L − 1 codes, level 1 first.
        """
        state, log_prob = self.hidden[:1], 0.0
        for level, code in enumerate(codes):
            log_prob += float(self.head.log_probs(level, self.hidden[level + 1], state)[0, code])
            state = self.head.advance(level, torch.tensor([code], device=state.device), state)
        return log_prob, self.head.log_probs(len(codes), self.hidden[len(codes) + 1], state)[0]


def _label(one: NextCode) -> str:
    return f"{one.code}: {probability(one.log_prob)}{'' if one.items else ', no item'}"
