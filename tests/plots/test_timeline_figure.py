"""The time line shows what the simulation did: no server works on two batches at a time."""

import numpy as np
import pytest

from nezha_lite.bench.capacity import poisson_arrivals, serve
from nezha_lite.bench.services import Cluster, Service
from nezha_lite.plots import figure_svg, timeline_figure
from nezha_lite.plots.timeline_figure import batch_servers

SERVICE = Service("example", ((1, 21.0), (4, 24.0)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_batch", [1, 4])
def test_no_server_works_on_two_batches_and_no_more_servers_are_drawn(
    seed: int, max_batch: int
) -> None:
    journal = serve(poisson_arrivals(300, 60, seed), SERVICE, Cluster(3, max_batch))
    heads, servers = np.unique(journal.openers), np.array(batch_servers(journal))
    assert servers.max() == 2  # at this load all three work
    for server in range(3):
        own = heads[servers == server]
        assert (journal.starts[own][1:] >= journal.finishes[own][:-1]).all()


def test_a_bar_is_as_long_as_the_request_waits_and_works() -> None:
    journal = serve(np.array([0, 5_000, 6_000]), SERVICE, Cluster(1, 4))
    figure = timeline_figure(journal, "title")
    batches, _, waits, works, counts = figure.data
    assert batches.x[:2] == (0, 21)
    assert batches.x[3:5] == (21, pytest.approx(43.0))
    assert waits.x == (5, 21, None, 6, 21, None)
    assert works.y == (1, 1, None, 2, 2, None, 3, 3, None)
    assert counts.text == ("1", "2")
    assert "3 requests, 2 of which wait" in figure_svg(figure)


def test_a_journal_without_requests_has_no_rows() -> None:
    figure = timeline_figure(serve(np.array([], dtype=np.int64), SERVICE, Cluster(2)), "title")
    assert figure.layout.yaxis.ticktext == ()
