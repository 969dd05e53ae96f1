"""Tokenizers compared by what the same model recommends with them."""

from dataclasses import replace
from pathlib import Path

import pytest

from nezha_lite.common.results import ResultRow, read_results, write_results
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.evaluation import evaluate_popularity
from nezha_lite.evaluation import tokenizer_comparison as comparison
from nezha_lite.evaluation.tokenizer_comparison import Budget, compare_tokenizers, contenders
from nezha_lite.semantic_ids.quantizers import QUANTIZERS
from nezha_lite.semantic_ids.tokenizer import TOKENIZERS, ItemTokenizer, TokenizerConfig
from nezha_lite.training.config import TrainingConfig
from tests.helpers.toys import N_ITEMS, toy_dataset

pytestmark = pytest.mark.usefixtures("random_state")

SMALL = TokenizerConfig(levels=2, codes=4)
BUDGET = Budget(training=TrainingConfig(epochs=2, batch_rows=8, learning_rate=0.01), beam=12)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ResultRow]]:
    folder = tmp_path_factory.mktemp("compared")
    chosen = {"rq-kmeans": SMALL, "random": replace(SMALL, quantizer="random")}
    return folder, list(compare_tokenizers(toy_dataset(), chosen, (0, 1), folder, BUDGET))


def test_a_row_per_tokenizer_with_spread_over_seeds(
    compared: tuple[Path, list[ResultRow]], tmp_path: Path
) -> None:
    _, rows = compared
    assert [row.settings["tokenizer"] for row in rows] == ["rq-kmeans", "random"]
    for row in rows:
        assert row.seeds == [0, 1]
        first, second = row.per_seed["recall@10"]
        assert row.metrics["recall@10"] == pytest.approx((first + second) / 2, abs=1e-5)
        assert row.std["recall@10"] == pytest.approx(abs(first - second) / 2**0.5, abs=1e-5)
        assert row.settings["users"] == 30
        assert row.metrics["valid"] == 1.0
    write_results(tmp_path / "rows.json", rows)
    assert read_results(tmp_path / "rows.json")[0].settings == rows[0].settings


def test_the_figures_are_those_of_the_model_in_the_folder(
    compared: tuple[Path, list[ResultRow]],
) -> None:
    folder, rows = compared
    dataset = toy_dataset()
    trained = Recommender.load(folder / "rq-kmeans" / "seed-1")
    expected = ItemTokenizer(replace(SMALL, seed=1)).fit(dataset)
    assert trained.semantic_ids.codes.tolist() == expected.semantic_ids.codes.tolist()
    split = dataset.split("test")
    popularity = dataset.popularity()
    lists = trained.recommend(list(split.histories), 10, 12, "prefix", popularity)
    hits = [
        target in [best.item for best in ranked]
        for ranked, target in zip(lists, split.targets, strict=True)
    ]
    assert rows[0].per_seed["recall@10"][1] == pytest.approx(sum(hits) / len(hits), abs=1e-5)
    before = 1 - expected.plain_ids.n_distinct / N_ITEMS
    assert rows[0].per_seed["collision_rate_before"][1] == pytest.approx(before, abs=1e-5)
    assert rows[0].metrics["collision_rate"] == 0.0
    baseline = evaluate_popularity(dataset, split, 12).metrics()
    assert rows[0].metrics["recall@10"] != baseline["recall@10"]


def test_what_is_measured_is_not_run_again_and_what_was_stopped_goes_on(
    compared: tuple[Path, list[ResultRow]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rows = compared
    calls = []
    original = comparison.train
    monkeypatch.setattr(
        comparison, "train", lambda *given, **named: calls.append(1) or original(*given, **named)
    )
    again = list(compare_tokenizers(toy_dataset(), {"rq-kmeans": SMALL}, (0, 1), folder, BUDGET))
    assert calls == []
    assert again[0].per_seed == rows[0].per_seed
    (folder / "rq-kmeans" / "seed-0" / comparison.MEASURED_FILE).unlink()
    again = list(compare_tokenizers(toy_dataset(), {"rq-kmeans": SMALL}, (0, 1), folder, BUDGET))
    assert calls == [1]
    times = {"training_seconds", "training_cpu_seconds"}
    for name, values in rows[0].per_seed.items():
        assert name in times or list(again[0].per_seed[name]) == list(values)


def test_other_settings_in_the_same_folder_are_refused(
    compared: tuple[Path, list[ResultRow]],
) -> None:
    folder, _ = compared
    longer = replace(BUDGET, training=replace(BUDGET.training, epochs=3))
    with pytest.raises(ValueError, match=r"seed-0 holds a run of other data or settings"):
        list(compare_tokenizers(toy_dataset(), {"rq-kmeans": SMALL}, (0,), folder, longer))
    other = toy_dataset(users=29)
    with pytest.raises(ValueError, match=r"seed-0 holds a run of other data"):
        list(compare_tokenizers(other, {"rq-kmeans": SMALL}, (0,), folder, BUDGET))


def test_a_stopped_run_is_not_resumed_with_other_settings(tmp_path: Path) -> None:
    """Interrupted before its first figures: the folder still knows what was asked."""
    list(compare_tokenizers(toy_dataset(), {"rq-kmeans": SMALL}, (0,), tmp_path, BUDGET))
    (tmp_path / "rq-kmeans" / "seed-0" / comparison.MEASURED_FILE).unlink()
    slower = replace(BUDGET, training=replace(BUDGET.training, learning_rate=1e-5))
    with pytest.raises(ValueError, match=r"seed-0 holds a run of other data or settings"):
        list(compare_tokenizers(toy_dataset(), {"rq-kmeans": SMALL}, (0,), tmp_path, slower))


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_damaged_figures_are_named(content: str, tmp_path: Path) -> None:
    folder = tmp_path / "rq-kmeans" / "seed-0"
    folder.mkdir(parents=True)
    (folder / comparison.MEASURED_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"measured\.json is damaged, delete its folder"):
        list(compare_tokenizers(toy_dataset(), {"rq-kmeans": SMALL}, (0,), tmp_path, BUDGET))


def test_released_ids_take_part_with_one_seed(tmp_path: Path) -> None:
    codes = tuple((item // 4, item % 4) for item in range(N_ITEMS))
    dataset = replace(toy_dataset(), released_codes=codes)
    (row,) = compare_tokenizers(dataset, {"released": None}, (4,), tmp_path, BUDGET)
    assert row.settings["config"] is None
    assert row.settings["radices"] == [[5, 5]]
    assert row.std == {}
    assert row.seeds == [4]


def test_nonsense_is_named(tmp_path: Path) -> None:
    for seeds in ((), (1, 1)):
        with pytest.raises(ValueError, match=r"seeds is \["):
            list(compare_tokenizers(toy_dataset(), {"a": SMALL}, seeds, tmp_path, BUDGET))
    with pytest.raises(ValueError, match="beam is 9"):
        Budget(beam=9)
    with pytest.raises(ValueError, match="users is -1"):
        Budget(users=-1)


def test_released_ids_are_contenders_where_they_exist() -> None:
    codes = tuple((item // 4, item % 4) for item in range(N_ITEMS))
    assert contenders(toy_dataset()) == TOKENIZERS
    bare = contenders(replace(toy_dataset(), texts=None))
    assert set(bare) == set(QUANTIZERS)  # nothing twice, and nothing that needs texts
    assert all(config.vectors.sources == ("collaborative",) for config in bare.values())
    known = contenders(replace(toy_dataset(), released_codes=codes))
    assert list(known) == ["released", *TOKENIZERS]
    assert known["released"] is None
