"""Response times under a queue, and the number of servers that each decoder needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from nezha_lite.bench.capacity import Forecast
from nezha_lite.bench.services import Service
from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLACK, BLUE, GREY, VERMILLION
from nezha_lite.plots.numbers import counted, number
from nezha_lite.plots.style import DECODERS, PAPER, SERVICE_STYLES, Figure, SeriesStyle

# Shares of the requests, in percent. The axis counts the slower ones: one in 2, in 10, in 100.
PERCENTS = (0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 93, 95, 97, 98, 99, 99.5)
OTHERS, SELECTED = SeriesStyle("others", BLUE), SeriesStyle("chosen", VERMILLION, symbol="square")
TICKS = (0, 50, 75, 90, 95, 99)


def service_style(service: Service, index: int) -> SeriesStyle:
    """The style of a service: that of its decoder in the latency figures, else one by its index."""
    other = replace(SERVICE_STYLES[index % len(SERVICE_STYLES)], name=service.name)
    return (DECODERS | PAPER).get(service.name, other)


def responses_figure(
    services: Sequence[Service], forecasts: Sequence[Forecast], selected: int, deadline_ms: float
) -> Figure:
    """Percentiles of the response time, one line for each service.

    Overloaded services have no line.

    Args:
        services: what answers.
        forecasts: one for each service.
        selected: index of the service drawn thick.
        deadline_ms: a dotted line.
    """
    styles = [service_style(service, index) for index, service in enumerate(services)]
    traces, times, overloaded = [], [deadline_ms], []
    for index, (style, forecast) in enumerate(zip(styles, forecasts, strict=True)):
        percents = () if forecast.overloaded else PERCENTS
        responses = [forecast.percentile(percent) for percent in percents]
        times += responses
        overloaded += [style.name] * forecast.overloaded
        hover = [
            f"{style.name}: {percent:g} % within {number(ms)} ms"
            for percent, ms in zip(percents, responses, strict=True)
        ]
        points = zip(map(_slower, percents), responses, strict=True)
        traces.append(draw.series(points, style, hover, 2 + 2 * (index == selected)))
    first, last = _slower(PERCENTS[0]), _slower(PERCENTS[-1])
    deadline, ends = f"deadline, {deadline_ms:,g} ms", [(first, deadline_ms), (last, deadline_ms)]
    traces.append(draw.line(ends, BLACK, dash="dot", name=deadline))
    those = "all" if len(overloaded) == len(services) else "; ".join(overloaded)
    note = f" Overloaded, without a line: {those}." if overloaded else ""
    low, high = math.log10(min(times)) - 0.1, math.log10(max(times)) + 0.1
    title = (
        f"Response times with {counted(forecasts[0].cluster.servers, 'server')} for each decoder"
    )
    caption = f"From arrival to answer. Asked for: 99 % below the dotted deadline.{note}"
    span = (math.log10(first) - 0.03, math.log10(last) + 0.03)
    x_title = "share of the requests answered within that time"
    ticks, names = list(map(_slower, TICKS)), [f"{percent} %" for percent in TICKS]
    x_axis = draw.axis(x_title, ticks, names, span, type="log")
    y_axis = draw.decimal_axis("response time (ms)", low, high, (low, high))
    return draw.figure(traces, title, caption, 250, 116, xaxis=x_axis, yaxis=y_axis)


def servers_figure(
    services: Sequence[Service],
    needed: Sequence[int | None],
    selected: int,
    deadline_ms: float,
    requests_per_second: float,
) -> Figure:
    """How many servers each service needs, on a logarithmic axis.

    Args:
        services: what answers.
        needed: servers for each; None where no number is enough.
        selected: index of the service marked by a square.
        deadline_ms: what 99 % of the requests stay within.
        requests_per_second: the load.
    """
    names = [service_style(service, index).name for index, service in enumerate(services)]
    rows = range(len(services))[::-1]  # the first on top
    points = [(count, row) for row, count in zip(rows, needed, strict=True) if count]
    marks = []
    for style, is_selected in ((OTHERS, False), (SELECTED, True)):
        group = [(count, row) for count, row in points if (row == rows[selected]) is is_selected]
        hover = [f"{count:,} servers" for count, _ in group]
        marks.append(draw.markers(group, style, 11, hover))
    tips = [(1.12 * (count or 0.7), row) for row, count in zip(rows, needed, strict=True)]
    counts = [f"{count:,}" if count else "✕ too slow even without a queue" for count in needed]
    stems = draw.segments([((0.7, row), (count, row)) for count, row in points], GREY, name="stems")
    most = math.log10(max([10, *(count for count, _ in points)]))
    return draw.figure(
        [stems, *marks, draw.texts(tips, counts, "middle right")],
        f"Servers for {requests_per_second:,g} requests a second",
        f"The fewest that keep 99 % within {deadline_ms:,g} ms (logarithmic axis). Square: the "
        "chosen decoder.",
        34 * len(services) + 20,
        56,
        showlegend=False,
        xaxis=draw.decimal_axis("servers needed", 0, most, (math.log10(0.7), 1.15 * most + 0.1)),
        yaxis=draw.named_axis(names, rows),
    )


def _slower(percent: float) -> float:
    """One in how many requests is slower."""
    return 100 / (100 - percent)
