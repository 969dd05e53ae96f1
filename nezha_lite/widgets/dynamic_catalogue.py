"""A catalogue whose items are removed and restored while the model stays as it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch

from nezha_lite.decoding import NezhaDecoder, Verification
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.plots.id_map_figures import IdOutcome, MapMark
from nezha_lite.widgets.subject import Subject
from nezha_lite.widgets.tables import ListRow


@dataclass(frozen=True)
class Served:
    """One user's drafts and list.

    Attributes:
        drafts: the IDs of the unchecked decode, best first, and what the catalogue says of them.
        rows: the filled places of the list; `items` names only what may be listed.
    """

    drafts: tuple[MapMark, ...]
    rows: tuple[ListRow, ...]

    @property
    def instead(self) -> tuple[MapMark, ...]:
        """IDs of the list that are not among the unchecked drafts."""
        drafted = {draft.codes for draft in self.drafts}
        codes = (row.codes for row in self.rows if row.codes not in drafted)
        return tuple(MapMark(one, IdOutcome.INSTEAD) for one in codes)

    def counts(self) -> dict[IdOutcome, int]:
        """How many drafts are accepted, rejected, and withdrawn, in this order."""
        outcomes = [draft.outcome for draft in self.drafts]
        return {kind: outcomes.count(kind) for kind in IdOutcome if kind is not IdOutcome.INSTEAD}

    def fate_of_drafts(self) -> str:
        """The counts in a sentence."""
        accepted, missing, withdrawn = self.counts().values()
        if not withdrawn:
            return f"Of {len(self.drafts)} drafts {accepted} exist; {missing} are rejected."
        return (
            f"Of {len(self.drafts)} drafts {accepted} are accepted; {missing + withdrawn} are "
            f"rejected: {missing} name no item, {withdrawn} what is removed or forbidden."
        )

    @property
    def items(self) -> list[int]:
        """The items of the list, best first."""
        return [item for row in self.rows for item in row.items]


class DynamicCatalogue:
    """A verifier of its own for a subject's catalogue: a change affects no other widget.

    Attributes:
        categories: the items of each category, categories in alphabetical order.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.recommender = Recommender(subject.model, subject.semantic_ids)
        items = defaultdict(set)
        for item, text in enumerate(subject.dataset.texts or ()):
            for category in filter(None, map(str.strip, text.categories)):
                items[category].add(item)
        self.categories = {name: frozenset(items[name]) for name in sorted(items)}

    def set_removed(self, items: Collection[int]) -> None:
        """Let exactly these items be out of the catalogue; ValueError for an unknown one."""
        target = frozenset(items)
        self.recommender.remove_items(target - self.recommender.removed)
        self.recommender.restore_items(self.recommender.removed - target)

    def withheld(self, forbidden: str) -> frozenset[int]:
        """All items that may not be listed while this category is forbidden."""
        return self.recommender.removed | self.categories.get(forbidden, frozenset())

    def serve(
        self, user: int, beam: int, verification: Verification, forbidden: str = ""
    ) -> Served:
        """Decode one user's list without the items of the category `forbidden`, if there is one."""
        subject, recommender = self.subject, self.recommender
        banned = self.categories.get(forbidden, frozenset())
        requests = recommender.request_filter(deny=[banned]) if banned else None
        drafts = subject.decode(user, beam, "off").keys  # (1, K)
        exists = recommender.verifier.contains(drafts)  # (1, K)
        if requests is not None:
            exists &= requests.admits(subject.semantic_ids.levels, drafts)
        decoder = NezhaDecoder(subject.model, recommender.verifier, verification)
        result = decoder.decode(subject.prompts(user), beam, requests=requests)
        withheld = self.withheld(forbidden)
        pairs = zip(drafts[0].tolist(), exists[0].tolist(), strict=True)
        return Served(
            tuple(self._mark(key, accepted) for key, accepted in pairs if key >= 0),
            tuple(self._without(row, withheld) for row in subject.list_rows(result)),
        )

    def _mark(self, key: int, accepted: bool) -> MapMark:
        ids = self.subject.semantic_ids
        outcome = IdOutcome.WITHDRAWN if ids.items_of(key) else IdOutcome.REJECTED
        codes = tuple(ids.codes_of(torch.tensor(key)).tolist())
        return MapMark(codes, IdOutcome.ACCEPTED if accepted else outcome)

    def _without(self, row: ListRow, withheld: frozenset[int]) -> ListRow:
        items = tuple(item for item in row.items if item not in withheld)
        if items or not row.items:
            return replace(row, items=items)
        return replace(row, items=(), note=f"removed: {self.subject.dataset.title(row.items[0])}")
