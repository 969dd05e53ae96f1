"""How benches measure time, and the training bench on a toy. Nothing here judges a speed."""

import gc
from collections.abc import Callable

import pytest
import torch

from nezha_lite.bench import timing
from nezha_lite.bench.roofline import Peaks
from nezha_lite.bench.timing import Latency, PhaseClock, time_calls
from nezha_lite.bench.training import bench_training
from nezha_lite.training.packing import TrainingRows
from tests.helpers.toys import toy_dataset, toy_ids, toy_model

PEAKS = Peaks("toy", 1e9, 1e9, "made up")


class FakeTime:
    """A clock that only `sleep` moves, in place of the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(timing, "time", fake)
    return fake


def test_every_call_is_timed_after_the_warmup() -> None:
    calls: list[int] = []
    times = time_calls(calls.append, 3, 2, torch.device("cpu"))
    assert calls == [0, 1, 0, 1, 2]
    assert len(times) == 3
    assert min(times) > 0


def test_slow_calls_are_cut_short_but_not_below_the_least(clock: FakeTime) -> None:
    cpu = torch.device("cpu")
    for seconds, least, repeats, calls in (
        (0.045, 3, 50, 5),
        (0.005, 4, 50, 4),
        (0.005, 4, 2, 2),
    ):
        times = time_calls(lambda _: clock.sleep(0.01), repeats, 0, cpu, seconds, least)
        assert times == pytest.approx([10] * calls)
    with pytest.raises(ValueError, match="repeats is 0"):
        time_calls(lambda _: None, 0, 0, cpu)


def test_nothing_is_collected_while_the_clock_runs() -> None:
    collecting: list[bool] = []
    time_calls(lambda _: collecting.append(gc.isenabled()), 2, 1, torch.device("cpu"))
    assert collecting == [True, False, False]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        time_calls(lambda _: 1 / 0, 1, 0, torch.device("cpu"))
    assert gc.isenabled()


def test_a_latency_is_three_percentiles() -> None:
    latency = Latency.of(list(range(101)))
    assert latency == Latency(50.0, 95.0, 99.0, 101)
    assert latency.metrics() == {"median_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}


def test_a_phase_lasts_from_the_mark_before_it(clock: FakeTime) -> None:
    phases = PhaseClock(torch.device("cpu"))
    for pause in (0.02, 0.04, 0.03):
        phases.start()
        clock.sleep(0.001)
        phases("forward")
        for _ in range(2):
            clock.sleep(pause / 2)
            phases("head")
    assert phases.medians() == {"forward_ms": 1.0, "head_ms": 30.0}


@pytest.mark.parametrize("batch_targets", [12, 256])  # the toy has fewer targets than 256
def test_training_has_a_row_per_recipe(batch_targets: int) -> None:
    rows = bench_training(
        toy_model(), toy_ids(), toy_dataset(), batch_targets, 2, 1, window_stride=3, peaks=PEAKS
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
            "mflops_per_target",
            "share_of_peak",
        }
        # Of a peak of 1 GFLOP/s.
        reached = row.metrics["mflops_per_target"] / 1e3 * rate
        assert row.metrics["share_of_peak"] == pytest.approx(reached, rel=0.1)
        assert rate > 0
        assert row.seconds >= 0
        assert row.metrics["ratio_to_row_random"] == pytest.approx(rate / rates[0], abs=0.006)
    tokens = [row.metrics["tokens_per_target"] for row in rows]
    # A target costs its own placeholders at least; a packed row shares its history, padding falls.
    assert min(tokens) > 3
    assert tokens[3] <= tokens[2] < tokens[1] <= tokens[0]
    flops = [row.metrics["mflops_per_target"] for row in rows]
    assert flops[3] <= flops[2] < flops[1] <= flops[0]


def test_figures_count_the_timed_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_millisecond_each(
        call: Callable[[int], object], repeats: int, warmup: int, *_: object
    ) -> list[float]:
        for index in (*range(warmup), *range(repeats)):
            call(index)
        return [1.0] * repeats

    monkeypatch.setattr("nezha_lite.bench.training.time_calls", one_millisecond_each)
    dataset = toy_dataset()
    rows = TrainingRows(dataset.train_sequences(), 6, 1)
    result = bench_training(toy_model(), toy_ids(), dataset, rows.n_targets, 2, 3, peaks=PEAKS)
    packed = result[2].metrics  # every batch is the whole epoch
    width = max(row.n_tokens(3) for row in rows.rows)
    assert packed["tokens_per_target"] == pytest.approx(
        len(rows) * width / rows.n_targets, abs=0.006
    )
    assert packed["targets_per_second"] == pytest.approx(1000 * rows.n_targets)
