"""Servers and batches on a time line."""

from __future__ import annotations

import numpy as np

from nezha_lite.bench.capacity import Journal
from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLUE, ORANGE, SKY
from nezha_lite.plots.numbers import counted
from nezha_lite.plots.style import Figure

_ROW, _NAMES = 22, 100  # pixels: of a row, of its name


def timeline_figure(journal: Journal, title: str) -> Figure:
    """What each server works on, and when each request waits and is answered.

    Args:
        journal: of `serve`; up to two dozen requests can be read.
        title: plain text.
    """
    heads, sizes = np.unique(journal.openers, return_counts=True)
    servers = batch_servers(journal)
    n_servers, n_requests = max(servers, default=-1) + 1, len(journal.arrivals)
    times = (journal.arrivals, journal.starts, journal.finishes)
    arrivals, starts, finishes = ((one / 1000).tolist() for one in times)
    batches = [((starts[h], y), (finishes[h], y)) for h, y in zip(heads, servers, strict=True)]
    borders = [((x, y - 0.4), (x, y + 0.4)) for _, (x, y) in batches]
    rows = range(n_servers, n_servers + n_requests)
    waits = [((a, y), (s, y)) for a, s, y in zip(arrivals, starts, rows, strict=True) if s > a]
    works = [((s, y), (f, y)) for s, f, y in zip(starts, finishes, rows, strict=True)]
    middles = [((begin + end) / 2, y) for (begin, y), (end, _) in batches]
    names = [f"server {row + 1}" for row in range(n_servers)]
    names += [f"request {row + 1}" for row in range(n_requests)]
    return draw.figure(
        [
            draw.segments(batches, SKY, 17, "a server works on a batch"),
            draw.segments(borders, "#FFFFFF", 2),
            draw.segments(waits, ORANGE, 4, "a request waits", dash="dot"),
            draw.segments(works, BLUE, 7, "a request is answered"),
            draw.texts(middles, [str(size) for size in sizes], "middle center"),
        ],
        title,
        f"{counted(n_requests, 'request')}, {len(waits)} of which wait. A number on a bar says how "
        "many requests the batch holds.",
        _ROW * len(names) + 12,
        88,
        xaxis=draw.axis("milliseconds"),
        yaxis=draw.rows_axis(names, _NAMES),
    )


def batch_servers(journal: Journal) -> list[int]:
    """The server of each batch, in the order of `openers`: the lowest one that is free."""
    free_at: list[int] = []
    servers = []
    for head in np.unique(journal.openers):
        start, finish = int(journal.starts[head]), int(journal.finishes[head])
        idle = (server for server, moment in enumerate(free_at) if moment <= start)
        server = next(idle, len(free_at))
        free_at[server : server + 1] = [finish]
        servers.append(server)
    return servers
