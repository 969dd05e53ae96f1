"""The benches run, on toys, and their rows hold together. Nothing here judges a speed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import toy_dataset, toy_ids, toy_model

from nezha_lite.bench import bench_decoding, bench_training, time_calls
from nezha_lite.packing import TrainingRows
from nezha_lite.results import ResultRow, read_results, write_results


def test_every_call_is_timed_after_the_warmup() -> None:
    calls: list[int] = []
    times = time_calls(calls.append, 3, 2, torch.device("cpu"))
    assert calls == [0, 1, 0, 1, 2]
    assert len(times) == 3
    assert all(time > 0 for time in times)


@pytest.fixture(scope="module")
def decoding() -> list[ResultRow]:
    model = toy_model().eval()
    return bench_decoding(model, toy_ids(), toy_dataset(), beams=(2, 5), repeats=4, warmup=1)


def test_decoding_has_a_row_per_decoder_and_beam(decoding: list[ResultRow]) -> None:
    assert [(row.decoder, row.beam, row.verifier) for row in decoding] == [
        ("forward", None, None),
        ("nezha", 2, "prefix"),
        ("autoregressive", 2, "prefix"),
        ("nezha", 5, "prefix"),
        ("autoregressive", 5, "prefix"),
    ]
    floor = decoding[0].metrics["median_ms"]
    for row in decoding:
        assert row.kind == "latency"
        assert row.dataset == "toy"
        assert row.model["hidden_size"] == 16
        assert row.settings == {"batch": 1, "repeats": 4, "warmup": 1}
        assert set(row.metrics) == {"median_ms", "p95_ms", "ratio_to_forward"}
        assert 0 < row.metrics["median_ms"] <= row.metrics["p95_ms"]
        ratio = row.metrics["median_ms"] / floor
        assert row.metrics["ratio_to_forward"] == pytest.approx(ratio, rel=0.02, abs=0.002)
    assert decoding[0].metrics["ratio_to_forward"] == 1.0


def test_rows_survive_their_file(decoding: list[ResultRow], tmp_path: Path) -> None:
    write_results(tmp_path / "latency.json", decoding)
    for read, row in zip(read_results(tmp_path / "latency.json"), decoding, strict=True):
        assert replace(read, seeds=()) == row  # JSON has lists only


def test_more_repeats_than_users_take_them_again() -> None:
    dataset = toy_dataset(users=3)
    rows = bench_decoding(toy_model().eval(), toy_ids(), dataset, beams=(2,), repeats=7, warmup=0)
    assert [row.settings["repeats"] for row in rows] == [7, 7, 7]


@pytest.mark.parametrize("batch_targets", [12, 256])  # the toy has fewer targets than 256
def test_training_has_a_row_per_recipe(batch_targets: int) -> None:
    rows = bench_training(
        toy_model(), toy_ids(), toy_dataset(), batch_targets, steps=2, warmup=1, window_stride=3
    )
    recipes = ["row-random", "row-bucketed", "packed-stride-1", "packed"]
    assert [row.settings["recipe"] for row in rows] == recipes
    assert [row.settings["window_stride"] for row in rows] == [1, 1, 1, 3]
    rates = [row.metrics["targets_per_second"] for row in rows]
    for row, rate in zip(rows, rates, strict=True):
        assert row.kind == "training"
        assert set(row.metrics) == {
            "targets_per_second",
            "ratio_to_row_random",
            "tokens_per_target",
        }
        assert rate > 0
        assert row.seconds >= 0
        assert row.metrics["ratio_to_row_random"] == pytest.approx(rate / rates[0], abs=0.006)
    tokens = [row.metrics["tokens_per_target"] for row in rows]
    # A target costs its own placeholders at least; a packed row shares its history, padding falls.
    assert min(tokens) > 3
    assert tokens[3] <= tokens[2] < tokens[1] <= tokens[0]


def test_figures_count_the_timed_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_millisecond_each(
        call: Callable[[int], object], repeats: int, *_: object
    ) -> list[float]:
        for index in range(repeats):
            call(index)
        return [1.0] * repeats

    monkeypatch.setattr("nezha_lite.bench.time_calls", one_millisecond_each)
    dataset = toy_dataset()
    rows = TrainingRows(dataset.train_sequences(), 6, 1)
    result = bench_training(toy_model(), toy_ids(), dataset, rows.n_targets, steps=2, warmup=3)
    packed = result[2].metrics  # every batch is the whole epoch
    width = max(row.n_tokens(3) for row in rows.rows)
    assert packed["tokens_per_target"] == pytest.approx(
        len(rows) * width / rows.n_targets, abs=0.006
    )
    assert packed["targets_per_second"] == pytest.approx(1000 * rows.n_targets)
