"""The synthetic shop behind `data/sample`: a catalogue, users, and a process known exactly.

Real logs never say how good a recommender could be. Here the next item is drawn from a known
distribution, so the best possible ranking (the oracle) can be computed and compared with every
measured model. What follows an item depends on its type, brand and colour, which its text names:
a model that only sees semantic IDs made from the text can learn it.

`tools/make_sample.py` writes the committed files byte for byte. For that, only `Random.random` (the
one generator Python promises to keep) and exactly rounded arithmetic decide what is drawn.
"""

from __future__ import annotations

import json
import math
import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise

from nezha_lite.common.checks import check, check_counts, check_shares
from nezha_lite.datasets import DATA_FOLDER, InteractionDataset, ItemText, Sequences

# Departments of four invented brands and four subcategories; each subcategory has three product
# types and three of the brands, each with its material. Types stand in the order in which one
# would buy them, and that order is what users follow.
VOCABULARY_FILE = DATA_FOLDER / "sample" / "vocabulary.json"
Shelf = tuple[str, int, int]  # department, position among its 12 product types, brand
Scores = Callable[[int, Sequence[int]], Sequence[float]]  # (user, history) -> N scores


@dataclass(frozen=True)
class SampleConfig:
    """Sizes and probabilities of the shop; the defaults make the committed sample.

    `follow`: the chances of an item's six successors, in the order of `Shop.successors`.
    `taste`: the chance of a jump to something the user likes. What then remains is the chance
    of an item drawn by its popularity in the whole shop.
    """

    users: int = 4000
    seed: int = 2026
    follow: tuple[float, ...] = (0.22, 0.13, 0.07, 0.04, 0.03, 0.02)
    taste: float = 0.24
    stay: float = 0.81  # chance of one more item after the fifth; the longest history is 25
    liked_subcategories: int = 4
    brand_loyalty: float = 2.0  # how many times likelier a liked brand's items are

    def __post_init__(self) -> None:
        follow = math.fsum(self.follow)
        six = len(self.follow) == 6 and min(self.follow) >= 0 and follow <= 1
        check(six, "follow", self.follow, "six chances that add up to 1 at most")
        check_counts(self, "users", "liked_subcategories")
        check_shares(self, "stay")
        left = 1 - follow
        check(0 <= self.taste <= left, "taste", self.taste, f"0 to {left:g}, what follow leaves")
        check(self.brand_loyalty >= 1, "brand_loyalty", self.brand_loyalty, "at least 1")


@dataclass(frozen=True)
class Shop:
    """The generated data and the hidden truth behind it.

    `successors`: (N, 6) items that follow each item, the likeliest first. `popularity`: (N,)
    probabilities. `tastes`: per user, item -> probability that a jump by taste lands there.
    """

    config: SampleConfig
    dataset: InteractionDataset
    successors: tuple[tuple[int, ...], ...]
    popularity: tuple[float, ...]
    tastes: tuple[dict[int, float], ...]


