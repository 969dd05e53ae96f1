"""What prefixes keep (neighbours, categories, groups under another seed) against slow versions."""

import math
from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quality import id_quality, item_categories
from nezha_lite.semantic_ids.quality import prefixes as prefixes_module
from nezha_lite.semantic_ids.quantizers import RQKMeans, RQKMeansConfig
from tests.helpers.builders import catalogue
from tests.helpers.slow_quantizing import clustered
from tests.helpers.toys import toy_dataset

LABELS = ["red", "red", "blue", "", "red", "blue", "green", "red", "blue"]


def ids(codes: list[list[int]], radices: tuple[int, ...] | None = None) -> SemanticIds:
    return SemanticIds.from_codes(codes, radices)


# ---- slow versions -------------------------------------------------------------------------------


def slow_neighbours(vectors: torch.Tensor, semantic_ids: SemanticIds, k: int, level: int) -> float:
    """Mean over items of the expected hits when ties are broken at random."""
    rows = vectors.double().tolist()
    alive = [item for item, row in enumerate(rows) if any(row)]
    prefix = [tuple(row[:level]) for row in semantic_ids.codes.tolist()]
    k = min(k, len(alive) - 1)
    found = []
    for item in alive:
        cosines = {
            other: round(
                sum(a * b for a, b in zip(rows[item], rows[other], strict=True))
                / math.hypot(*rows[item])
                / math.hypot(*rows[other]),
                9,
            )
            for other in alive
            if other != item
        }
        last = sorted(cosines.values(), reverse=True)[k - 1]
        above = [other for other, cosine in cosines.items() if cosine > last]
        tied = [other for other, cosine in cosines.items() if cosine == last]
        same = {other: prefix[other] == prefix[item] for other in cosines}
        hits = sum(same[other] for other in above)
        hits += (k - len(above)) * sum(same[other] for other in tied) / len(tied)
        found.append(hits / k)
    return sum(found) / len(found)


