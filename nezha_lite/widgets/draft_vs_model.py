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
from nezha_lite.decoding.item_lists import item_lists
from nezha_lite.plots import agreement_figures
from nezha_lite.plots.agreement_figures import (
    ComparedPrefix,
    LevelAgreement,
    compare_prefixes,
    rank_marks,
    shared_shares,
)
from nezha_lite.plots.numbers import code_text
from nezha_lite.plots.style import Figure
from nezha_lite.widgets.panel import NO_OPTION, ChoiceBox, Drawings, columns, row, times
from nezha_lite.widgets.subject import DecodePanel, Subject, verification_sentence
from nezha_lite.widgets.tables import COMPARED, paragraphs, shared_items

SELECTED, MARKS = 1, {True: 2, False: 3}  # traces of the first figure, by whether both keep them
NO_PREFIX: tuple[str, tuple[int, ...]] = (NO_OPTION[0], ())
BARS = (
    "The head's own beam is as wide as the model's. A speculative draft is twice as wide, and "
    "starts from the model's first codes."
)


class DraftAgainstModel(DecodePanel):
    """Compare the head's beam with the model's, prefix by prefix.

    Both searches run on the same weights: `NezhaDecoder` ranks by the head, `AutoregressiveDecoder`
    by the backbone. `SpeculativeDecoder` shows what their agreement saves. Means are over all users
    on offer.

    The arguments are `SubjectPanel`'s: a trained model, its catalogue, the data set, the users on
    offer, and first values of the traits.

    These traits may be given, set and observed: `user`; `beam`, 1 to 64; `verification` of all
    three decoders, "off", "final" or "prefix"; and `prefix`, the codes of the prefix explained, or
    () where there is none. `agreement` is the `UserAgreement` on show, or None where a decoder
    failed; the widget then says why.
    """

    prefix: Any = traitlets.Tuple()
    refreshed_by = ("user", "beam", "verification")
    agreement: UserAgreement | None = None

    def drawings(self) -> Drawings:
        """The ranks of the prefixes in both searches, and the shares that both keep."""
        return [self._ranks, self._bars]

    def build(self) -> list[widgets.Widget]:
        """Controls, both figures, and the explanation of a prefix."""
        self.prefix = self._options()[0][1]
        self.explanation = widgets.HTML()
        for shared, trace in MARKS.items():
            self.figure.data[trace].on_click(partial(self._clicked, shared))
        self.prefix_choice = ChoiceBox("Prefix", on_choice=partial(setattr, self, "prefix"))
        self.observe(self._explain, "prefix")
        right = [self.summary, self.prefix_choice, self.explanation]
        return [row(*self.controls()), columns(self.figures, right)]

    # ---- reactions --------------------------------------------------------------------------

    def compute(self, change: Any = None) -> None:
        """Search for all users (unless only the user changed), and compare for one."""
        try:
            if change is None or change.name != "user" or self.agreement is None:
                searches = TwoSearches(self.subject, self.beam, self.verification)
            else:
                searches = self.agreement.searches
            self.agreement, self.problem = UserAgreement(searches, self.user), ""
        except ValueError as error:
            self.agreement, self.problem = None, str(error)

    def tell(self) -> None:
        """Show everything but the figures; the prefix explained stays if it is still there."""
        super().tell()
        options = self._options()
        if self.prefix not in [codes for _, codes in options]:
            self.prefix = options[0][1]
        self.prefix_choice.offer(options)
        self._explain()

    def _explain(self, change: Any = None) -> None:
        self.prefix_choice.choose(self.prefix)
        xs, ys = agreement_figures.selected_ends(self._selected())
        self.figure.data[SELECTED].update(x=xs, y=ys)
        self.explanation.value = paragraphs(self._description())

    def _clicked(self, shared: bool, trace: Any, points: Any, state: Any) -> None:
        for index in points.point_inds:
            self.prefix = rank_marks(self._levels(), shared)[index].prefix.codes

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """The comparison on show, or what went wrong, in plain text."""
        if (agreement := self.agreement) is None:
            return [self.problem]
        searches = agreement.searches
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
        length = len(agreement.model_items[:COMPARED])
        return [*lines, f"The lists share {agreement.shared_items} of {length} items."]

    def _description(self) -> list[str]:
        selected = self._selected()
        return [agreement_figures.describe(selected)] if selected else []

    # ---- what is drawn ----------------------------------------------------------------------

    def _levels(self) -> list[LevelAgreement]:
        if self.agreement is not None:
            return self.agreement.levels
        numbers = range(1, self.subject.semantic_ids.levels + 1)
        return [LevelAgreement(number, (), 0) for number in numbers]

    def _prefixes(self) -> list[ComparedPrefix]:
        return [prefix for level in self._levels() for prefix in level.prefixes]

    def _options(self) -> list[tuple[str, tuple[int, ...]]]:
        names = (
            (f"level {len(one.codes)}: {code_text(one.codes)}", one) for one in self._prefixes()
        )
        return [(name, one.codes) for name, one in names] or [NO_PREFIX]

    def _selected(self) -> ComparedPrefix | None:
        return next((one for one in self._prefixes() if one.codes == self.prefix), None)

    def _ranks(self) -> Figure:
        return agreement_figures.ranks_figure(self._levels(), self._selected())

    def _bars(self) -> Figure:
        one = self.agreement
        series = {
            "in the head's beam, this user": one.shares if one else [],
            f"mean of {len(self.subject.users)} users": one.searches.mean_shares if one else [],
            "foreseen by the speculative draft": one.accepted if one else [],
        }
        return agreement_figures.shares_figure(series, caption=BARS)

    def blocks(self) -> list[Any]:
        """The comparison on show: sentences, ranks, the prefix explained, shares."""
        words, ranks, bars = super().blocks()
        return [words, ranks, self._description(), bars]


class UserAgreement:
    """Where both searches agree for one user, and what that saves a speculative decoder.

    Attributes:
        searches: both, for all users.
        levels: their prefixes, level by level.
        shares: of the prefixes that the model kept at each level, the share that the head kept.
        accepted: likewise the share that a speculative draft foresaw, without the last level.
        speculative_calls: how often the speculative decoder called the backbone.
        autoregressive_calls: how often the autoregressive one did.
        head_items: NEZHA's list, best first; NOT_FOUND for an ID without item.
        model_items: the autoregressive decoder's.
        shared_items: how many of their first ten items both lists have in common.
    """

    def __init__(self, searches: TwoSearches, user: int) -> None:
        subject, row = searches.subject, searches.subject.users.index(user)
        # On its own: a batch takes as many passes as its hardest prompt.
        speculative = searches.speculative.decode(subject.prompts(user), searches.beam)
        assert speculative.accepted is not None  # this decoder always reports it
        self.searches = searches
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
