"""A static SVG of a figure, for places that run no JavaScript.

It draws what this package's figures use (bars, stacked or not; lines, markers and text; heat maps
of two colours; linear and logarithmic axes; a legend) and refuses the rest. Coordinates are rounded
to a tenth of a pixel: the same figure gives the same text everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nezha_lite.plots.static_svg import elements as svg
from nezha_lite.plots.static_svg.elements import plain, rounded, text_width, wrapped

WIDTH, EDGE = 760, 14  # of the page; before and after its text
Fields = dict[str, Any]  # of a trace, an axis or a layout, as plotly writes them
Span = tuple[float, float]
Scale = Callable[[float], float]  # from a value to pixels
FONT = "Helvetica, Arial, sans-serif"
LINE_HEIGHT = 18


def page_svg(blocks: Sequence[Any]) -> str:
    """Figures and paragraphs (lists of plain-text lines), one below the other, as one SVG.

    Lines that are wider than the page go on in the next.
    """
    parts: list[str] = []
    y = 0.0
    for block in blocks:
        if isinstance(block, list):
            for line in (part for text in block for part in wrapped(text, WIDTH - 2 * EDGE)):
                y += LINE_HEIGHT
                parts.append(svg.text(EDGE, y, line))
            y += LINE_HEIGHT / 2
        else:
            body, height = _figure(block.to_dict())
            parts.append(f'<g transform="translate(0,{rounded(y)})">{body}</g>')
            y += height
    return _document("".join(parts), y)


def figure_svg(figure: Any) -> str:
    """One plotly figure as SVG; ValueError for a kind of trace that is not drawn here."""
    return _document(*_figure(figure.to_dict()))


def _document(body: str, height: float) -> str:
    size = f'width="{WIDTH}" height="{rounded(height)}" viewBox="0 0 {WIDTH} {rounded(height)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}" font-size="13" '
        f'fill="#222222"><rect width="100%" height="100%" fill="white"/>{body}</svg>'
    )


def _figure(figure: dict[str, Any]) -> tuple[str, float]:
    layout, traces = figure["layout"], figure["data"]
    margin, height = layout["margin"], layout["height"]
    visible = [trace for trace in traces if trace.get("visible", True) is True]
    spans = {axis: _span(layout.get(f"{axis}axis", {}), axis, visible) for axis in "xy"}
    y_axis = layout.get("yaxis", {})
    longest = max((text_width(label, 12) for _, label in _ticks(y_axis, spans["y"])), default=0)
    # As plotly's automargin: space for the labels of the y axis beside its title.
    left = max(margin["l"], 34 + longest) if y_axis.get("visible", True) else margin["l"]
    right, top, bottom = WIDTH - margin["r"], margin["t"], height - margin["b"]
    to_x = _scale(spans["x"], left, right, layout.get("xaxis", {}))
    to_y = _scale(spans["y"], bottom, top, layout.get("yaxis", {}))
    parts = [*_heading(layout)]
    parts += _axes(layout, spans, (left, right, top, bottom), to_x, to_y)
    base: dict[float, float] = {}  # where the next bar of a stack begins
    for trace in visible:
        if trace["type"] == "bar" and trace.get("orientation") == "h":
            parts += svg.lying_bars(trace, to_x, to_y)
        elif trace["type"] == "bar":
            parts += _bars(trace, base if layout.get("barmode") == "stack" else {}, to_x, to_y)
        elif trace["type"] == "scatter":
            parts += _scatter(trace, to_x, to_y)
        elif trace["type"] == "heatmap":
            parts += _cells(trace, to_x, to_y)
        else:
            raise ValueError(f"A static figure has no trace of type {trace['type']!r}.")
    if layout.get("showlegend", True):
        parts += _legend(visible, left, height - 14)
    return "".join(parts), height


def _heading(layout: Fields) -> Iterator[str]:
    title, *caption = plain(layout.get("title", {}).get("text") or "").split("\n")
    yield svg.text(EDGE, 26, title, size=17)
    for index, line in enumerate(caption):
        yield svg.text(EDGE, 48 + index * LINE_HEIGHT, line, colour="#555555")


# ---- axes ---------------------------------------------------------------------------------------


def _span(axis: Fields, name: str, traces: list[Fields]) -> Span:
    """The numbers at both ends of an axis, in its own units (logarithms on a log axis)."""
    if "range" in axis:
        return axis["range"][0], axis["range"][1]
    values = [value for trace in traces for value in trace.get(name, ()) if value is not None]
    log = axis.get("type") == "log"
    if log:
        values = [math.log10(value) for value in values]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    return low - (0 if low == 0 and not log else margin), high + margin


def _scale(span: Span, start: float, end: float, axis: Fields) -> Scale:
    low, high = span
    log = axis.get("type") == "log"

    def to_pixels(value: float) -> float:
        return start + ((math.log10(value) if log else value) - low) / (high - low) * (end - start)

    return to_pixels


def _ticks(axis: Fields, span: Span) -> list[tuple[float, str]]:
    if "tickvals" in axis:
        return list(zip(axis["tickvals"], map(plain, axis["ticktext"]), strict=True))
    low, high = sorted(span)
    if axis.get("type") == "log":
        factors = (1,) if high - low > 2.5 else (1, 2, 5)
        values = [f * 10.0**d for d in range(math.floor(low), math.ceil(high) + 1) for f in factors]
        return [(value, _short(value)) for value in values if low <= math.log10(value) <= high]
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step - 1e-9)
    values = [(first + i) * step for i in range(int((high - first * step) / step + 1e-9) + 1)]
    return [(value, _short(round(value, 12))) for value in values]


def _short(value: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.6g}{letter}"
    return f"{value:,.6g}"


def _axes(
    layout: Fields, spans: dict[str, Span], box: Sequence[float], to_x: Scale, to_y: Scale
) -> Iterator[str]:
    left, right, top, bottom = box
    x_axis, y_axis = layout.get("xaxis", {}), layout.get("yaxis", {})
    below = bottom + 18  # the foot of the x axis's labels
    for value, label in _ticks(x_axis, spans["x"]) if x_axis.get("visible", True) else ():
        x = to_x(value)
        if x_axis.get("showgrid", True):
            yield svg.line(x, top, x, bottom, "#E5E5E5")
        if x_axis.get("tickangle") == -90:
            yield svg.text(x + 4, bottom + 6, label, anchor="end", size=11, turn=True)
            below = max(below, bottom + 6 + text_width(label, 11))
        else:
            yield svg.text(x, bottom + 18, label, anchor="middle", size=12)
    for value, label in _ticks(y_axis, spans["y"]) if y_axis.get("visible", True) else ():
        y = to_y(value)
        if y_axis.get("showgrid", True):
            yield svg.line(left, y, right, y, "#E5E5E5")
        yield svg.text(left - 6, y + 4, label, anchor="end", size=12)
    x_title = plain(x_axis.get("title", {}).get("text", ""))
    y_title = plain(y_axis.get("title", {}).get("text", ""))
    if x_axis.get("visible", True) and x_title:
        yield svg.text((left + right) / 2, below + 28, x_title, "middle")
    if y_axis.get("visible", True) and y_title:
        yield svg.text(16, (top + bottom) / 2, y_title, anchor="middle", turn=True)


def _legend(traces: list[Fields], left: float, y: float) -> Iterator[str]:
    """In rows as wide as the page, the last of which stands at y."""
    named = [one for one in traces if one.get("name") and one.get("showlegend", True) and one["x"]]
    rows: list[list[tuple[float, Fields]]] = [[]]
    x = left
    for trace in named if len(named) > 1 else ():
        width = 28 + text_width(plain(trace["name"])) + 18
        if rows[-1] and x + width - 18 > WIDTH - EDGE:
            rows.append([])
            x = left
        rows[-1].append((x, trace))
        x += width
    for above, row in enumerate(reversed(rows)):
        for x, trace in row:
            yield from _legend_entry(trace, x, y - LINE_HEIGHT * above)


def _legend_entry(trace: Fields, x: float, y: float) -> Iterator[str]:
    if trace["type"] == "bar":
        yield from svg.fill(trace, x, y - 10, 18, 11)
    else:
        line, marker = trace.get("line", {}), trace.get("marker", {})
        if "lines" in trace["mode"]:
            yield svg.path(f"M{rounded(x)},{rounded(y - 4)} h22", line)
        if "markers" in trace["mode"]:
            yield svg.marker(x + 11, y - 4, marker)
    yield svg.text(x + 28, y, plain(trace["name"]))


# ---- traces -------------------------------------------------------------------------------------


def _bars(trace: Fields, base: dict[float, float], to_x: Scale, to_y: Scale) -> Iterator[str]:
    half = trace.get("width", 0.7) / 2
    errors = trace.get("error_y", {}).get("array", [])
    for index, (x, y) in enumerate(zip(trace["x"], trace["y"], strict=True)):
        start = base.get(x, 0.0)
        base[x] = start + y
        top, bottom = sorted((to_y(start), to_y(start + y)))
        left, right = to_x(x - half), to_x(x + half)
        yield from svg.fill(trace, left, top, right - left, bottom - top)
        if errors and errors[index]:
            middle = (left + right) / 2
            high, low = to_y(y + errors[index]), to_y(y - errors[index])
            for ends in ((0, high, 0, low), (-5, high, 5, high), (-5, low, 5, low)):
                yield svg.line(middle + ends[0], ends[1], middle + ends[2], ends[3], "#000000")


def _scatter(trace: Fields, to_x: Scale, to_y: Scale) -> Iterator[str]:
    mode = trace["mode"]
    points = [
        None if x is None or y is None else (to_x(x), to_y(y))
        for x, y in zip(trace["x"], trace["y"], strict=True)
    ]
    if "lines" in mode and points:
        commands = []
        for before, point in zip([None, *points], points, strict=False):
            if point:
                commands.append(f"{'L' if before else 'M'}{rounded(point[0])},{rounded(point[1])}")
        yield svg.path("".join(commands), trace.get("line", {}))
    for index, point in enumerate(points):
        if point and "markers" in mode:
            yield svg.marker(*point, trace.get("marker", {}))
        if point and "text" in mode:
            where = trace.get("textposition", "middle center")
            size = trace.get("textfont", {}).get("size", 12)
            x, anchor = point[0], "middle"
            if "right" in where:
                anchor = "start"
            y = point[1] - 4 if "top" in where else point[1] + size * 0.35
            yield svg.text(x, y, plain(trace["text"][index]), anchor, size)


def _cells(trace: Fields, to_x: Scale, to_y: Scale) -> Iterator[str]:
    colours = [colour for _, colour in trace["colorscale"]]
    width, height = to_x(1) - to_x(0), to_y(1) - to_y(0)
    for value, colour in enumerate(colours):
        # One path a colour keeps a mask of 40 tokens below 30 kB.
        corners = [
            f"M{rounded(to_x(column - 0.5) + 0.5)},{rounded(to_y(row - 0.5) + 0.5)}"
            f"h{rounded(width - 1)}v{rounded(height - 1)}h{rounded(1 - width)}z"
            for row, cells in enumerate(trace["z"])
            for column, cell in enumerate(cells)
            if cell == value
        ]
        yield f'<path d="{"".join(corners)}" fill="{colour}"/>'
