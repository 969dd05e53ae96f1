"""Random calls of `Recommender.recommend`, and what must be true of their answers."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import Verification
from nezha_lite.decoding.recommender import Recommendation, Recommender
from nezha_lite.semantic_ids import SemanticIds

Lists = list[list[Recommendation]]
Sets = tuple[frozenset[int] | None, ...]


@dataclass(frozen=True)
class RandomCall:
    """The arguments of one call; see `Recommender.recommend`."""

    histories: tuple[tuple[int, ...], ...]
    k: int
    beam: int
    verification: Verification
    allow: Sets | None
    deny: Sets | None
    exclude_seen: bool

    @classmethod
    def draw(cls, draw: random.Random, dataset: InteractionDataset) -> RandomCall:
        """One to four histories of any length, none at all among them, and any other arguments.

        Beams and lists may be longer than the catalogue, and sets may leave nothing of it.
        """
        batch = draw.choice((1, 1, 1, 2, 3, 4))
        n_items = dataset.n_items
        return cls(
            tuple(_history(draw, dataset) for _ in range(batch)),
            k=draw.choice((1, 5, 10, 10, 10, 40, n_items + 7 if draw.random() < 0.1 else 20)),
            beam=draw.choice((1, 10, 50, 50, 200, 2 * n_items if draw.random() < 0.2 else 50)),
            verification=draw.choice(("prefix", "prefix", "prefix", "final", "off")),
            allow=_sets(draw, batch, n_items) if draw.random() < 0.25 else None,
            deny=_sets(draw, batch, n_items) if draw.random() < 0.4 else None,
            exclude_seen=draw.random() < 0.4,
        )

    def spoilt(self, draw: random.Random, n_items: int) -> RandomCall:
        """The same call with an item in it that the catalogue does not have.

        In a history it is among the latest, for what is not read may be unknown.
        """
        unknown = draw.choice((-1, n_items, n_items + 1, 2**40, -(2**63)))
        if draw.random() < 0.5:
            return replace(self, deny=(frozenset({0, unknown}),))
        first, *others = self.histories
        place = len(first) - draw.randrange(min(5, len(first)) + 1)
        spoilt = (*first[:place], unknown, *first[place:])
        return replace(self, histories=(spoilt, *others))

    def ask(self, trained: Recommender) -> Lists:
        """The call itself."""
        return trained.recommend(
            self.histories,
            k=self.k,
            beam=self.beam,
            verification=self.verification,
            allow=self.allow,
            deny=self.deny,
            exclude_seen=self.exclude_seen,
        )

    def fault(self, lists: Lists, ids: SemanticIds, removed: Collection[int] = ()) -> str | None:
        """What is wrong with an answer, given that these items were removed; None if nothing is.

        Every list holds different items, each of which exists and may be recommended, under its
        own name, by falling finite scores. It has k of them, or all that the sets leave; with
        "final" and "off" possibly fewer.
        """
        if len(lists) != len(self.histories):
            return f"{len(lists)} lists for {len(self.histories)} histories"
        for row, ranked in enumerate(lists):
            admitted = self._admitted(row, ids.n_items).difference(removed)
            items = [place.item for place in ranked]
            scores = [place.score for place in ranked]
            if wrong := set(items) - admitted:
                return f"list {row} holds item {min(wrong)}, which it must not"
            if len(set(items)) != len(items):
                return f"list {row} holds an item twice"
            if any(place.name != ids.items[place.item] for place in ranked):
                return f"list {row} calls an item by another's name"
            if scores != sorted(scores, reverse=True) or not all(map(math.isfinite, scores)):
                return f"list {row} has scores that do not fall, or are not finite"
            full = min(self.k, len(admitted))
            if len(items) > full or (self.verification == "prefix" and len(items) < full):
                return f"list {row} has {len(items)} items, not {full}"
        return None

    def names_unknown(self, ids: SemanticIds) -> bool:
        """Whether an item in it is none of the catalogue's, so that it must be refused."""
        sets = [items for items in (*(self.allow or ()), *(self.deny or ())) if items is not None]
        return any(
            not 0 <= item < ids.n_items for items in (*self.histories, *sets) for item in items
        )

    def _admitted(self, row: int, n_items: int) -> frozenset[int]:
        """The items that a list may hold, as long as they are in the catalogue."""
        allowed, denied = _of_row(self.allow, row), _of_row(self.deny, row)
        admitted = frozenset(range(n_items)) if allowed is None else allowed
        seen = self.histories[row] if self.exclude_seen else ()
        return admitted.difference(denied or (), seen)


def _of_row(sets: Sets | None, row: int) -> frozenset[int] | None:
    return None if sets is None else sets[row if len(sets) > 1 else 0]


def _history(draw: random.Random, dataset: InteractionDataset) -> tuple[int, ...]:
    """What a user did, all of it or its beginning; or anything, however long."""
    if draw.random() < 0.8:
        sequence: Sequence[int] = draw.choice(dataset.sequences)
        return tuple(sequence[: draw.randrange(len(sequence) + 1)])
    return tuple(draw.choices(range(dataset.n_items), k=draw.randrange(60)))


def _sets(draw: random.Random, batch: int, n_items: int) -> Sets:
    """A set for each history, or one for all: small, large, or of everything."""
    sizes = (0, 1, min(30, n_items), n_items // 2, max(0, n_items - 3), n_items)
    return tuple(
        None if draw.random() < 0.2 else frozenset(draw.sample(range(n_items), draw.choice(sizes)))
        for _ in range(draw.choice((1, batch)))
    )
