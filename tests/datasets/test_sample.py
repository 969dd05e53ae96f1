"""The synthetic shop: the committed files, the process behind them, and the oracle."""

import math
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from nezha_lite.datasets import DATA_FOLDER, load_dataset
from nezha_lite.datasets.synthetic_shop import (
    SampleConfig,
    Shop,
    build_shop,
    oracle_scores,
    reference_figures,
)
from tools import make_sample


@pytest.fixture(scope="module")
def shop() -> Shop:
    return build_shop()


@pytest.fixture(scope="module")
def oracle_ranks(shop: Shop) -> list[int]:
    """Where the oracle ranks the item of every test user, from 0."""
    test = shop.dataset.split("test")
    ranks = []
    for user, history, target in zip(test.users, test.histories, test.targets, strict=True):
        scores = oracle_scores(shop, user, history[-1])
        ranks.append(sum(score > scores[target] for score in scores))
    return ranks


def recall(ranks: list[int], k: int) -> float:
    return sum(rank < k for rank in ranks) / len(ranks)


def test_the_committed_sample_is_what_the_generator_writes(tmp_path: Path) -> None:
    make_sample.main(["--out", str(tmp_path)])
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["sample.inter.json", "sample.item.json"]
    for name in written:
        assert (tmp_path / name).read_bytes() == (DATA_FOLDER / "sample" / name).read_bytes()


def test_the_committed_sample_is_small_and_has_unix_line_ends() -> None:
    contents = [path.read_bytes() for path in (DATA_FOLDER / "sample").iterdir()]
    assert sum(map(len, contents)) < 1_000_000
    assert not any(b"\r" in content for content in contents)


def test_the_committed_sample_reads_as_it_was_generated(shop: Shop) -> None:
    dataset = load_dataset("sample")
    assert dataset == shop.dataset
    assert (dataset.n_items, dataset.n_users) == (1_512, 4_000)
    assert f"{dataset.n_interactions:,} interactions" in (DATA_FOLDER / "README.md").read_text()


def test_the_readmes_figures_are_the_measured_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "README.md"
    text = (DATA_FOLDER / "README.md").read_text(encoding="utf-8")
    before, start, rest = text.partition(make_sample.START)
    _, end, after = rest.partition(make_sample.END)
    page.write_text(f"{before}{start}old\n{end}{after}", encoding="utf-8")
    make_sample.main(["--report", "--page", str(page)])
    assert page.read_text(encoding="utf-8") == text
    assert capsys.readouterr().out in text
    assert list(tmp_path.iterdir()) == [page]


def test_a_page_without_marks_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "README.md"
    page.write_text("text\n")
    with pytest.raises(SystemExit):
        make_sample.main(["--report", "--page", str(page)])
    assert "lacks the marks" in capsys.readouterr().err
    assert page.read_text() == "text\n"
    with pytest.raises(SystemExit):
        make_sample.main([])
    assert "nothing to do" in capsys.readouterr().err


def test_the_oracle_beats_every_baseline_and_counting_can_learn(
    shop: Shop, oracle_ranks: list[int]
) -> None:
    figures = reference_figures(shop)
    oracle, bigram, popularity = (
        figures[name] for name in ("oracle", "bigram counts", "popularity")
    )
    for metric in (0, 1):
        assert oracle[metric] > bigram[metric] > popularity[metric]
    assert 0.45 <= oracle[0] <= 0.6
    assert bigram[0] >= oracle[0] / 2
    assert 0.02 <= popularity[0] <= 0.05
    assert recall(oracle_ranks, 10) == pytest.approx(oracle[0], abs=1e-3), "equal scores aside"
    assert recall(oracle_ranks, 1) < oracle[0] < recall(oracle_ranks, 100)
    assert recall(oracle_ranks, shop.dataset.n_items) == 1


def test_the_oracle_cannot_be_beaten_by_knowing_less(shop: Shop, oracle_ranks: list[int]) -> None:
    """Without the user's taste the same process is ranked worse."""
    successors_only = 0
    test = shop.dataset.split("test")
    for history, target in zip(test.histories, test.targets, strict=True):
        successors_only += target in shop.successors[history[-1]]
    assert successors_only / len(test) < recall(oracle_ranks, 10)


