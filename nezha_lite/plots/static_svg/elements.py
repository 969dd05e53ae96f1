"""The elements of static figures, each as SVG text."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any
from xml.sax.saxutils import escape

DASH_ARRAYS = {"dash": "8 5", "dot": "2 4", "dashdot": "8 4 2 4", "longdash": "14 5"}
DASH_ARRAYS["longdashdot"] = "14 4 2 4"
# Corners on a circle of radius 1.
_CROSS = [(0.3, 1), (0.3, 0.3), (1, 0.3), (1, -0.3), (0.3, -0.3), (0.3, -1)]
_CROSS += [(-x, -y) for x, y in _CROSS]
POLYGONS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "diamond": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    "triangle-up": [(0, -1.1), (1, 0.8), (-1, 0.8)],
    "triangle-down": [(0, 1.1), (1, -0.8), (-1, -0.8)],
    "cross": _CROSS,
    "x": [((x - y) * 0.75, (x + y) * 0.75) for x, y in _CROSS],
}
# Widths of letters in ems; generous, because the reader's font is not known.
_NARROW, _BROAD = frozenset(" !'(),.:;I[]fijlrt|"), frozenset("%&@MWmw—…")
# Strokes of an 8-pixel tile; the pattern is what remains of a bar's meaning without colour.
PATTERNS = {"/": "M-2,2 l4,-4 M0,8 l8,-8 M6,10 l4,-4", "x": "M0,0 l8,8 M0,8 l8,-8"}


def rounded(value: float) -> str:
    """A coordinate to a tenth of a pixel, without a trailing zero or a negative one."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def fill(trace: dict[str, Any], x: float, y: float, width: float, height: float) -> Iterator[str]:
    """A rectangle in a bar trace's colour, with its pattern in white strokes."""
    colour = trace["marker"]["color"]
    shape = trace["marker"].get("pattern", {}).get("shape", "")
    size = f'x="{rounded(x)}" y="{rounded(y)}" width="{rounded(width)}" height="{rounded(height)}"'
    if height <= 0:
        return
    yield f'<rect {size} fill="{colour}"/>'
    if shape:
        # An id is global to the page that shows the SVG: equal ids must mean equal patterns.
        name = f"pattern-{'slash' if shape == '/' else 'cross'}"
        yield (
            f'<pattern id="{name}" width="8" height="8" patternUnits="userSpaceOnUse">'
            f'<path d="{PATTERNS[shape]}" stroke="white" stroke-width="1.5" fill="none"/></pattern>'
            f'<rect {size} fill="url(#{name})"/>'
        )


def lying_bars(
    trace: dict[str, Any], to_x: Callable[[float], float], to_y: Callable[[float], float]
) -> Iterator[str]:
    """The bars of a horizontal trace, each beginning at 0."""
    half = trace.get("width", 0.7) / 2
    for x, y in zip(trace["x"], trace["y"], strict=True):
        top, bottom = sorted((to_y(y - half), to_y(y + half)))
        yield from fill(trace, to_x(0), top, to_x(x) - to_x(0), bottom - top)


def marker(x: float, y: float, marker: dict[str, Any]) -> str:
    """A plotly marker symbol at a point."""
    symbol, colour = marker.get("symbol", "circle"), marker.get("color", "#0072B2")
    radius = marker.get("size", 6) / 2
    line = marker.get("line", {})
    paint = f'fill="{colour}"'
    if symbol.endswith("-open"):
        symbol = symbol.removesuffix("-open")
        paint = f'fill="white" stroke="{colour}" stroke-width="{rounded(line.get("width", 1.5))}"'
    if symbol == "circle":
        return f'<circle cx="{rounded(x)}" cy="{rounded(y)}" r="{rounded(radius)}" {paint}/>'
    corners = [
        f"{rounded(x + radius * dx)},{rounded(y + radius * dy)}" for dx, dy in POLYGONS[symbol]
    ]
    return f'<polygon points="{" ".join(corners)}" {paint}/>'


def path(commands: str, line: dict[str, Any]) -> str:
    """A stroke along path commands, in a plotly line's colour, width and dash."""
    dash = DASH_ARRAYS.get(line.get("dash", ""), "")
    return (
        f'<path d="{commands}" fill="none" stroke="{line.get("color", "#0072B2")}" '
        f'stroke-width="{rounded(line.get("width", 2))}"'
        + (f' stroke-dasharray="{dash}"/>' if dash else "/>")
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    """A straight hairline."""
    commands = f"M{rounded(x1)},{rounded(y1)}L{rounded(x2)},{rounded(y2)}"
    return path(commands, {"color": colour, "width": 1})


def text(
    x: float,
    y: float,
    text: str,
    anchor: str = "start",
    size: float = 13,
    colour: str = "",
    turn: bool = False,
) -> str:
    """One line of plain text; `turn` writes it upwards."""
    if not text:
        return ""
    turned = f' transform="rotate(-90 {rounded(x)} {rounded(y)})"' if turn else ""
    fill = f' fill="{colour}"' if colour else ""
    # XML has no way to write control characters, not even escaped.
    clean = escape(re.sub(r"[^\t\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text))
    return (
        f'<text x="{rounded(x)}" y="{rounded(y)}" text-anchor="{anchor}" '
        f'font-size="{rounded(size)}"{fill}{turned}>{clean}</text>'
    )


def text_width(text: str, size: float = 13) -> float:
    """Width of a text in pixels in a sans-serif font: an estimate that is slightly too wide."""
    return size * sum(map(_em, text))


def _em(letter: str) -> float:
    if letter in _NARROW:
        return 0.4
    if letter in _BROAD or unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    return 0.7 if letter.isupper() else 0.63


def wrapped(text: str, max_width: float, size: float = 13) -> list[str]:
    """Lines no wider than `max_width` pixels by `text_width`.

    They are broken at spaces (but for one before "%"), or within a word that is longer than a line.
    """
    lines = [""]
    for word in re.split(r"\s+(?!%)", text.strip()):
        whole = f"{lines[-1]} {word}" if lines[-1] else word
        if text_width(whole, size) <= max_width:
            lines[-1] = whole
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and text_width(lines[-1] + letter, size) > max_width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def shortened(text: str, max_width: float, size: float = 13) -> str:
    """The text, or as much of its beginning as fits before "…"."""
    if text_width(text, size) <= max_width:
        return text
    while text and text_width(text + "…", size) > max_width:
        text = text[:-1]
    return text.rstrip() + "…"


def plain(text: str) -> str:
    """The plain text of a text escaped for plotly: without tags, with entities resolved."""
    return html.unescape(re.sub(r"<[^>]*>", "", text.replace("<br>", "\n")))
