"""The quality report: counts by hand, what is wrong with IDs, edges and forms."""

import json
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nezha_lite.common.results import ResultRow, provenance
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quality import IdQuality, id_quality
from nezha_lite.semantic_ids.quantizers import RQKMeans, RQKMeansConfig
from tests.helpers.builders import catalogue
from tests.helpers.slow_quantizing import clustered

LABELS = ["red", "red", "blue", "", "red", "blue", "green", "red", "blue"]


def ids(codes: list[list[int]], radices: tuple[int, ...] | None = None) -> SemanticIds:
    return SemanticIds.from_codes(codes, radices)


def kinds(quality: IdQuality) -> list[tuple[str, int | None]]:
    return [(problem.kind, problem.level) for problem in quality.issues]


def slow_bits(values: list[object]) -> float:
    counts = Counter(values)
    return -sum(n / len(values) * math.log2(n / len(values)) for n in counts.values())


# ---- counts -------------------------------------------------------------------------------------


def test_a_catalogue_counted_by_hand() -> None:
    quality = id_quality(ids([[0, 0], [0, 0], [0, 1], [2, 1]], (4, 2)))
    assert (quality.items, quality.distinct, quality.space) == (4, 3, 8)
    assert quality.collision_rate == 0.25
    assert (quality.shared, quality.largest_group) == (2, 2)
    assert quality.occupancy == 3 / 8
    first, second = quality.levels
    assert (first.codes_used, first.radix, first.counts, first.prefixes) == (2, 4, (3, 1), 2)
    assert first.use == 0.5
    assert first.entropy == pytest.approx(2 - 0.75 * math.log2(3))  # shares 3/4 and 1/4
    assert first.perplexity == pytest.approx(4 / 3**0.75)
    assert first.attained == pytest.approx(3**-0.75)  # four items could use four codes equally
    assert first.top == 0.75
    assert (second.entropy, second.perplexity, second.attained) == (1.0, 2.0, 1.0)
    assert quality.prefixes[0].added_bits == first.entropy
    assert quality.prefixes[1].added_bits == pytest.approx(1.5 - first.entropy)


@given(st.integers(1, 40), st.integers(0, 50))
def test_counts_agree_with_slow_ones(n: int, seed: int) -> None:
    semantic_ids = catalogue(n, (5, 3, 2), seed)
    quality = id_quality(semantic_ids)
    codes = [tuple(row) for row in semantic_ids.codes.tolist()]
    assert quality.collision_rate == pytest.approx(semantic_ids.collision_rate)
    assert quality.occupancy == semantic_ids.occupancy
    groups = Counter(codes)
    assert quality.shared == sum(size for size in groups.values() if size > 1)
    assert quality.largest_group == max(groups.values())
    for place, level in enumerate(quality.levels):
        column = [row[place] for row in codes]
        assert level.entropy == pytest.approx(slow_bits(column), abs=1e-9)
        assert sum(level.counts) == n
        assert level.use == semantic_ids.codebook_use()[place]
        assert 0 < level.attained <= 1
        prefixes = [row[: place + 1] for row in codes]
        assert level.prefixes == len(set(prefixes))
        added = slow_bits(prefixes) - slow_bits([row[:place] for row in codes])
        assert quality.prefixes[place].added_bits == pytest.approx(added, abs=1e-9)


@pytest.mark.parametrize(("items", "radix", "codes"), [(8, 4, 4), (3, 4, 3), (5, 1, 1)])
def test_equal_use_attains_everything(items: int, radix: int, codes: int) -> None:
    level = id_quality(ids([[item % radix] for item in range(items)], (radix,))).levels[0]
    assert level.attained == pytest.approx(1.0)
    assert level.attainable_codes == codes
    assert level.perplexity == pytest.approx(codes)


def test_what_is_attainable_ends_with_the_different_vectors() -> None:
    vectors = torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 1.0], [-0.0, 1.0]])
    semantic_ids = ids([[3]] * 6 + [[0]] * 2, (64,))
    alone = id_quality(semantic_ids).levels[0]
    assert alone.attainable_codes == 8
    assert alone.attained < 0.25
    known = id_quality(semantic_ids, vectors)
    assert known.different_vectors == 2, "−0 is 0"
    assert known.levels[0].attainable_codes == 2
    assert known.levels[0].attained == 1.0
    assert not known.collapsed


# ---- what is wrong ------------------------------------------------------------------------------


