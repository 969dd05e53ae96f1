"""Forecasts, counted again slowly from the journal, and the servers that a deadline needs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nezha_lite.bench.capacity import (
    Cluster,
    Service,
    poisson_arrivals,
    serve,
    servers_needed,
    simulate,
)

CONSTANT = Service("constant", ((1, 10.0), (32, 10.0)))
GROWING = Service("growing", ((1, 4.0), (8, 11.0)))


# ---- forecasts ----------------------------------------------------------------------------------


def test_a_forecast_is_what_the_journal_says() -> None:
    service, cluster = Service("x", ((1, 9.0),), jitter=1.3), Cluster(3)
    forecast = simulate(service, 250, cluster, requests=500, seed=4)
    mean_ms = 9 * math.exp((math.log(1.3) / 1.6449) ** 2 / 2)
    warmup = 125 + math.ceil(5 * 250 * mean_ms / 1000)
    arrivals = poisson_arrivals(250, warmup + 500, seed=4)
    journal = serve(arrivals, service, cluster, service.factors(len(arrivals), seed=4))
    responses = sorted(((journal.finishes - arrivals)[warmup:] / 1000).tolist())
    assert list(forecast.responses) == responses
    assert forecast.percentile(50) == pytest.approx(np.median(responses))
    assert forecast.within(15) == np.mean([ms <= 15 for ms in responses])

    # Every microsecond looked at: slow, and plain.
    begin, end = int(arrivals[warmup]), int(arrivals[-1])
    moments = np.arange(begin, end, 100)[:, None]
    waiting = ((journal.arrivals <= moments) & (moments < journal.starts)).sum(1)
    working = ((journal.starts <= moments) & (moments < journal.finishes)).sum(1)
    assert forecast.mean_queue == pytest.approx(waiting.mean(), rel=0.01)
    assert forecast.utilisation == pytest.approx(working.mean() / 3, rel=0.01)
    assert forecast.peak_queue >= waiting.max() > 1
    # Only an arrival makes a line longer.
    lines = [
        ((journal.arrivals <= t) & (t < journal.starts)).sum() for t in arrivals[warmup:].tolist()
    ]
    assert forecast.peak_queue == max(lines)
    assert forecast.mean_batch == 1


def test_utilisation_is_the_load_in_the_long_run() -> None:
    forecast = simulate(CONSTANT, 240, Cluster(4), requests=20_000)
    assert forecast.load == pytest.approx(0.6)
    assert forecast.utilisation == pytest.approx(0.6, abs=0.02)


def test_jitter_is_p95_over_median_and_counts_in_the_load() -> None:
    service = Service("x", ((1, 100.0),), jitter=1.4)
    factors = service.factors(100_000)
    assert np.percentile(factors, 95) / np.median(factors) == pytest.approx(1.4, rel=0.01)
    assert service.mean_milliseconds(1) == pytest.approx(100 * factors.mean(), rel=0.01)


def test_forecasts_repeat_and_seeds_differ() -> None:
    service = Service("x", ((1, 9.0),), jitter=1.3)
    one, two, other = (simulate(service, 80, Cluster(), seed=seed) for seed in (0, 0, 1))
    assert one == two
    assert one.responses != other.responses


def test_overload_is_said_and_not_simulated() -> None:
    forecast = simulate(CONSTANT, 450, Cluster(3))
    assert forecast.overloaded
    assert forecast.sentence() == (
        "Overloaded: 1.5 times as much arrives as 3 servers can answer, so the queue grows "
        "without end."
    )
    assert math.isinf(forecast.percentile(50))
    assert forecast.within(1e9) == 0
    assert simulate(CONSTANT, 100, Cluster(1)).overloaded, "a load of exactly 1 is too much"
    near = simulate(CONSTANT, 99, Cluster(1))
    assert "longer still" in near.sentence()
    assert "longer still" not in simulate(CONSTANT, 90, Cluster(1)).sentence()


def test_batching_answers_what_single_requests_cannot() -> None:
    assert simulate(GROWING, 400, Cluster(1, 1)).overloaded
    batched = simulate(GROWING, 400, Cluster(1, 8))
    assert not batched.overloaded
    assert 2 < batched.mean_batch <= 8


# ---- servers needed -----------------------------------------------------------------------------


@pytest.mark.parametrize("deadline", [10.5, 12, 20, 100])
@pytest.mark.parametrize("rate", [3, 150, 700])
def test_the_servers_needed_are_the_fewest(rate: float, deadline: float) -> None:
    needed = servers_needed(CONSTANT, rate, deadline, requests=1000)

    def keeps(servers: int) -> bool:
        forecast = simulate(CONSTANT, rate, Cluster(servers), requests=1000)
        return forecast.load <= 0.95 and forecast.percentile(99) <= deadline

    assert needed == next(servers for servers in range(1, 100) if keeps(servers))


def test_a_deadline_below_the_answer_itself_cannot_be_kept() -> None:
    assert servers_needed(CONSTANT, 50, 9.9) is None
    assert servers_needed(CONSTANT, 50, 10.1) is not None
    jittery = Service("x", ((1, 10.0),), jitter=1.5)
    assert servers_needed(jittery, 1, 12) is None
    patient = servers_needed(CONSTANT, 1, 12, max_batch=4, max_wait_ms=5, requests=100)
    assert patient is None, "nobody waits for a server, but for company"


def test_no_plan_is_close_to_overload() -> None:
    assert simulate(CONSTANT, 9800, Cluster(100)).percentile(99) < 1000
    assert servers_needed(CONSTANT, 9800, 1000) == 104


def test_batches_save_servers() -> None:
    alone, batched = (servers_needed(GROWING, 2000, 50, max_batch=size) for size in (1, 8))
    assert alone is not None
    assert batched is not None
    assert batched < alone


@settings(max_examples=20)
@given(rate=st.floats(0.5, 5000), batch=st.integers(1, 32), servers=st.integers(1, 40))
def test_a_forecast_is_whole_or_overloaded(rate: float, batch: int, servers: int) -> None:
    forecast = simulate(CONSTANT, rate, Cluster(servers, batch), requests=50)
    assert forecast.overloaded == (rate / 100 >= servers * batch)
    assert len(forecast.responses) == (0 if forecast.overloaded else 50)
    assert forecast.utilisation <= 1
    assert all(ms >= 10 for ms in forecast.responses)
