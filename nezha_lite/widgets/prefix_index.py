"""What lies behind a prefix: its items, what they have in common, and the prefixes near it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from nezha_lite.datasets import InteractionDataset
from nezha_lite.semantic_ids import SemanticIds

Prefix = tuple[int, ...]


@dataclass(frozen=True)
class Trait:
    """A word of the titles, or a category, and how many items have it.

    Attributes:
        name: the word in lower case, or the category as written.
        kind: "word" or "category".
        here: of the prefix's items.
        everywhere: of the whole catalogue.
    """

    name: str
    kind: str
    here: int
    everywhere: int


@dataclass(frozen=True)
class Neighbour:
    """A prefix of the same length, and how far its items' mean vector is."""

    prefix: Prefix
    items: tuple[int, ...]
    distance: float


class PrefixIndex:
    """Answers about the prefixes of a catalogue.

    Args:
        semantic_ids: the catalogue.
        dataset: for the texts; its items are those of `semantic_ids`, row by row.
        vectors: (N, D) item vectors, for the neighbours; without them there are none.

    Raises:
        ValueError: if the numbers of items disagree.
    """

    def __init__(
        self, semantic_ids: SemanticIds, dataset: InteractionDataset, vectors: Tensor | None = None
    ) -> None:
        counts = {"data set": dataset.n_items, "vectors": None if vectors is None else len(vectors)}
        for what, count in counts.items():
            if count not in (None, semantic_ids.n_items):
                raise ValueError(
                    f"The {what} has {count} items, but the semantic IDs name "
                    f"{semantic_ids.n_items}: load those that belong together."
                )
        self.semantic_ids = semantic_ids
        self.vectors = None if vectors is None else vectors.detach().cpu().double()
        self._traits = [_traits_of(dataset, item) for item in range(dataset.n_items)]
        self._everywhere = Counter(trait for traits in self._traits for trait in traits)
        self._centroids: dict[int, tuple[Tensor, Tensor]] = {}

    def items(self, prefix: Prefix) -> list[int]:
        """Items whose codes begin with the prefix, in catalogue order; () is every item."""
        return [int(item) for item in self._rows(prefix)]

    def children(self, prefix: Prefix) -> list[tuple[int, int]]:
        """(next code, how many items have it), the most frequent first; [] after the last level."""
        if len(prefix) == self.semantic_ids.levels:
            return []
        column = self.semantic_ids.codes[self._rows(prefix), len(prefix)]
        counts = Counter(column.tolist())
        return sorted(counts.items(), key=lambda child: (-child[1], child[0]))

    def common(self, prefix: Prefix, words: int = 5, categories: int = 3) -> list[Trait]:
        """Words and categories that set the prefix's items apart from the whole catalogue.

        Ordered by how much more frequent they are here, as a difference of shares; for the empty
        prefix simply the most frequent.
        """
        rows = self.items(prefix)
        here = Counter(trait for item in rows for trait in self._traits[item])
        whole = self.semantic_ids.n_items

        def rank(trait: tuple[str, str]) -> tuple[float, float, str]:
            share, usual = here[trait] / len(rows), self._everywhere[trait] / whole
            return (round(usual - share, 9), -share, trait[1])

        chosen = []
        for kind, room in (("word", words), ("category", categories)):
            ranked = sorted((trait for trait in here if trait[0] == kind), key=rank)
            for trait in ranked[:room]:
                chosen.append(Trait(trait[1], kind, here[trait], self._everywhere[trait]))
        return chosen

    def neighbours(self, prefix: Prefix, n: int = 5) -> list[Neighbour]:
        """The n prefixes of the same length with the nearest mean vectors, the nearest first."""
        if self.vectors is None or not prefix:
            return []
        level = len(prefix)
        if level not in self._centroids:
            keys = self.semantic_ids.keys_of(self.semantic_ids.codes[:, :level])
            found, group = torch.unique(keys, return_inverse=True)
            sums = torch.zeros(len(found), self.vectors.shape[1], dtype=torch.float64)
            sums.index_add_(0, group, self.vectors)
            counts = torch.bincount(group, minlength=len(found))
            self._centroids[level] = (group, sums / counts[:, None])  # (N,), (P, D)
        group, centroids = self._centroids[level]
        own = int(group[self._rows(prefix)[0]])
        distances = (centroids - centroids[own]).norm(dim=1)
        distances[own] = torch.inf
        # Rounded, so that prefixes equally far come in the same order on every machine.
        order = torch.round(distances, decimals=6).argsort(stable=True)[
            : min(n, len(distances) - 1)
        ]
        return [self._neighbour(group, place, level, distances) for place in order.tolist()]

    def _neighbour(self, group: Tensor, place: int, level: int, distances: Tensor) -> Neighbour:
        items = (group == place).nonzero()[:, 0].tolist()
        codes = self.semantic_ids.codes[items[0], :level].tolist()
        return Neighbour(tuple(codes), tuple(items), float(distances[place]))

    def _rows(self, prefix: Prefix) -> Tensor:
        """Item indices (n,) of the prefix; ValueError if no item has it."""
        codes = self.semantic_ids.codes
        if len(prefix) <= codes.shape[1]:
            wanted = torch.tensor(prefix, dtype=torch.int64)
            rows = (codes[:, : len(prefix)] == wanted).all(dim=1).nonzero()[:, 0]
            if len(rows):
                return rows
        raise ValueError(f"No item's codes begin with {tuple(prefix)}.")


def _traits_of(dataset: InteractionDataset, item: int) -> set[tuple[str, str]]:
    if dataset.texts is None:
        return set()
    words = re.findall(r"\w+", dataset.title(item).casefold())
    categories = (category.strip() for category in dataset.texts[item].categories)
    return {("word", word) for word in words} | {("category", name) for name in categories if name}