def test_good_ids_have_no_problem() -> None:
    vectors = clustered(300)
    quantizer = RQKMeans(RQKMeansConfig(levels=3, codes=16)).fit(vectors)
    quality = id_quality(SemanticIds.from_codes(quantizer.encode(vectors), (16,) * 3), vectors)
    assert quality.problems() == []
    assert "No problem found." in quality.table()


def test_a_first_level_as_uneven_as_the_released_one_is_not_collapsed() -> None:
    # 197 of 256 codes, perplexity about a third: the shape of Beauty's released first level.
    sizes = [max(1, round(560 * 0.974**rank)) for rank in range(197)]
    codes = [[code, item % 256] for code, size in enumerate(sizes) for item in range(size)]
    quality = id_quality(ids(codes, (256, 256)))
    assert quality.levels[0].codes_used == 197
    assert 0.25 < quality.levels[0].attained < 0.5
    assert quality.collapsed == ()


def test_a_collapsed_level_is_named_measured_and_given_a_remedy() -> None:
    draw = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 64, (500, 3), generator=draw)
    codes[:, 1] = torch.where(torch.rand(500, generator=draw) < 0.98, 7, codes[:, 1])
    quality = id_quality(SemanticIds.from_codes(codes, (64, 64, 64)))
    assert quality.collapsed == (2,)
    (sentence,) = quality.problems()
    assert sentence.startswith("Level 2 has collapsed: it uses ")
    assert f"{quality.levels[1].codes_used} of 64 codes" in sentence
    assert f"{quality.levels[1].top:.1%} of the items" in sentence
    assert "choose fewer codes" in sentence
    assert sentence in quality.table()
    assert quality.metrics()["collapsed_levels"] == 1


@pytest.mark.parametrize(("used", "collapsed"), [(31, (1,)), (32, ())])
def test_half_of_the_codes_is_the_limit(used: int, collapsed: tuple[int, ...]) -> None:
    codes = [[item % used, item // 64 % 64] for item in range(4096)]
    assert id_quality(ids(codes, (64, 64))).collapsed == collapsed


def test_few_items_cannot_fill_a_codebook_and_are_not_blamed() -> None:
    vectors = torch.eye(10)
    quantizer = RQKMeans(RQKMeansConfig(levels=2, codes=64)).fit(vectors)
    quality = id_quality(SemanticIds.from_codes(quantizer.encode(vectors), (64, 64)), vectors)
    assert quality.levels[0].attained == pytest.approx(1.0)
    assert quality.collapsed == ()
    assert kinds(quality) == [("redundant", 2)]
    assert "10 different prefixes with it and without" in quality.problems()[0]


def test_a_level_that_repeats_another_is_redundant() -> None:
    codes = [[item % 8, item % 8] for item in range(80)]
    quality = id_quality(ids(codes, (8, 8)))
    assert quality.prefixes[1].added_bits == 0.0
    assert kinds(quality) == [("redundant", 2), ("collisions", None)]


def test_a_codebook_of_one_tells_nothing_apart() -> None:
    codes = [[0, item] for item in range(6)]
    quality = id_quality(ids(codes, (1, 6)))
    assert kinds(quality) == [("single-code", 1)]
    assert "Level 1 has a codebook of 1" in quality.problems()[0]


def test_only_duplicates_is_said_once() -> None:
    shared = id_quality(ids([[2, 2]] * 5, (4, 4)), torch.ones(5, 3))
    assert kinds(shared) == [("duplicates", None)]
    assert "All 5 items have the same vector" in shared.problems()[0]
    assert shared.collapsed == ()
    numbered = id_quality(ids([[2, 2]] * 5, (4, 4)).with_extra_level(), torch.ones(5, 3))
    assert kinds(numbered) == [("duplicates", None)]
    # Without vectors nothing tells equal items from a quantizer that failed.
    unknown = id_quality(ids([[2, 2]] * 5, (4, 4)))
    assert kinds(unknown) == [("collapsed", 1), ("collapsed", 2), ("collisions", None)]


def test_many_collisions_are_told_from_equal_vectors() -> None:
    vectors = torch.eye(10)[torch.tensor([*range(10), *range(10)])]
    semantic_ids = ids([[item % 5] for item in range(20)])
    assert (
        "75.0% of the items have an ID that was already taken (50.0% already"
        in (id_quality(semantic_ids, vectors).problems()[-1])
    )
    assert "taken: resolve" in id_quality(semantic_ids).problems()[-1]
    few = ids([[min(item, 18)] for item in range(20)])  # one of twenty
    assert id_quality(few).problems() == []


# ---- the extra level ----------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(0, 50))
def test_an_extra_level_is_found_and_never_called_collapsed(n: int, seed: int) -> None:
    semantic_ids = catalogue(n, (3, 3), seed)
    extended = semantic_ids.with_extra_level()
    quality = id_quality(extended)
    if extended is not semantic_ids:
        assert [level.extra for level in quality.levels] == [False, False, True]
        assert 3 not in quality.collapsed
    assert quality.collision_rate == 0.0


def test_a_quantizers_own_last_level_is_no_extra_level() -> None:
    vectors = clustered(200)
    codes = RQKMeans(RQKMeansConfig(levels=3, codes=8)).fit(vectors).encode(vectors)
    assert not any(level.extra for level in id_quality(SemanticIds.from_codes(codes)).levels)
    told = id_quality(SemanticIds.from_codes(codes), extra_level=True)
    assert [level.extra for level in told.levels] == [False, False, True]


def test_the_extra_level_counts_in_no_codebook_use() -> None:
    semantic_ids = ids([[0], [0], [0], [1]], (2,)).with_extra_level()
    assert id_quality(semantic_ids).metrics()["lowest_use"] == 1.0
    assert "| 2 (extra) |" in id_quality(semantic_ids).table()


# ---- edges and forms ----------------------------------------------------------------------------


def test_one_item_has_a_report() -> None:
    quality = id_quality(ids([[5, 0]], (64, 1)), torch.ones(1, 4), ["a"], ids([[1, 1]]))
    assert quality.collision_rate == 0.0
    assert quality.levels[0].attained == 1.0
    assert kinds(quality) == [("single-code", 2)]
    for prefix in quality.prefixes:
        assert prefix.neighbours is prefix.purity is prefix.stability is None
    assert "| 1 | 1 of 64 | 1.0 |" in quality.table()


def test_zero_vectors_are_counted_and_left_out() -> None:
    semantic_ids = ids([[0], [0], [1], [1]])
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 0.0], [0.0, 0.0]])
    quality = id_quality(semantic_ids, vectors)
    assert (quality.zero_vectors, quality.different_vectors) == (2, 3)
    assert quality.prefixes[0].neighbours == quality.prefixes[0].neighbours_chance == 1.0
    assert id_quality(semantic_ids, torch.zeros(4, 2)).prefixes[0].neighbours is None


