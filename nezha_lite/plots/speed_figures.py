"""Figures of measured latency: phases, beam widths, verifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from nezha_lite.bench.decoders import forward_ratio
from nezha_lite.common.results import ResultRow
from nezha_lite.plots.basic_charts import number
from nezha_lite.plots.labelled_lines import Line, labelled_lines_figure
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
from nezha_lite.plots.traces import SeriesStyle, bar_trace, named_axis, text_trace

DECODERS = {
    "nezha": SeriesStyle("NEZHA", BLUE),
    "nezha-eager": SeriesStyle("NEZHA, eager", BLUE, "dash", "circle-open"),
    "parallel-heads": SeriesStyle("parallel heads", GREEN, "longdash", "diamond"),
    "autoregressive": SeriesStyle("autoregressive", VERMILLION, "solid", "square"),
    "autoregressive-eager": SeriesStyle("autoregressive, eager", VERMILLION, "dash", "square-open"),
    "speculative": SeriesStyle("speculative", PURPLE, "dashdot", "triangle-up"),
    "generate": SeriesStyle("generate", GREY, "dash", "x"),
    "generate-constrained": SeriesStyle("generate, constrained", BLACK, "solid", "x"),
}
UNCHECKED = SeriesStyle("NEZHA, unchecked", SKY, "dot", "triangle-down")
PHASES = {
    "forward": (BLUE, ""),
    "head": (ORANGE, "/"),
    "verify": (GREEN, "x"),
    "select": (GREY, ""),
}


def phases_figure(rows: Sequence[ResultRow]) -> Figure:
    """The share of each phase in a decode, a bar per decoder and beam, its milliseconds above.

    Args:
        rows: of `bench_decoding` whose time was split, at one batch size and history.

    Raises:
        ValueError: if no row has phases.
    """
    split = [row for row in rows if row.metrics.get("forward_ms")]
    if not split:
        raise ValueError("No row has its time split into phases: only eager decoders do.")
    names = list(dict.fromkeys(str(row.decoder) for row in split))
    split.sort(key=lambda row: (names.index(str(row.decoder)), row.beam or 0))
    positions = [index + 0.6 * names.index(str(row.decoder)) for index, row in enumerate(split)]
    totals = [sum(row.metrics.get(f"{phase}_ms", 0.0) for phase in PHASES) for row in split]
    traces: list[go.Bar | go.Scatter] = []
    for phase, (colour, pattern) in PHASES.items():
        spent = [row.metrics.get(f"{phase}_ms", 0.0) for row in split]
        traces.append(
            bar_trace(
                [
                    (position, 100 * part / total)
                    for position, part, total in zip(positions, spent, totals, strict=True)
                ],
                phase,
                colour,
                pattern,
                0.7,
                hoverinfo="text",
                hovertext=[f"{phase}: {number(part)} ms" for part in spent],
            )
        )
    traces.append(
        _texts(positions, [101.0] * len(split), [f"{number(total)} ms" for total in totals])
    )
    groups = {
        name: [
            position for position, row in zip(positions, split, strict=True) if row.decoder == name
        ]
        for name in names
    }
    middles = [sum(group) / len(group) for group in groups.values()]
    headings = [decoder_style(name, "prefix").name for name in names]
    traces.append(_texts(middles, [114.0] * len(names), headings))
    first, last = (
        split[0],
        max((row for row in split if row.decoder == names[0]), key=lambda row: row.beam or 0),
    )
    caption = (
        f"{headings[0]}: the forward pass is {_share(first)} of a decode at beam {first.beam}, "
        f"{_share(last)} at beam {last.beam}. Above each bar: all phases together."
    )
    layout = headed(
        "Where the milliseconds go",
        caption,
        270,
        88,
        barmode="stack",
        showlegend=True,
        xaxis=named_axis([f"beam {row.beam}" for row in split], positions),
        yaxis={
            "title": {"text": "share of the time (%)"},
            "tickvals": [0, 25, 50, 75, 100],
            "ticktext": ["0", "25", "50", "75", "100"],
            "range": [0, 124],
        },
    )
    return Figure(traces, layout)


def latency_figure(rows: Sequence[ResultRow]) -> Figure:
    """Time against beam width, in bare forward passes, a line per decoder.

    A captured decoder is compared with the captured pass, an eager one with the eager pass.

    Args:
        rows: of `bench_decoding`, at one batch size and history; the forward passes may be among
            them.
    """
    lines = []
    for (decoder, verifier), group in rows_by_decoder(rows).items():
        style = decoder_style(decoder, verifier)
        points = [(float(row.beam or 0), ratio) for row in group if (ratio := _ratio(row))]
        if points:
            beams, ratios = (list(column) for column in zip(*points, strict=True))
            lines.append(Line(style, beams, ratios))
    beams = sorted({beam for line in lines for beam in line.xs})
    if beams and any(row.beam is None for row in rows):
        ends = [beams[0], beams[-1]]
        lines.append(Line(SeriesStyle("bare forward pass", BLACK, "dot", ""), ends, [1.0, 1.0]))
    return labelled_lines_figure(
        lines,
        x_title="beam width",
        y_title="bare forward passes",
        title="Time per list, in bare forward passes",
        caption=_latency_caption(rows),
        x_ticks=[(beam, f"{beam:g}") for beam in beams],
    )


def rows_by_decoder(rows: Sequence[ResultRow]) -> dict[tuple[str, str | None], list[ResultRow]]:
    """Rows by decoder and verifier, by rising beam; those without a beam are left out."""
    groups: dict[tuple[str, str | None], list[ResultRow]] = {}
    for row in sorted((row for row in rows if row.beam), key=lambda row: row.beam or 0):
        group = groups.setdefault((str(row.decoder), row.verifier), [])
        if group and group[-1].beam == row.beam:
            raise ValueError(
                f"Two rows are {row.decoder} (verifier {row.verifier}) at beam {row.beam}: "
                "choose the rows of one batch size, history and structure."
            )
        group.append(row)
    order = list(DECODERS)
    return dict(
        sorted(
            groups.items(),
            key=lambda pair: (
                order.index(pair[0][0]) if pair[0][0] in order else len(order),
                pair[0][1] != "prefix",
            ),
        )
    )


def decoder_style(name: str, verifier: str | None) -> SeriesStyle:
    """The style of a decoder, given its verification, the same in every figure."""
    style = DECODERS.get(name, SeriesStyle(name, GREY, "dot", "cross"))
    if name in ("generate", "generate-constrained") or verifier in ("prefix", None):
        return style
    if (name, verifier) == ("nezha", "off"):
        return UNCHECKED
    how = {"off": "unchecked", "final": "checked at the end"}.get(str(verifier), str(verifier))
    return SeriesStyle(
        f"{style.name}, {how}", style.colour, "dot", f"{style.symbol.removesuffix('-open')}-open"
    )


def _latency_caption(rows: Sequence[ResultRow]) -> str:
    """Ratios at the widest beam; of eager decoders where no captured ones were measured."""
    groups = {(str(row.decoder), row.beam): row for row in rows if row.verifier == "prefix"}
    nezha = "nezha" if any(name == "nezha" for name, _ in groups) else "nezha-eager"
    beam = max((width or 0 for name, width in groups if name == nezha), default=0)
    rival = nezha.replace("nezha", "autoregressive")
    parts = [
        f"{DECODERS[name].name} {number(_ratio(groups[name, beam]) or 0)}"
        for name in (nezha, rival, "generate-constrained")
        if (name, beam) in groups
    ]
    if not parts:
        return ""
    return (
        f"At beam {beam}, in bare forward passes of the same kind, captured or eager: "
        f"{'; '.join(parts)}. Every line obeys the catalogue, save plain generate and what is "
        "called unchecked."
    )


def _ratio(row: ResultRow) -> float | None:
    """Over the forward pass of its own kind, captured or eager; None where none was measured."""
    return forward_ratio(row)[0]


def _share(row: ResultRow) -> str:
    total = sum(row.metrics.get(f"{phase}_ms", 0.0) for phase in PHASES)
    return f"{row.metrics['forward_ms'] / total:.0%}".replace("%", " %")


def _texts(xs: Sequence[float], ys: Sequence[float], texts: Sequence[str]) -> go.Scatter:
    return text_trace(zip(xs, ys, strict=True), [plot_text(text) for text in texts])


STRUCTURES = {
    "isin": SeriesStyle("torch.isin", BLACK, "longdash", "x"),
    "hash-set": SeriesStyle("Python set", GREY, "dot", "triangle-down"),
    "sorted": SeriesStyle("sorted keys", VERMILLION, "dash", "square"),
    "hash-table": SeriesStyle("hash table", PURPLE, "dashdot", "triangle-up"),
    "bitset": SeriesStyle("bitset", GREEN, "longdash", "diamond"),
    "trie": SeriesStyle("trie", BLUE, "solid", "circle"),
}


def verifiers_figure(
    rows: Sequence[ResultRow],
    values: Mapping[tuple[str, int], float],
    y_title: str,
    title: str,
    caption: str,
) -> Figure:
    """A quantity against catalogue size, a line per structure; dotted where extrapolated.

    Args:
        rows: of `bench_verifiers`, and of `extrapolate`.
        values: (structure, items) → what is shown; rows without are left out.
        y_title: the quantity, with its unit.
        title: plain text.
        caption: what to see, in a sentence.
    """
    lines = []
    for kind in dict.fromkeys(str(row.verifier) for row in rows):
        rows_of_kind = sorted(
            (row for row in rows if row.verifier == kind), key=lambda row: row.settings["items"]
        )
        rows_of_kind = [row for row in rows_of_kind if (kind, row.settings["items"]) in values]
        measured = [row for row in rows_of_kind if not row.settings.get("extrapolated")]
        sizes = [row.settings["items"] for row in rows_of_kind]
        style = STRUCTURES.get(kind, SeriesStyle(kind, GREY, "dot", "cross"))
        ys = [values[kind, size] for size in sizes]
        if rows_of_kind:
            lines.append(Line(style, sizes, ys, len(measured)))
    sizes = sorted({size for line in lines for size in line.xs})
    return labelled_lines_figure(
        lines,
        x_title="items in the catalogue",
        y_title=y_title,
        title=title,
        caption=caption,
        x_ticks=[(size, _size(size)) for size in sizes],
    )


def _size(items: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if items >= size:
            return f"{items / size:g}{letter}"
    return f"{items:g}"
