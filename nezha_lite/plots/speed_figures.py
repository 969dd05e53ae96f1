"""Figures of measured latency: phases, beam widths, verifiers, and decoders in a race."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from nezha_lite.bench.decoders import forward_ratio
from nezha_lite.common.results import ResultRow
from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLACK, BLUE, GREY, ORANGE
from nezha_lite.plots.labelled_lines import Line, labelled_lines_figure
from nezha_lite.plots.numbers import counted, number
from nezha_lite.plots.static_svg import WIDTH, text_width
from nezha_lite.plots.style import DECODERS, PHASES, STRUCTURES, Figure, SeriesStyle, decoder_style

_ROW, _LETTERS, _RIGHT, _GAP = 34, 12, 20, 6  # pixels: a bar and its gap; of texts; margins


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
    totals = list(map(_total, split))
    traces: list[go.Bar | go.Scatter] = []
    for phase, (colour, pattern) in PHASES.items():
        times = [row.metrics.get(f"{phase}_ms", 0.0) for row in split]
        shares = [100 * time / total for time, total in zip(times, totals, strict=True)]
        hover = [f"{phase}: {number(time)} ms" for time in times]
        bars = zip(positions, shares, strict=True)
        traces.append(draw.bars(bars, phase, colour, pattern, 0.7, hover))
    groups = [
        [position for position, row in zip(positions, split, strict=True) if row.decoder == name]
        for name in names
    ]
    headings = [decoder_style(name, "prefix").name for name in names]
    traces += [
        draw.texts([(x, 101.0) for x in positions], [f"{number(total)} ms" for total in totals]),
        draw.texts([(sum(group) / len(group), 114.0) for group in groups], headings),
    ]
    first, last = split[0], split[len(groups[0]) - 1]
    caption = (
        f"{headings[0]}: the forward pass is {_share(first)} of a decode at beam {first.beam}, "
        f"{_share(last)} at beam {last.beam}. Above each bar: all phases together."
    )
    title = "Where the milliseconds go"
    x_axis = draw.named_axis([f"beam {row.beam}" for row in split], positions)
    y_axis = draw.axis("share of the time (%)", range(0, 101, 25), ends=(0, 124))
    return draw.figure(traces, title, caption, 270, 88, barmode="stack", xaxis=x_axis, yaxis=y_axis)


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
        points = [
            (float(row.beam or 0), ratio) for row in group if (ratio := forward_ratio(row)[0])
        ]
        if points:
            beams, ratios = (list(column) for column in zip(*points, strict=True))
            lines.append(Line(style, beams, ratios))
    beams = sorted({beam for line in lines for beam in line.xs})
    if beams and any(row.beam is None for row in rows):
        ends = [beams[0], beams[-1]]
        lines.append(Line(SeriesStyle("bare forward pass", BLACK, "dot", ""), ends, [1.0, 1.0]))
    title, ticks = "Time per list, in bare forward passes", [(beam, f"{beam:g}") for beam in beams]
    caption = _latency_caption(rows, [line.style.name for line in lines])
    y_title = "bare forward passes"
    return labelled_lines_figure(lines, "beam width", y_title, title, caption, ticks)


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
    order = {name: index for index, name in enumerate(DECODERS)}

    def position(key: tuple[str, str | None]) -> tuple[int, bool]:
        return order.get(key[0], len(order)), key[1] != "prefix"

    return {key: groups[key] for key in sorted(groups, key=position)}


def _latency_caption(rows: Sequence[ResultRow], drawn: Sequence[str]) -> str:
    """Ratios at the widest beam; of eager decoders where no captured ones were measured.

    Args:
        rows: of `bench_decoding`.
        drawn: the names of the lines.
    """
    groups = {(str(row.decoder), row.beam): row for row in rows if row.verifier == "prefix"}
    nezha = "nezha" if any(name == "nezha" for name, _ in groups) else "nezha-eager"
    beam = max((width or 0 for name, width in groups if name == nezha), default=0)
    rival = nezha.replace("nezha", "autoregressive")
    parts = [
        f"{DECODERS[name].name} {number(forward_ratio(groups[name, beam])[0] or 0)}"
        for name in (nezha, rival, "generate-constrained")
        if (name, beam) in groups
    ]
    if not parts:
        return ""
    free = ["plain generate"] * ("generate" in drawn)
    free += ["what is called unchecked"] * any("unchecked" in name for name in drawn)
    return (
        f"At beam {beam}, in bare forward passes of the same kind, captured or eager: "
        f"{'; '.join(parts)}. Every line obeys the catalogue"
        f"{', save ' if free else ''}{' and '.join(free)}."
    )


def _total(row: ResultRow) -> float:
    """Milliseconds of all phases."""
    return sum(row.metrics.get(f"{phase}_ms", 0.0) for phase in PHASES)


def _share(row: ResultRow) -> str:
    return f"{100 * row.metrics['forward_ms'] / _total(row):.0f} %"


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
        sizes = {  # items → whether they were extrapolated
            row.settings["items"]: bool(row.settings.get("extrapolated"))
            for row in sorted(rows, key=lambda row: row.settings["items"])
            if row.verifier == kind and (kind, row.settings["items"]) in values
        }
        if sizes:
            style = STRUCTURES.get(kind, SeriesStyle(kind, GREY, "dot", "cross"))
            ys = [values[kind, size] for size in sizes]
            lines.append(Line(style, list(sizes), ys, list(sizes.values()).count(False)))
    ticks = [(size, _size(size)) for size in sorted({size for line in lines for size in line.xs})]
    return labelled_lines_figure(lines, "items in the catalogue", y_title, title, caption, ticks)


def _size(items: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if items >= size:
            return f"{items / size:g}{letter}"
    return f"{items:g}"


@dataclass
class RaceBar:
    """The result of one decoder in a race.

    Attributes:
        name: plain text.
        ms: milliseconds for the list.
        calls: forward passes of the backbone.
        listed: IDs in the list.
        missing: how many of those no item has.
    """

    name: str
    ms: float
    calls: int
    listed: int
    missing: int

    @property
    def text(self) -> str:
        """The label at the bar's end, in plain text."""
        line = f"{number(self.ms)} ms, {counted(self.calls, 'backbone call')}"
        return line + (f"; ✕ {self.missing} of {self.listed} do not exist" if self.missing else "")


