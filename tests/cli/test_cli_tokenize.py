"""`nezha-lite tokenize`, `compare` and `bench tokenize`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nezha_lite.common.results import read_results
from nezha_lite.datasets import load_folder
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer, TokenizerConfig
from tests.helpers.shops import Run
from tests.helpers.tiny_encoder import save_bert
from tests.helpers.toys import N_ITEMS

SHAPE = ("--levels", "2", "--codes", "5")  # 25 IDs for 20 items


def test_tokenize_reports_and_keeps_what_train_then_reads(
    shop: Path, tmp_path: Path, cli: Run
) -> None:
    folder, results = tmp_path / "ids", tmp_path / "ids.json"
    more = ("--collisions", "next-best", "--seed", "3", "--stability", "--results", results)
    answer = cli("tokenize", shop, folder, *SHAPE, *more)
    assert answer.status == 0
    assert "After next-best: radices (5, 5), collision rate 0.0000" in answer.out
    kept = ItemTokenizer.load(folder)
    assert kept.config == TokenizerConfig(levels=2, codes=5, collisions="next-best", seed=3)
    assert kept.semantic_ids.n_distinct == N_ITEMS
    shared = ItemTokenizer(replace(kept.config, collisions="shared")).fit(load_folder(shop))
    (row,) = read_results(results)
    expected = shared.semantic_ids.collision_rate
    assert row.metrics["collision_rate"] == pytest.approx(expected, abs=1e-5)
    assert row.metrics["collision_rate_after"] == 0.0
    assert row.settings["ids"] == "rq-kmeans"
    assert row.settings["radices_after"] == [5, 5]
    assert "stability@1" in row.metrics
    assert f"{row.metrics['perplexity@1']:.1f}"[:3] in answer.out

    answer = cli("train", shop, tmp_path / "run", "--ids", folder, "--epochs", "1")
    assert answer.status == 0
    used = SemanticIds.load(tmp_path / "run" / "semantic_ids.safetensors")
    assert torch.equal(used.codes, kept.semantic_ids.codes)


def test_tokenize_compares_several_and_takes_codes_per_level(
    shop: Path, tmp_path: Path, cli: Run
) -> None:
    results = tmp_path / "ids.json"
    kinds = ("--ids", "random", "--ids", "opq", "--vectors", "tfidf", "--vectors", "collaborative")
    shape = ("--levels", "2", "--codes", "7", "--codes", "3")
    assert cli("tokenize", shop, *kinds, *shape, "--results", results).status == 0
    rows = read_results(results)
    assert [row.settings["ids"] for row in rows] == ["random", "opq"]
    assert all(row.settings["radices"] == [7, 3] for row in rows)
    assert all(row.settings["vectors"] == "tfidf+collaborative" for row in rows)


def test_an_encoder_reads_each_text_once(
    shop: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_bert(tmp_path / "encoder")
    cache = tmp_path / "cache"
    asked = ("--encoder", tmp_path / "encoder", "--cache", cache, *SHAPE)
    answer = cli("tokenize", shop, *asked)
    assert answer.status == 0
    kept = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    assert kept

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the encoder was asked again")

    monkeypatch.setattr("transformers.BertModel.forward", never)
    again = cli("tokenize", shop, *asked)
    assert again.out == answer.out
    assert kept == {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_compare_prints_and_writes_a_row_for_each_tokenizer(
    shop: Path, tmp_path: Path, cli: Run
) -> None:
    results = tmp_path / "compared.json"
    names = ("--tokenizer", "rq-kmeans", "--tokenizer", "random", "--seed", "0", "--seed", "1")
    budget = ("--epochs", "1", "--beam", "10", *SHAPE, "--results", results)
    answer = cli("compare", shop, tmp_path / "runs", *names, *budget)
    assert answer.status == 0
    rows = read_results(results)
    assert {row.settings["tokenizer"] for row in rows} == {"rq-kmeans", "random"}
    for row in rows:
        assert row.settings["training"]["epochs"] == 1
        line = next(x for x in answer.out.splitlines() if x.startswith(row.settings["tokenizer"]))
        assert f"recall@10 {row.metrics['recall@10']:.4f}" in line
        assert f"± {row.std['recall@10']:.4f}" in line
    assert "(4 of 4 runs, about 0 min left)" in answer.out


@pytest.mark.slow
def test_bench_tokenize_measures_data_and_made_up_vectors(
    shop: Path, tmp_path: Path, cli: Run
) -> None:
    results = tmp_path / "bench.json"
    kind = ("--ids", "rq-kmeans", *SHAPE, "--threads", "1", "--results", results)
    assert cli("bench", "tokenize", shop, *kind).status == 0
    (row,) = read_results(results)
    assert row.settings["items"] == N_ITEMS
    assert row.metrics["fit_seconds"] > 0
    made_up = ("--items", "300", "--width", "6")
    assert cli("bench", "tokenize", "synthetic", *kind, *made_up).status == 0
    (row,) = read_results(results)
    assert (row.settings["items"], row.settings["width"]) == (300, 6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tokenize", "SHOP", "--ids", "kmeans"), "tokenizer is 'kmeans'"),
        (("tokenize", "SHOP", "--codes", "0"), "codes is 0"),
        (("tokenize", "SHOP", "--codes", "65"), "codes is 65, but must be at most 64 for 20 items"),
        (("tokenize", "SHOP", "--codes", "4", "--codes", "5"), "--codes is given 2 times"),
        (("tokenize", "SHOP", "--ids", "released"), "no index.json with released semantic IDs"),
        (("tokenize", "SHOP", "OUT", "--ids", "opq", "--ids", "lsh"), "OUTPUT keeps one"),
        (("tokenize", "SHOP", "--vectors", "encoder"), "encoder"),
        (("tokenize", "SHOP", "--cache", "x"), "--cache is 'x', but there is no encoder"),
        (("compare", "SHOP", "OUT", "--tokenizer", "magic"), "tokenizer is 'magic'"),
        (("compare", "SHOP", "OUT", "--beam", "5"), "beam is 5"),
        (("train", "SHOP", "OUT", "--ids", "nowhere"), "IDs are asked from 'nowhere'"),
        (("bench", "tokenize", "synthetic", "--items", "0"), "items is 0"),
        (("bench", "tokenize", "synthetic", "--levels", "11"), "11 levels that int64 keys"),
        (("tokenize", "SHOP", "--ids", "rq-kmeans-both", "--vectors", "tfidf"), "--vectors has no"),
        (("tokenize", "SHOP", "--ids", "released", "--levels", "7"), "--levels has no say"),
        (("train", "SHOP", "OUT", "--ids", "nowhere", "--codes", "4"), "--codes has no say"),
        (("bench", "tokenize", "SHOP", "--ids", "kmeans"), "quantizer is 'kmeans'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    arguments: tuple[str, ...], words: str, shop: Path, tmp_path: Path, cli: Run
) -> None:
    places = {"SHOP": str(shop), "OUT": str(tmp_path / "out")}
    answer = cli(*[places.get(argument, argument) for argument in arguments])
    assert answer.status == 2
    assert "Traceback" not in answer.err
    assert words in answer.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
