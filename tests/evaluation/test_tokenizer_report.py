"""The report on one tokenizer: figures before and after collisions are resolved."""

from dataclasses import replace
from pathlib import Path

import pytest

from nezha_lite.common.results import read_results, write_results
from nezha_lite.evaluation.tokenizer_report import report_tokenizer
from nezha_lite.semantic_ids.quality import id_quality
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer, TokenizerConfig
from nezha_lite.semantic_ids.vectors.collaborative import collaborative_vectors
from tests.helpers.toys import N_ITEMS, toy_dataset

SMALL = TokenizerConfig(levels=2, codes=4, collisions="extra-level")


def test_the_figures_are_of_the_plain_ids_and_name_what_became_of_them(tmp_path: Path) -> None:
    dataset = toy_dataset()
    report = report_tokenizer(dataset, SMALL, stability=True)
    plain = ItemTokenizer(SMALL).fit(dataset).plain_ids
    metrics = report.row.metrics
    assert 0 < metrics["collision_rate"] == pytest.approx(plain.collision_rate, abs=1e-6)
    assert metrics["collision_rate_after"] == 0.0
    assert metrics["levels_after"] == 3
    assert report.semantic_ids.n_distinct == N_ITEMS
    assert report.row.settings["radices"] == [4, 4]
    assert report.row.settings["vectors"] == "tfidf"
    other = ItemTokenizer(replace(SMALL, seed=1)).fit(dataset).plain_ids
    expected = id_quality(plain, other_seed=other).metrics()
    assert metrics["stability@1"] == expected["stability@1"]
    by_behaviour = id_quality(plain, collaborative_vectors(dataset.train_sequences(), N_ITEMS))
    assert metrics["behaviour_neighbours@2"] == pytest.approx(
        by_behaviour.prefixes[1].neighbours, abs=1e-6
    )
    write_results(tmp_path / "row.json", [report.row])
    assert read_results(tmp_path / "row.json")[0].metrics == metrics


def test_released_ids_are_read_by_the_same_report() -> None:
    codes = tuple((item // 4, item % 2) for item in range(N_ITEMS))  # pairs share an ID
    dataset = replace(toy_dataset(), released_codes=codes)
    report = report_tokenizer(dataset, None)
    assert report.tokenizer is None
    assert report.row.settings["ids"] == "released"
    assert report.row.settings["config"] is None
    assert report.row.metrics["collision_rate"] == report.row.metrics["collision_rate_after"] == 0.5
    built = report_tokenizer(dataset, SMALL).row.metrics
    assert set(report.row.metrics) <= set(built)  # every released figure has one beside it


def test_without_texts_the_report_leaves_categories_out() -> None:
    bare = replace(toy_dataset(), texts=None)
    vectors = replace(SMALL.vectors, sources=("collaborative",))
    metrics = report_tokenizer(bare, replace(SMALL, vectors=vectors)).row.metrics
    assert "behaviour_neighbours@1" in metrics
    assert "neighbours@1" not in metrics
    assert "purity@1" not in metrics