def race_figure(bars: Sequence[RaceBar], title: str, caption: str = "") -> Figure:
    """A bar per decoder for its time; hatched where the list contains non-existing IDs.

    Args:
        bars: from the top down.
        title: plain text.
        caption: what to see, in a sentence; what the hatching means is added.
    """
    names = [bar.name for bar in bars]
    left = 34 + max((text_width(name, _LETTERS) for name in names), default=0)
    plot_width = WIDTH - left - _RIGHT  # pixels of the x axis
    # The axis is so long that the text at every bar's end fits into the plot.
    ends = [bar.ms / (1 - (text_width(bar.text, _LETTERS) + _GAP) / plot_width) for bar in bars]
    longest = max(ends, default=1.0) or 1.0
    traces: list[go.Bar | go.Scatter] = []
    for name, colour, pattern, hallucinates in (
        ("lists only IDs that exist", BLUE, "", False),
        ("lists IDs that do not exist", ORANGE, "x", True),
    ):
        group = [(row, bar) for row, bar in enumerate(bars) if bool(bar.missing) is hallucinates]
        points = [(bar.ms, row) for row, bar in group]
        hover = [f"{bar.name}: {bar.text}" for _, bar in group]
        traces.append(draw.bars(points, name, colour, pattern, hover=hover, orientation="h"))
    label_gap = _GAP * longest / plot_width
    tips = [(bar.ms + label_gap, row) for row, bar in enumerate(bars)]
    traces.append(draw.texts(tips, [bar.text for bar in bars], "middle right", _LETTERS))
    caption = f"{caption} Hatched: the list names IDs that no item has.".strip()
    height, margin = max(1, len(bars)) * _ROW, {"l": round(left), "r": _RIGHT}
    x_axis = draw.axis("milliseconds for one list (median)", ends=(0, longest), showgrid=False)
    y_axis = draw.axis("", range(len(bars)), names, (len(bars) - 0.5, -0.5), showgrid=False)
    return draw.figure(
        traces, title, caption, height, 90, margin, barmode="overlay", xaxis=x_axis, yaxis=y_axis
    )