@cache
def build_shop(config: SampleConfig = SampleConfig()) -> Shop:
    """Generate the shop: a pure function of `config`."""
    rng = random.Random(config.seed)
    texts, shelves = _catalogue()
    successors = _successors(shelves)
    follow = list(accumulate(config.follow))
    order = list(range(len(texts)))
    for i in range(len(order) - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        order[i], order[j] = order[j], order[i]
    # Zipf-Mandelbrot: the shift keeps the head from taking the visits that the tail is learnt by.
    popularity = _normalised({item: 1 / (rank + 40) for rank, item in enumerate(order)})
    by_popularity = _Draw(popularity)
    subcategories: dict[str, list[int]] = {}
    for item, text in enumerate(texts):
        subcategories.setdefault(text.categories[1], []).append(item)

    tastes, sequences = [], []
    for _ in range(config.users):
        weights: dict[int, float] = {}
        for _ in range(config.liked_subcategories):
            liked = texts[int(rng.random() * len(texts))]
            for item in subcategories[liked.categories[1]]:
                loyalty = config.brand_loyalty if texts[item].brand == liked.brand else 1.0
                weights[item] = loyalty * popularity[item]
        tastes.append(_normalised(weights))
        by_taste = _Draw(tastes[-1])
        items = [by_taste(rng)]
        while len(items) < 5 or (len(items) < 25 and rng.random() < config.stay):
            last = items[-1]
            chance = rng.random()
            if chance < follow[-1]:
                items.append(successors[last][bisect(follow, chance)])
                continue
            draw = by_taste if chance < follow[-1] + config.taste else by_popularity
            while (item := draw(rng)) == last:
                pass
            items.append(item)
        sequences.append(tuple(items))
    names, users = (tuple(map(str, range(n))) for n in (len(texts), config.users))
    dataset = InteractionDataset("sample", names, users, Sequences.of(sequences), tuple(texts))
    shares = tuple(popularity[item] for item in range(len(texts)))
    return Shop(config, dataset, successors, shares, tuple(tastes))


def oracle_scores(shop: Shop, user: int, last: int) -> list[float]:
    """P(next item | the user's taste, the last item) for all N items; they add up to 1."""
    config, taste = shop.config, shop.tastes[user]
    jump = (1 - config.taste - math.fsum(config.follow)) / (1 - shop.popularity[last])
    scores = [jump * share for share in shop.popularity]
    liked = config.taste / (1 - taste.get(last, 0.0))
    for item, share in taste.items():
        scores[item] += liked * share
    scores[last] = 0.0  # the same item never comes twice in a row
    for item, chance in zip(shop.successors[last], config.follow, strict=True):
        scores[item] += chance
    return scores


def reference_figures(shop: Shop, k: int = 10) -> dict[str, tuple[float, float]]:
    """(Recall@k, NDCG@k) on the test split: the oracle, and counting in the training part."""
    sold: Counter[int] = Counter()
    followed: dict[int, Counter[int]] = {}
    for sequence in shop.dataset.train_sequences():
        sold.update(sequence)
        for item, following in pairwise(sequence):
            followed.setdefault(item, Counter())[following] += 1
    popular = [sold[item] / (1 + sold.total()) for item in range(shop.dataset.n_items)]

    def bigram(user: int, history: Sequence[int]) -> list[float]:
        scores = popular.copy()  # below 1: it only decides between equal counts
        for item, count in followed.get(history[-1], Counter()).items():
            scores[item] += count
        return scores

    return {
        "oracle": _recall_and_ndcg(shop, lambda u, h: oracle_scores(shop, u, h[-1]), k),
        "bigram counts": _recall_and_ndcg(shop, bigram, k),
        "popularity": _recall_and_ndcg(shop, lambda user, history: popular, k),
    }


class _Draw:
    """Draws keys with the given probabilities, by one uniform number each."""

    def __init__(self, shares: dict[int, float]) -> None:
        self.keys = list(shares)
        self.cumulative = list(accumulate(shares.values()))

    def __call__(self, rng: random.Random) -> int:
        index = bisect(self.cumulative, rng.random() * self.cumulative[-1])
        return self.keys[min(index, len(self.keys) - 1)]


def _normalised(weights: dict[int, float]) -> dict[int, float]:
    *_, total = accumulate(weights.values())  # sum() rounds differently from Python 3.12 on
    return {item: weight / total for item, weight in weights.items()}


def _catalogue() -> tuple[list[ItemText], dict[Shelf, list[int]]]:
    """The items' texts, and the items on every shelf in the order of the colours."""
    vocabulary = json.loads(VOCABULARY_FILE.read_text(encoding="utf-8"))
    colours = vocabulary["colours"]
    texts: list[ItemText] = []
    shelves: dict[Shelf, list[int]] = {}
    for number, (department, content) in enumerate(vocabulary["departments"].items()):
        for row, (subcategory, shelf_words) in enumerate(content["subcategories"].items()):
            for position, kind in enumerate(shelf_words["types"], start=3 * row):
                for slot, material in enumerate(shelf_words["materials"]):
                    brand = (row + slot) % 4
                    name = content["brands"][brand]
                    shelves[department, position, brand] = []
                    for shade in range(7):
                        colour = colours[(5 * number + 3 * brand + shade) % len(colours)]
                        shelves[department, position, brand].append(len(texts))
                        path = (department, subcategory, kind)
                        description = f"{kind} in {colour}, {material}"
                        texts.append(ItemText(f"{name} {kind}, {colour}", name, path, description))
    return texts, shelves


def _successors(shelves: dict[Shelf, list[int]]) -> tuple[tuple[int, ...], ...]:
    def find(department: str, position: int, brand: int, shade: int) -> int:
        shelf = (department, position % 12, brand % 4)
        if shelf not in shelves:  # three of four brands serve a subcategory: use a counterpart
            shelf = (department, position % 12, (brand - 1) % 4)
        return shelves[shelf][shade % 7]

    return tuple(
        (
            find(department, position + 1, brand, shade),  # the next thing, matching
            find(department, position + 2, brand, shade),  # the one after it
            find(department, position + 1, brand, shade + 1),  # the next thing in another colour
            find(department, position + 3, brand, shade),  # its counterpart in the next subcategory
            find(department, position + 1, brand + 2, shade),  # the next thing from another brand
            find(department, position, brand + 2, shade),  # the same thing from another brand
        )
        for department, position, brand in shelves
        for shade in range(7)
    )


def _recall_and_ndcg(shop: Shop, scores_of: Scores, k: int) -> tuple[float, float]:
    """Means over the test users; equal scores are ranked by item index."""
    split = shop.dataset.split("test")
    gains = []
    for user, history, target in zip(split.users, split.histories, split.targets, strict=True):
        scores = scores_of(user, history)
        score = scores[target]
        rank = sum(other > score for other in scores) + scores[:target].count(score)
        gains.append(1 / math.log2(rank + 2) if rank < k else 0.0)
    return sum(gain > 0 for gain in gains) / len(gains), math.fsum(gains) / len(gains)
