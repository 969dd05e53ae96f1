"""The draft head beside the full model: which prefixes both keep, and what that agreement saves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets
import traitlets
from torch import Tensor

from nezha_lite.decoding import (
    AutoregressiveDecoder,
    DecodeResult,
    DecodeTrace,
    NezhaDecoder,
    SpeculativeDecoder,
    Verification,
)
from nezha_lite.decoding.item_lists import NOT_FOUND, item_lists
from nezha_lite.plots import agreement_figures
from nezha_lite.plots.agreement_figures import (
    ComparedPrefix,
    LevelAgreement,
    compare_prefixes,
    shared_shares,
)
from nezha_lite.plots.numbers import code_text
from nezha_lite.plots.style import Figure
from nezha_lite.widgets.panel import NO_OPTION, ChoiceBox, at_most, paragraphs, times
from nezha_lite.widgets.subject import DecodePanel, Subject, verification_sentence
from nezha_lite.widgets.tables import COMPARED, shared_items

SELECTED, MARKS = 1, {True: 2, False: 3}  # traces of the first figure, by whether both keep them
NO_PREFIX: tuple[str, tuple[int, ...]] = (NO_OPTION[0], ())
BARS = (
    "The head's own beam is as wide as the model's. A speculative draft is twice as wide, and "
    "starts from the model's first codes."
)


class DraftAgainstModel(DecodePanel):
    """Compare the head's beam with the model's, prefix by prefix.

    Both searches run on the same weights: `NezhaDecoder` ranks by the head, `AutoregressiveDecoder`
    by the backbone. `SpeculativeDecoder` shows what their agreement saves.

    Args:
        model: a trained model.
        semantic_ids: the catalogue it was trained for.
        dataset: for users and titles.
        users: indices of the users on offer; by default eight of the test split. The means are
            over them.
        traits: first values of the traits.

    These traits may be given, set and observed: `user`; `beam`, 1 to 64; `verification` of all
    three decoders, "off", "final" or "prefix"; `level`; and `prefix`, the `level` codes of the
    prefix explained, or () where there is none. `agreement` is the `UserAgreement` on show, or None
    where a decoder failed; the widget then says why.
    """

    level = traitlets.Int(1, min=1)
    prefix: Any = traitlets.Tuple()
    refreshed_by = ("user", "beam", "verification")
    searches: TwoSearches | None = None
    agreement: UserAgreement | None = None

    def build(self) -> list[widgets.Widget]:
        """Controls, both figures, and the explanation of a prefix."""
        self.prefix = self._options()[0][1]
        self.explanation = widgets.HTML()
        self.ranks, self.bars = self.live(self._ranks), self.live(self._bars)
        for shared, trace in MARKS.items():
            self.ranks.data[trace].on_click(partial(self._clicked, shared))
        self.prefix_choice = ChoiceBox("Prefix", on_choice=partial(setattr, self, "prefix"))
        levels = [(f"level {n}", n) for n in range(1, self.subject.semantic_ids.levels + 1)]
        self.observe(self._offer, "level")
        self.observe(self._explain, "prefix")
        return [
            *(*self.decode_controls(), self.summary, self.ranks),
            *(self.control("level", "Level", levels), self.prefix_choice),
            *(self.explanation, self.bars),
        ]

    @traitlets.validate("level")
    def _a_level(self, proposal: Any) -> int:
        return at_most(proposal, self.subject.semantic_ids.levels)

    # ---- reactions --------------------------------------------------------------------------

    def compute(self, change: Any = None) -> None:
        """Search for all users (unless only the user changed), and compare for one."""
        try:
            if change is None or change.name != "user" or self.searches is None:
                self.searches = TwoSearches(self.subject, self.beam, self.verification)
            self.agreement, self.problem = UserAgreement(self.searches, self.user), ""
        except ValueError as error:
            self.searches, self.agreement, self.problem = None, None, str(error)

    def tell(self) -> None:
        """Show everything but the figures."""
        super().tell()
        self._offer()

    def _offer(self, change: Any = None) -> None:
        """The prefixes of the level; the one explained stays if it is among them."""
        options = self._options()
        if self.prefix not in [codes for _, codes in options]:
            self.prefix = options[0][1]
        self.prefix_choice.offer(options)
        self._explain()

    def _explain(self, change: Any = None) -> None:
        self.prefix_choice.choose(self.prefix)
        xs, ys = agreement_figures.selected_ends(self._selected())
        self.ranks.data[SELECTED].update(x=xs, y=ys)
        self.explanation.value = paragraphs(self._description())

    def _clicked(self, shared: bool, trace: Any, points: Any, state: Any) -> None:
        for index in points.point_inds:
            mark = agreement_figures.rank_marks(self._levels(), shared)[index]
            self.level = mark.level
            self.prefix = mark.prefix.codes

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """The comparison on show, or what went wrong, in plain text."""
        agreement, searches = self.agreement, self.searches
        if agreement is None or searches is None:
            return [self.problem]
        both = ", ".join(f"{one.shared} of {one.model_kept}" for one in agreement.levels)
        lines = [
            self.subject.introduction(self.user),
            verification_sentence(self.verification),
            f"Of the prefixes in the model's beam, the head's beam holds {both}, level by level. "
            f"Mean over the {len(searches.shares)} users on offer: "
            f"{_percents(searches.mean_shares)}.",
        ]
        if agreement.accepted:
            lines.append(
                "Speculative decoding drafts twice as wide: it foresaw "
                f"{_percents(agreement.accepted)} of the model's beam and called the backbone "
                f"{times(agreement.speculative_calls)}; the autoregressive decoder calls it "
                f"{times(agreement.autoregressive_calls)}, NEZHA once."
            )
        head, model = self._title(agreement.head_items), self._title(agreement.model_items)
        first = (
            f"the first item is the same: {head}."
            if agreement.same_first
            else f"the first differs: {head} by the head, {model} by the model."
        )
        length = len(agreement.model_items[:COMPARED])
        return [*lines, f"The lists share {agreement.shared_items} of {length} items; {first}"]

    def _title(self, items: list[int]) -> str:
        if not items:
            return "nothing"
        title = self.subject.dataset.title
        return "an ID that no item has" if items[0] == NOT_FOUND else title(items[0])

    def _description(self) -> list[str]:
        selected = self._selected()
        return [agreement_figures.describe(selected)] if selected else []

    # ---- what is drawn ----------------------------------------------------------------------

    def _levels(self) -> list[LevelAgreement]:
        if self.agreement is not None:
            return self.agreement.levels
        numbers = range(1, self.subject.semantic_ids.levels + 1)
        return [LevelAgreement(number, (), 0) for number in numbers]

    def _options(self) -> list[tuple[str, tuple[int, ...]]]:
        prefixes = self._levels()[self.level - 1].prefixes
        return [(code_text(one.codes), one.codes) for one in prefixes] or [NO_PREFIX]

    def _selected(self) -> ComparedPrefix | None:
        prefixes = self._levels()[self.level - 1].prefixes
        return next((one for one in prefixes if one.codes == self.prefix), None)

    def _ranks(self) -> Figure:
        return agreement_figures.ranks_figure(self._levels(), self._selected())

    def _bars(self) -> Figure:
        agreement, searches = self.agreement, self.searches
        series = {
            "in the head's beam, this user": agreement.shares if agreement else [],
            f"mean of {len(self.subject.users)} users": searches.mean_shares if searches else [],
            "foreseen by the speculative draft": agreement.accepted if agreement else [],
        }
        return agreement_figures.shares_figure(series, caption=BARS)

    def blocks(self) -> list[Any]:
        """The comparison on show: sentences, ranks, the prefix explained, shares."""
        words = [f"Beam width {self.beam}.", *self.sentences()]
        return [words, self._ranks(), self._description(), self._bars()]


class UserAgreement:
    """Where both searches agree for one user, and what that saves a speculative decoder.

    Attributes:
        levels: their prefixes, level by level.
        shares: of the prefixes that the model kept at each level, the share that the head kept.
        accepted: likewise the share that a speculative draft foresaw, without the last level.
        speculative_calls: how often the speculative decoder called the backbone.
        autoregressive_calls: how often the autoregressive one did.
        head_items: NEZHA's list, best first; NOT_FOUND for an ID without item.
        model_items: the autoregressive decoder's.
        shared_items: how many of their first ten items both lists have in common.
        same_first: whether both lists begin with the same item.
    """

    def __init__(self, searches: TwoSearches, user: int) -> None:
        subject, row = searches.subject, searches.subject.users.index(user)
        # On its own: a batch takes as many passes as its hardest prompt.
        speculative = searches.speculative.decode(subject.prompts(user), searches.beam)
        assert speculative.accepted is not None  # this decoder always reports it
        self.levels = compare_prefixes(_trace(searches.head), _trace(searches.model), row)
        self.shares: list[float] = searches.shares[row].tolist()
        self.accepted: list[float] = speculative.accepted[0].tolist()
        self.speculative_calls = speculative.backbone_calls
        self.autoregressive_calls = searches.model.backbone_calls
        self.head_items, self.model_items = (
            item_lists(result.keys[row : row + 1], subject.semantic_ids, subject.popularity)[0]
            for result in (searches.head, searches.model)
        )
        self.shared_items = shared_items(self.head_items, self.model_items)
        first = self.head_items[:1]
        self.same_first = first == self.model_items[:1] and first != [NOT_FOUND]


class TwoSearches:
    """`NezhaDecoder` and `AutoregressiveDecoder` for all users of a subject at once.

    Args:
        subject: the model, its catalogue, and the users.
        beam: K.
        verification: of both searches and of the speculative decoder.

    Attributes:
        shares: (users, L), of the prefixes that the model kept, the share that the head kept.
        mean_shares: their means over the users.

    Raises:
        ValueError: if one of the two cannot decode this model.
    """

    def __init__(self, subject: Subject, beam: int, verification: Verification) -> None:
        self.subject, self.beam = subject, beam
        parts = subject.model, subject.verifier, verification
        self.speculative = SpeculativeDecoder(*parts)
        prompts = subject.prompts(*subject.users)
        self.head = NezhaDecoder(*parts).decode(prompts, beam, trace=True)
        self.model = AutoregressiveDecoder(*parts).decode(prompts, beam, trace=True)
        self.shares: Tensor = shared_shares(_trace(self.head), _trace(self.model))  # (users, L)
        self.mean_shares = [float(share) for share in self.shares.mean(dim=0)]


def _trace(result: DecodeResult) -> DecodeTrace:
    assert result.trace is not None  # trace=True
    return result.trace


def _percents(shares: Sequence[float]) -> str:
    return ", ".join(f"{100 * share:.0f} %" for share in shares)