def test_oracle_scores_are_probabilities(shop: Shop) -> None:
    rng = random.Random(0)
    for _ in range(20):
        user = rng.randrange(shop.dataset.n_users)
        last = rng.randrange(shop.dataset.n_items)
        scores = oracle_scores(shop, user, last)
        assert len(scores) == shop.dataset.n_items
        assert min(scores) >= 0
        assert math.fsum(scores) == pytest.approx(1)
        assert scores[last] == 0


def test_oracle_scores_agree_with_how_often_things_happen() -> None:
    """Calibration: where the oracle says p, the next item comes up in a share p of the cases."""
    shop = build_shop(SampleConfig(users=600, seed=5))
    places = (0, 1, 2, 5, 20)
    expected, seen = [0.0] * len(places), [0] * len(places)
    for user, items in enumerate(shop.dataset.sequences):
        for last, item in pairwise(items):
            scores = oracle_scores(shop, user, last)
            ranked = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
            for bucket, place in enumerate(places):
                expected[bucket] += scores[ranked[place]]
                seen[bucket] += item == ranked[place]
    for mean, count in zip(expected, seen, strict=True):
        assert abs(count - mean) < 4 * math.sqrt(mean)


def test_jumps_by_taste_and_popularity_follow_their_shares() -> None:
    """The two parts of the process that the committed settings mix into the successors."""
    no_follow = (0.0,) * 6
    taste = build_shop(SampleConfig(users=200, follow=no_follow, taste=1.0))
    for user, items in enumerate(taste.dataset.sequences):
        assert set(items) <= set(taste.tastes[user])
    popular = build_shop(SampleConfig(users=2000, follow=no_follow, taste=0.0))
    counts = Counter(item for items in popular.dataset.sequences for item in items[1:])
    favourite = max(range(1512), key=popular.popularity.__getitem__)
    expected = popular.popularity[favourite] * counts.total()
    assert abs(counts[favourite] - expected) < 4 * math.sqrt(expected)


def test_every_item_has_six_sensible_successors(shop: Shop) -> None:
    texts = shop.dataset.texts
    assert texts is not None
    kept = 0
    for item, successors in enumerate(shop.successors):
        assert len(set(successors)) == 6
        assert item not in successors
        for successor in successors:
            assert texts[successor].categories[0] == texts[item].categories[0]
        assert texts[successors[0]].categories != texts[item].categories
        assert texts[successors[5]].categories == texts[item].categories
        assert texts[successors[5]].brand != texts[item].brand
        kept += texts[successors[0]].brand == texts[item].brand
    assert kept / len(texts) > 0.8


def test_sequences_are_as_described(shop: Shop) -> None:
    lengths = [len(items) for items in shop.dataset.sequences]
    assert (min(lengths), max(lengths)) == (5, 25)
    assert 8.5 < sum(lengths) / len(lengths) < 9.5
    assert not any(a == b for items in shop.dataset.sequences for a, b in pairwise(items))
    before = Counter(a for items in shop.dataset.train_sequences() for a in items[:-1])
    often = sum(before[item] >= 8 for item in range(shop.dataset.n_items))
    assert often / shop.dataset.n_items > 0.8


def test_texts_are_distinct_but_colour_variants_are_close(shop: Shop) -> None:
    texts = shop.dataset.texts
    assert texts is not None
    assert len({text.sentence() for text in texts}) == len(texts)
    products = Counter(text.title.split(",")[0] for text in texts)
    assert set(products.values()) == {7}


def test_another_seed_is_another_shop() -> None:
    small = SampleConfig(users=50, seed=1)
    assert build_shop(small).dataset == build_shop.__wrapped__(small).dataset
    assert build_shop(small).dataset != build_shop(SampleConfig(users=50, seed=2)).dataset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"users": 0}, "users is 0, but must be a whole number of at least 1"),
        ({"follow": (0.5, 0.5)}, "follow is .*six chances"),
        ({"follow": (0.5, 0.5, 0.1, 0.0, 0.0, 0.0)}, "follow is .*add up to 1"),
        ({"follow": (0.5, -0.1, 0.1, 0.0, 0.0, 0.0)}, "follow is .*six chances"),
        ({"taste": 0.6}, "taste is 0.6, but must be 0 to 0.49"),
        ({"stay": 1.5}, "stay is 1.5, but must be between 0 and 1"),
        (
            {"liked_subcategories": 0},
            "liked_subcategories is 0, but must be a whole number",
        ),
        ({"brand_loyalty": math.nan}, "brand_loyalty is nan, but must be at least 1"),
    ],
)
def test_configs_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampleConfig(**changes)  # type: ignore[arg-type]
