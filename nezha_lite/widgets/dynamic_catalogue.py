"""A catalogue whose items come and go while a model stays as it is, and what it serves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch

from nezha_lite.decoding import NezhaDecoder, Verification
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.plots.id_map_figures import Landed, Landing
from nezha_lite.widgets.item_list import ListRow, list_rows
from nezha_lite.widgets.panel import Subject


@dataclass(frozen=True)
class Served:
    """One user's drafts and list.

    Attributes:
        drafts: the IDs of the unchecked decode, best first, and what the catalogue says of them.
        rows: the filled places of the list; `items` names only what may be listed.
    """

    drafts: tuple[Landed, ...]
    rows: tuple[ListRow, ...]

    @property
    def instead(self) -> tuple[Landed, ...]:
        """IDs of the list that the unchecked decode had not drafted."""
        drafted = {draft.codes for draft in self.drafts}
        found = (row.codes for row in self.rows if row.codes not in drafted)
        return tuple(Landed(codes, Landing.INSTEAD) for codes in found)

    def counts(self) -> dict[Landing, int]:
        """How many drafts are accepted, rejected, and withdrawn, in this order."""
        landings = [draft.landing for draft in self.drafts]
        return {kind: landings.count(kind) for kind in Landing if kind is not Landing.INSTEAD}

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


class LivingCatalogue:
    """A verifier of its own for a subject's catalogue, so that nothing else notices a change.

    Attributes:
        categories: the items of each category, categories in alphabetical order.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.recommender = Recommender(subject.model, subject.semantic_ids)
        found = defaultdict(set)
        for item, text in enumerate(subject.dataset.texts or ()):
            for category in map(str.strip, text.categories):
                found[category].add(item)
        found.pop("", None)
        self.categories = {name: frozenset(found[name]) for name in sorted(found)}

    def keep_removed(self, items: Collection[int]) -> None:
        """Let just these items be out of the catalogue; ValueError for an unknown one."""
        wanted = frozenset(items)
        self.recommender.remove_items(wanted - self.recommender.removed)
        self.recommender.restore_items(self.recommender.removed - wanted)

    def gone(self, forbidden: str) -> frozenset[int]:
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
        prompts = subject.model.build_prompts([subject.histories[user]], subject.semantic_ids)
        decoder = NezhaDecoder(subject.model, recommender.verifier, verification)
        result = decoder.decode(prompts, beam, requests=requests)
        rows = list_rows(result, 0, subject.semantic_ids, subject.popularity)
        return Served(
            tuple(
                self._landed(key, accepted)
                for key, accepted in zip(drafts[0].tolist(), exists[0].tolist(), strict=True)
                if key >= 0
            ),
            tuple(self._living(row, self.gone(forbidden)) for row in rows),
        )

    def _landed(self, key: int, accepted: bool) -> Landed:
        ids = self.subject.semantic_ids
        landing = Landing.WITHDRAWN if ids.items_of(key) else Landing.REJECTED
        codes = tuple(ids.codes_of(torch.tensor(key)).tolist())
        return Landed(codes, Landing.ACCEPTED if accepted else landing)

    def _living(self, row: ListRow, gone: frozenset[int]) -> ListRow:
        items = tuple(item for item in row.items if item not in gone)
        if items or not row.items:
            return replace(row, items=items)
        return replace(row, items=(), note=f"removed: {self.subject.dataset.title(row.items[0])}")