def test_figures_fit_a_results_row_and_json() -> None:
    vectors = clustered(60)
    semantic_ids, other = catalogue(60, (6, 6)), catalogue(60, (6, 6), seed=1)
    labels = [LABELS[item % 9] for item in range(60)]
    quality = id_quality(semantic_ids, vectors, labels, other)
    metrics = quality.metrics()
    row = ResultRow(
        kind="tokenizer", dataset="toy", model={}, metrics=metrics, seconds=0, **provenance("cpu")
    )
    assert row.metrics["collision_rate"] == pytest.approx(semantic_ids.collision_rate, rel=1e-5)
    for name in ("perplexity", "neighbours", "lift", "purity_chance", "stability"):
        assert {f"{name}@1", f"{name}@2"} <= set(metrics)
    rows = json.loads(json.dumps(quality.rows(), allow_nan=False))
    assert [entry["level"] for entry in rows] == [1, 2]
    assert rows[1]["stability"] == metrics["stability@2"]
    bare = id_quality(semantic_ids).metrics()
    assert not {name for name in bare if name.split("@")[0] in ("neighbours", "stability")}


def test_the_table_shows_what_was_asked() -> None:
    semantic_ids = catalogue(60, (6, 6))
    bare = id_quality(semantic_ids).table()
    assert "neighbours" not in bare
    assert "stability" not in bare
    full = id_quality(semantic_ids, clustered(60), ["a", "b"] * 30, catalogue(60, (6, 6), 1))
    lines = [line for line in full.table().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + semantic_ids.levels
    assert len({line.count("|") for line in lines}) == 1
    assert f"| {full.prefixes[0].neighbours:.3f} (" in lines[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vectors": torch.ones(8, 2)}, "vectors has 8 rows, but there are 9 items"),
        ({"vectors": torch.full((9, 2), float("nan"))}, "row 0 holds NaN"),
        ({"categories": ["a"]}, "categories has 1 labels, but there are 9 items"),
        ({"other_seed": catalogue(8)}, "other_seed names other items"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"queries": 0}, "queries is 0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        id_quality(catalogue(9), **arguments)  # type: ignore[arg-type]
