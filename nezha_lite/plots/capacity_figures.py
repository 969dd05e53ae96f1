"""Response times under a queue, and the number of servers that each decoder needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import plotly.graph_objects as go

from nezha_lite.bench.capacity import Forecast, Service
from nezha_lite.plots.basic_charts import number
from nezha_lite.plots.labelled_lines import decimal_ticks
from nezha_lite.plots.speed_figures import DECODERS
from nezha_lite.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Figure,
    headed,
    plot_text,
)
from nezha_lite.plots.traces import (
    SeriesStyle,
    line_trace,
    marker_trace,
    named_axis,
    segment_trace,
    series_trace,
    text_trace,
)

PAPER = {
    "paper: before NEZHA": SeriesStyle("paper: before NEZHA", ORANGE, "longdashdot", "cross"),
    "paper: NEZHA": SeriesStyle("paper: NEZHA", SKY, "dot", "diamond"),
}
OTHERS = (
    SeriesStyle("", PURPLE, "dashdot", "triangle-up"),
    SeriesStyle("", GREEN, "longdash", "triangle-down"),
    SeriesStyle("", VERMILLION, "dot", "square-open"),
    SeriesStyle("", GREY, "dash", "diamond-open"),
)
# Shares of the requests, in percent. The axis counts the slower ones: one in 2, in 10, in 100.
PERCENTS = (0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 93, 95, 97, 98, 99, 99.5)
TICKS = (0, 50, 75, 90, 95, 99)


def service_style(service: Service, index: int) -> SeriesStyle:
    """The style of a service: that of its decoder in the latency figures, else one by its index."""
    styles = DECODERS | PAPER
    return styles.get(service.name, replace(OTHERS[index % len(OTHERS)], name=service.name))


def responses_figure(
    services: Sequence[Service], forecasts: Sequence[Forecast], chosen: int, deadline_ms: float
) -> Figure:
    """Percentiles of the response time, one line for each service.

    Overloaded services have no line.

    Args:
        services: what answers.
        forecasts: one for each service.
        chosen: index of the service drawn thick.
        deadline_ms: a dotted line.
    """
    traces, times = [], [deadline_ms]
    for index, (service, forecast) in enumerate(zip(services, forecasts, strict=True)):
        style = service_style(service, index)
        shown = () if forecast.overloaded else PERCENTS
        ys = [forecast.percentile(percent) for percent in shown]
        times += ys
        traces.append(
            series_trace(
                [(_slower(percent), ms) for percent, ms in zip(shown, ys, strict=True)],
                style,
                [
                    f"{plot_text(style.name)}: {percent:g} % within {number(ms)} ms"
                    for percent, ms in zip(shown, ys, strict=True)
                ],
                2 + 2 * (index == chosen),
            )
        )
    ends = [_slower(PERCENTS[0]), _slower(PERCENTS[-1])]
    traces.append(
        line_trace(
            [(end, deadline_ms) for end in ends],
            BLACK,
            dash="dot",
            name=f"deadline, {deadline_ms:,g} ms",
        )
    )
    low, high = math.log10(min(times)) - 0.1, math.log10(max(times)) + 0.1
    missing = [
        service_style(service, index).name
        for index, (service, forecast) in enumerate(zip(services, forecasts, strict=True))
        if forecast.overloaded
    ]
    named = "all" if len(missing) == len(services) else "; ".join(missing)
    note = f" Overloaded, without a line: {named}." if missing else ""
    servers = forecasts[0].cluster.servers
    layout = headed(
        f"Response times with {servers:,} server{'' if servers == 1 else 's'} for each decoder",
        f"From arrival to answer. Asked for: 99 % below the dotted deadline.{note}",
        250,
        116,
        showlegend=True,
        hovermode="closest",
        xaxis={
            "type": "log",
            "title": {"text": "share of the requests answered within that time"},
            "tickvals": [_slower(percent) for percent in TICKS],
            "ticktext": [f"{percent} %" for percent in TICKS],
            "range": [math.log10(ends[0]) - 0.03, math.log10(ends[1]) + 0.03],
        },
        yaxis={
            "type": "log",
            "title": {"text": "response time (ms)"},
            "range": [low, high],
            **decimal_ticks(low, high),
        },
    )
    return Figure(traces, layout)


def servers_figure(
    services: Sequence[Service],
    needed: Sequence[int | None],
    chosen: int,
    deadline_ms: float,
    requests_per_second: float,
) -> Figure:
    """How many servers each service needs, on a logarithmic axis.

    Args:
        services: what answers.
        needed: servers for each; None where no number is enough.
        chosen: index of the service marked by a square.
        deadline_ms: what 99 % of the requests stay within.
        requests_per_second: the load.
    """
    names = [service_style(service, index).name for index, service in enumerate(services)]
    rows = [len(services) - 1 - index for index in range(len(services))]  # the first on top
    possible = [(row, count) for row, count in zip(rows, needed, strict=True) if count]
    stems = [((0.7, row), (count, row)) for row, count in possible]
    marks = [(row, count) for row, count in possible if row != rows[chosen]]
    own = [(row, count) for row, count in possible if row == rows[chosen]]
    texts = [f"{count:,}" if count else "✕ too slow even without a queue" for count in needed]
    traces = [
        segment_trace(stems, GREY, name="stems"),
        _marks(marks, "others", BLUE, "circle"),
        _marks(own, "chosen", VERMILLION, "square"),
        text_trace(
            [(1.12 * (count or 0.7), row) for row, count in zip(rows, needed, strict=True)],
            texts,
            position="middle right",
        ),
    ]
    most = math.log10(max([10, *(count for _, count in possible)]))
    layout = headed(
        f"Servers for {requests_per_second:,g} requests a second",
        f"The fewest that keep 99 % within {deadline_ms:,g} ms (logarithmic axis). Square: the "
        "chosen decoder.",
        34 * len(services) + 20,
        56,
        showlegend=False,
        xaxis={
            "type": "log",
            "title": {"text": "servers needed"},
            "range": [math.log10(0.7), 1.15 * most + 0.1],
            **decimal_ticks(0, most),
        },
        yaxis=named_axis(names, rows),
    )
    return Figure(traces, layout)


def _marks(points: Sequence[tuple[int, int]], name: str, colour: str, symbol: str) -> go.Scatter:
    return marker_trace(
        zip([count for _, count in points], [row for row, _ in points], strict=True),
        {"color": colour, "symbol": symbol, "size": 11},
        name=name,
        hover=[f"{count:,} servers" for _, count in points],
    )


def _slower(percent: float) -> float:
    """One in how many requests is slower."""
    return 100 / (100 - percent)