def slow_rand_index(one: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> float | None:
    """Hubert and Arabie's adjustment, pair by pair."""
    pairs = list(combinations(range(len(one)), 2))
    a = sum(one[i] == one[j] for i, j in pairs)
    b = sum(other[i] == other[j] for i, j in pairs)
    both = sum(one[i] == one[j] and other[i] == other[j] for i, j in pairs)
    expected = a * b / len(pairs) if pairs else 0.0
    most = (a + b) / 2
    return None if most == expected else (both - expected) / (most - expected)


# ---- neighbours ---------------------------------------------------------------------------------


@given(st.integers(2, 14), st.integers(0, 100), st.integers(1, 12))
def test_neighbours_agree_with_a_brute_force(n: int, seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few directions, so that ties, duplicates and zero rows are common.
    vectors = torch.randint(-1, 2, (n, 2), generator=generator).float()
    semantic_ids = catalogue(n, (2, 2), seed)
    quality = id_quality(semantic_ids, vectors, neighbours=k)
    alive = vectors.ne(0).any(dim=1)
    assert quality.zero_vectors == n - int(alive.sum())
    if alive.sum() < 2:
        assert quality.prefixes[0].neighbours is None
        return
    for prefix in quality.prefixes:
        expected = slow_neighbours(vectors, semantic_ids, k, prefix.level)
        assert prefix.neighbours == pytest.approx(expected)
        codes = semantic_ids.codes[alive, : prefix.level].tolist()
        pairs = list(combinations(codes, 2))
        chance = sum(one == other for one, other in pairs) / len(pairs)
        assert prefix.neighbours_chance == pytest.approx(chance)
        assert prefix.neighbours <= prefix.neighbours_possible + 1e-9
        assert prefix.lift is None if chance == 0 else prefix.lift is not None


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, semantic_ids = clustered(90), catalogue(90, (4, 4))
    whole = id_quality(semantic_ids, vectors)
    monkeypatch.setattr(prefixes_module, "_CELLS_AT_ONCE", 200)
    assert id_quality(semantic_ids, vectors).metrics() == pytest.approx(whole.metrics())


def test_prefixes_that_follow_the_clusters_keep_all_neighbours() -> None:
    axis = torch.arange(40) % 4
    vectors = torch.eye(4)[axis] + 0.01 * torch.rand(
        40, 4, generator=torch.Generator().manual_seed(0)
    )
    level = id_quality(ids(axis[:, None].tolist()), vectors, neighbours=5).prefixes[0]
    assert level.neighbours == pytest.approx(1.0)
    assert level.neighbours_possible == 1.0
    assert level.neighbours_chance == pytest.approx(9 / 39)
    assert level.lift == pytest.approx(39 / 9)
    # The tenth neighbour cannot be of a group of ten.
    wide = id_quality(ids(axis[:, None].tolist()), vectors, neighbours=10).prefixes[0]
    assert wide.neighbours == wide.neighbours_possible == pytest.approx(0.9)


def test_prefixes_across_the_clusters_keep_none() -> None:
    angle = torch.arange(20) // 2 * 0.6  # pairs in ten directions, one of each in either group
    vectors = torch.stack([angle.cos(), angle.sin()], dim=1)
    level = id_quality(ids([[item % 2] for item in range(20)]), vectors, neighbours=1).prefixes[0]
    assert level.neighbours == 0.0
    assert level.lift == 0.0


def test_equal_vectors_give_what_chance_gives() -> None:
    semantic_ids = catalogue(30, (3, 3))
    quality = id_quality(semantic_ids, torch.ones(30, 5))
    for prefix in quality.prefixes:
        assert prefix.neighbours == pytest.approx(prefix.neighbours_chance)


def test_a_sample_of_queries_comes_near_all_of_them() -> None:
    vectors = clustered(600)
    semantic_ids = SemanticIds.from_codes(
        RQKMeans(RQKMeansConfig(levels=2, codes=8)).fit(vectors).encode(vectors)
    )
    whole, part, again, other = (
        id_quality(semantic_ids, vectors, queries=queries, seed=seed).prefixes[1].neighbours
        for queries, seed in ((600, 0), (200, 0), (200, 0), (200, 1))
    )
    assert part == again != other
    assert part == pytest.approx(whole, abs=0.05)


# ---- categories ---------------------------------------------------------------------------------


def test_purity_counted_by_hand() -> None:
    #             a a a a  b b  c  d d
    semantic_ids = ids([[0], [0], [0], [0], [1], [1], [2], [3], [3]])
    level = id_quality(semantic_ids, categories=LABELS).prefixes[0]
    # Without the item of no category: {red, red, blue}, {red, blue}, {red, blue}; "c" is alone.
    assert level.purity == pytest.approx((2 + 1 + 1) / 7)
    assert level.purity_items == pytest.approx(7 / 8)


@given(st.integers(2, 40), st.integers(0, 50))
def test_purity_agrees_with_a_slow_one_and_chance_lies_in_range(n: int, seed: int) -> None:
    semantic_ids = catalogue(n, (4, 4), seed)
    labels = [str((7 * item + seed) % 3) for item in range(n)]
    for prefix in id_quality(semantic_ids, categories=labels).prefixes:
        groups = defaultdict(list)
        for row, label in zip(semantic_ids.codes.tolist(), labels, strict=True):
            groups[tuple(row[: prefix.level])].append(label)
        large = [group for group in groups.values() if len(group) > 1]
        if not large:
            assert prefix.purity is prefix.purity_chance is prefix.purity_items is None
            continue
        total = sum(map(len, large))
        assert prefix.purity == pytest.approx(
            sum(max(Counter(group).values()) for group in large) / total
        )
        assert prefix.purity_items == pytest.approx(total / n)
        assert len(large) / total <= prefix.purity_chance <= 1


def test_chance_of_purity_is_what_shuffling_gives() -> None:
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 300, size=(900, 1))
    labels = draw.choice(["a", "b", "c"], size=900, p=[0.5, 0.3, 0.2]).tolist()
    level = id_quality(ids(codes.tolist()), categories=labels).prefixes[0]
    assert level.purity == pytest.approx(level.purity_chance, abs=0.04), "labels at random"
    sorted_labels = [f"{code % 3}" for (code,) in codes.tolist()]
    pure = id_quality(ids(codes.tolist()), categories=sorted_labels).prefixes[0]
    assert pure.purity == 1.0
    assert 0.5 < pure.purity_chance < 0.8


def test_categories_are_cut_where_they_tell_items_apart() -> None:
    paths = [("Shop", "Tea &amp; Co", "Green")] * 2 + [("Shop", "Cups")] * 2 + [("Shop", "Pots")]
    paths += [("Shop",)]
    dataset = InteractionDataset(
        name="shop",
        items=tuple("abcdef"),
        users=("u",),
        sequences=((0, 1),),
        texts=tuple(ItemText("t", categories=path) for path in paths),
    )
    tea = "Shop > Tea & Co"
    assert item_categories(dataset) == [tea, tea, "Shop > Cups", "Shop > Cups", "Shop > Pots", ""]
    assert item_categories(dataset, depth=1) == ["Shop"] * 6
    assert item_categories(dataset, depth=3) == ["Shop > Tea & Co > Green"] * 2 + [""] * 4
    with pytest.raises(ValueError, match="depth is 0"):
        item_categories(dataset, depth=0)
    assert item_categories(toy_dataset()) == [
        f"home > {thing}" for thing in ("mug", "lamp", "chair", "rug") for _ in range(5)
    ]
    bare = InteractionDataset(name="bare", items=("a",), users=("u",), sequences=((0,),))
    assert item_categories(bare) is None


# ---- stability ----------------------------------------------------------------------------------


@given(st.integers(1, 25), st.integers(0, 50))
def test_stability_agrees_pair_by_pair(n: int, seed: int) -> None:
    one, other = catalogue(n, (3, 3), seed), catalogue(n, (2, 4), seed + 1000)
    rows, others = one.codes.tolist(), other.codes.tolist()
    for prefix in id_quality(one, other_seed=other).prefixes:
        expected = slow_rand_index(
            [tuple(row[: prefix.level]) for row in rows],
            [tuple(row[: prefix.level]) for row in others],
        )
        assert prefix.stability == (None if expected is None else pytest.approx(expected))


def test_stability_is_one_for_renamed_codes_and_near_zero_for_others() -> None:
    codes = torch.randint(0, 8, (400, 2), generator=torch.Generator().manual_seed(0))
    one = SemanticIds.from_codes(codes, (8, 8))
    renamed = SemanticIds.from_codes((3 * codes + 1) % 8, (8, 8))
    assert [p.stability for p in id_quality(one, other_seed=renamed).prefixes] == [1.0, 1.0]
    shuffled = SemanticIds.from_codes(codes.flip(0), (8, 8))
    for prefix in id_quality(one, other_seed=shuffled).prefixes:
        assert prefix.stability == pytest.approx(0.0, abs=0.02)


def test_stability_knows_when_it_has_nothing_to_say() -> None:
    unique = ids([[0, 0], [0, 1], [1, 0]])
    # All first codes are equal in the other; the full IDs are unique in both.
    other = ids([[0, 0], [0, 1], [0, 2]])
    assert [p.stability for p in id_quality(unique, other_seed=other).prefixes] == [0.0, None]
    shorter = ids([[0], [0], [1]])
    assert [p.stability for p in id_quality(unique, other_seed=shorter).prefixes] == [1.0, None]


# ---- what must not change the report ------------------------------------------------------------


@given(st.integers(2, 30), st.integers(0, 50))
def test_renaming_codes_and_reordering_items_change_nothing(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    semantic_ids = catalogue(n, (4, 3), seed)
    other = catalogue(n, (4, 3), seed + 1)
    vectors = torch.randint(-2, 3, (n, 3), generator=generator).float()
    labels = [LABELS[item % len(LABELS)] for item in range(n)]
    before = id_quality(semantic_ids, vectors, labels, other).metrics()
    names = [torch.randperm(radix, generator=generator) for radix in (4, 3)]
    renamed = SemanticIds.from_codes(
        torch.stack([names[level][semantic_ids.codes[:, level]] for level in (0, 1)], dim=1), (4, 3)
    )
    # No extra level, whatever the codes happen to be called.
    plain = id_quality(semantic_ids, vectors, labels, other, extra_level=False).metrics()
    again = id_quality(renamed, vectors, labels, other, extra_level=False).metrics()
    assert again == pytest.approx(plain, rel=1e-5)
    order = torch.randperm(n, generator=generator)
    moved = id_quality(
        SemanticIds.from_codes(semantic_ids.codes[order], (4, 3)),
        vectors[order],
        [labels[item] for item in order.tolist()],
        SemanticIds.from_codes(other.codes[order], (4, 3)),
    ).metrics()
    assert moved == pytest.approx(before, rel=1e-5)
