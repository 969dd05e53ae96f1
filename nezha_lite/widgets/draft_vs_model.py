"""The draft head beside the full model: which prefixes both keep, and what that is worth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets
import traitlets

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import VERIFICATIONS, Verification
from nezha_lite.decoding.item_lists import NOT_FOUND
from nezha_lite.model import NezhaModel
from nezha_lite.plots.agreement_figures import (
    chosen_ends,
    describe,
    rank_marks,
    ranks_figure,
    shares_figure,
)
from nezha_lite.plots.prefix_agreement import ComparedPrefix, LevelAgreement
from nezha_lite.plots.style import Figure
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets.choice_box import ChoiceBox
from nezha_lite.widgets.panel import (
    DESCRIPTION,
    MODES,
    WIDE,
    Subject,
    SubjectPanel,
    at_most,
    figure_widget,
    link,
    paragraph,
    redraw,
    slider,
    user_control,
    verification_control,
)
from nezha_lite.widgets.two_searches import PLACES, TwoSearches, UserAgreement

MAX_BEAM = 64
CHOSEN, MARKS = 1, {True: 2, False: 3}  # traces of the first figure, by whether both kept them
NO_PREFIX: tuple[str, tuple[int, ...]] = ("none", ())
BARS = (
    "The head's own beam is as wide as the model's. A speculative draft is twice as wide, and "
    "starts from the model's first codes."
)


class DraftAgainstModel(SubjectPanel):
    """Compare the head's beam with the model's, prefix by prefix.

    Both searches run on the same weights: `NezhaDecoder` ranks by the head, `AutoregressiveDecoder`
    by the backbone. `SpeculativeDecoder` shows what their agreement saves.

    Args:
        model: a trained model.
        semantic_ids: the catalogue it was trained for.
        dataset: for users and titles.
        users: indices of the users on offer; by default eight of the test split. The means are
            over them.
        beam: beam width at first, 1 to 64.
        verification: "off", "final" or "prefix" at first, of all three decoders.

    The traits `user`, `beam`, `verification`, `level` and `prefix` may be set and observed;
    `prefix` is the codes of the prefix explained, of `level` codes, or () where there is none.
    `agreement` is the `UserAgreement` on show, or None where a decoder failed; the widget then says
    why.
    """

    beam = traitlets.Int(min=1, max=MAX_BEAM)
    verification = traitlets.Enum(VERIFICATIONS)
    level = traitlets.Int(min=1)
    prefix: Any = traitlets.Tuple()

    def __init__(
        self,
        model: NezhaModel,
        semantic_ids: SemanticIds,
        dataset: InteractionDataset,
        users: Sequence[int] | None = None,
        beam: int = 10,
        verification: Verification = "prefix",
    ) -> None:
        self.subject = Subject(model, semantic_ids, dataset, users)
        self.searches: TwoSearches | None = None
        self.agreement: UserAgreement | None = None
        self.problem = ""
        self.summary, self.explanation = widgets.HTML(), widgets.HTML()
        super().__init__(user=self.subject.users[0], beam=beam, verification=verification, level=1)
        self._search()
        self.prefix = self._options()[0][1]
        # Drawn at once as they are to be: a page that is still loading may miss a redrawing.
        self.ranks, self.bars = figure_widget(self._ranks()), figure_widget(self._bars())
        for shared, place in MARKS.items():
            self.ranks.data[place].on_click(partial(self._clicked, shared))
        user_choice, verification_choice = user_control(self.subject), verification_control()
        beam_choice = widgets.IntSlider(
            min=1, max=MAX_BEAM, description="Beam width", style=DESCRIPTION, layout=WIDE
        )
        names = [(f"level {n}", n) for n in range(1, semantic_ids.levels + 1)]
        level_choice = slider("Level", names)
        self.prefix_choice = ChoiceBox("Prefix", chosen=self._ask)
        self.prefix_choice.offer(self._options())
        controls = [user_choice, beam_choice, verification_choice, self.summary, self.ranks]
        self.children = [*controls, level_choice, self.prefix_choice, self.explanation, self.bars]
        link(self, "user", user_choice)
        link(self, "beam", beam_choice)
        link(self, "verification", verification_choice)
        link(self, "level", level_choice)
        self.observe(self._refresh, ["user", "beam", "verification"])
        self.observe(self._offer, "level")
        self.observe(self._explain, "prefix")
        self.summary.value = "".join(map(paragraph, self.sentences()))
        self._explain()

    @traitlets.validate("level")
    def _a_level(self, proposal: Any) -> int:
        return at_most(proposal, self.subject.semantic_ids.levels)

    # ---- reactions --------------------------------------------------------------------------

    def _search(self, again: bool = True) -> None:
        """Search for all users (unless only the user changed), and compare for one."""
        try:
            if again or self.searches is None:
                self.searches = TwoSearches(self.subject, self.beam, self.verification)
            self.agreement, self.problem = self.searches.of(self.user), ""
        except ValueError as error:
            self.searches, self.agreement, self.problem = None, None, str(error)

    def _refresh(self, change: Any) -> None:
        self._search(again=change.name != "user")
        redraw(self.ranks, self._ranks())
        redraw(self.bars, self._bars())
        self.summary.value = "".join(map(paragraph, self.sentences()))
        self._offer()

    def _offer(self, change: Any = None) -> None:
        """The prefixes of the level; the one explained stays if it is among them."""
        options = self._options()
        if self.prefix not in [codes for _, codes in options]:
            self.prefix = options[0][1]
        self.prefix_choice.offer(options)
        self._explain()

    def _ask(self, prefix: Any) -> None:
        self.prefix = prefix

    def _explain(self, change: Any = None) -> None:
        self.prefix_choice.choose(self.prefix)
        chosen = self._chosen()
        xs, ys = chosen_ends(chosen)
        self.ranks.data[CHOSEN].update(x=xs, y=ys)
        self.explanation.value = paragraph(describe(chosen)) if chosen else ""

    def _clicked(self, shared: bool, trace: Any, points: Any, state: Any) -> None:
        for index in points.point_inds:
            mark = rank_marks(self._levels(), shared)[index]
            self.level = mark.level
            self.prefix = mark.prefix.codes

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """What is to be seen, or what went wrong, in plain text."""
        found, searches = self.agreement, self.searches
        if found is None or searches is None:
            return [self.problem]
        both = ", ".join(f"{one.shared} of {one.model_kept}" for one in found.levels)
        lines = [
            self.subject.introduction(self.user),
            f"Verification {self.verification}: {MODES[self.verification]}.",
            f"Of the prefixes in the model's beam, the head's beam holds {both}, level by level. "
            f"Mean over the {len(searches.shares)} users on offer: "
            f"{_percents(searches.mean_shares)}.",
        ]
        if found.accepted:
            lines.append(
                "Speculative decoding drafts twice as wide: it foresaw "
                f"{_percents(found.accepted)} of the model's beam and called the backbone "
                f"{_times(found.speculative_calls)}; the autoregressive decoder calls it "
                f"{_times(found.autoregressive_calls)}, NEZHA once."
            )
        head, model = self._title(found.head_items), self._title(found.model_items)
        first = (
            f"the first item is the same: {head}."
            if found.same_first
            else f"the first differs: {head} by the head, {model} by the model."
        )
        length = len(found.model_items[:PLACES])
        lines.append(f"The lists share {found.shared_items} of {length} items; {first}")
        return lines

    def _title(self, items: list[int]) -> str:
        if not items:
            return "nothing"
        title = self.subject.dataset.title
        return "an ID that no item has" if items[0] == NOT_FOUND else title(items[0])

    # ---- what is drawn ----------------------------------------------------------------------

    def _levels(self) -> list[LevelAgreement]:
        if self.agreement is not None:
            return self.agreement.levels
        numbers = range(1, self.subject.semantic_ids.levels + 1)
        return [LevelAgreement(number, (), 0) for number in numbers]

    def _options(self) -> list[tuple[str, tuple[int, ...]]]:
        prefixes = self._levels()[self.level - 1].prefixes
        return [("-".join(map(str, one.codes)), one.codes) for one in prefixes] or [NO_PREFIX]

    def _chosen(self) -> ComparedPrefix | None:
        prefixes = self._levels()[self.level - 1].prefixes
        return next((one for one in prefixes if one.codes == self.prefix), None)

    def _ranks(self) -> Figure:
        return ranks_figure(self._levels(), self._chosen())

    def _bars(self) -> Figure:
        found, searches = self.agreement, self.searches
        series = {
            "in the head's beam, this user": found.shares if found else [],
            f"mean of {len(self.subject.users)} users": searches.mean_shares if searches else [],
            "foreseen by the speculative draft": found.accepted if found else [],
        }
        return shares_figure(series, caption=BARS)

    def blocks(self) -> list[Any]:
        """The comparison on show: sentences, ranks, the prefix explained, shares."""
        chosen = self._chosen()
        blocks: list[Any] = [[f"Beam width {self.beam}.", *self.sentences()], self._ranks()]
        return [*blocks, [describe(chosen)] if chosen else [], self._bars()]


def _percents(shares: Sequence[float]) -> str:
    return ", ".join(f"{100 * share:.0f} %" for share in shares)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
