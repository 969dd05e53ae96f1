"""Pictures of the method's steps, such as the head, a residual, a trie and a draft tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILLION
from nezha_lite.plots.static_svg import EDGE, WIDTH
from nezha_lite.plots.style import Figure, SeriesStyle

Codes = tuple[int, ...]
PALE_BLUE, PALE_GREEN, PALE_ORANGE, PALE_GREY = "#CFE5F2", "#CDEBE1", "#FBE3B3", "#E9E9E9"
BOX_HEIGHT = 26  # pixels
GUTTER = 0.16  # of a level: between a draft and its edges to the next level
LIST_MARKS = {
    True: SeriesStyle("exists", BLUE),
    False: SeriesStyle("does not exist", VERMILLION, symbol="x"),
    None: SeriesStyle("empty position", GREY, symbol="circle-open"),
}
DRAFT_MARKS = (
    SeriesStyle("drafted, not in the backbone's beam", GREY, symbol="circle-open"),
    SeriesStyle("in both: accepted", BLUE),
    SeriesStyle("in the backbone's beam, not drafted", VERMILLION, symbol="x"),
)


class Box(NamedTuple):
    """A coloured box with a text; `half` is half of its width, in units of the x axis."""

    x: float
    y: float
    text: str
    colour: str = "#FFFFFF"
    half: float = 0.3


Boxes = Sequence[Box]
Arrows = Sequence[tuple[draw.Segment, str]]


def _diagram(boxes: Boxes, arrows: Arrows, title: str, caption: str, height: int) -> Figure:
    """Boxes, and arrows in their colours with a dot at the end, without axes."""
    traces = []
    for colour in dict.fromkeys(colour for _, colour in arrows):
        own = [segment for segment, other in arrows if other == colour]
        ends = draw.markers([end for _, end in own], SeriesStyle("", colour), 6)
        traces += [draw.segments(own, colour, 1.5), ends]
    for colour in dict.fromkeys(box.colour for box in boxes):
        sides = [((b.x - b.half, b.y), (b.x + b.half, b.y)) for b in boxes if b.colour == colour]
        traces.append(draw.segments(sides, colour, BOX_HEIGHT))
    traces.append(draw.texts([(b.x, b.y) for b in boxes], [b.text for b in boxes], "middle center"))
    x_axis, y_axis = (
        {"visible": False, "range": [min(values) - 0.5, max(values) + 0.5]}
        for values in ([b.x for b in boxes], [b.y for b in boxes])
    )
    layout: dict[str, Any] = {"showlegend": False, "xaxis": x_axis, "yaxis": y_axis}
    return draw.figure(traces, title, caption, height, 12, {"l": EDGE, "r": EDGE}, **layout)


def head_figure(levels: int = 3) -> Figure:
    """The draft head in training, and the same head in inference.

    Args:
        levels: L, the number of codes in an ID, between 1 and 4.
    """
    check(1 <= levels <= 4, "levels", levels, "between 1 and 4, to fit beside each other")
    boxes, arrows = [], []
    for left, mode, code, colour in (
        (0.0, "training: the true code moves s", "true", VERMILLION),
        (levels + 1.4, "inference: the best code moves s", "best", BLUE),
    ):
        boxes += [Box(left + levels / 2, 4.8, mode), Box(left, 4, "history", PALE_GREY, 0.42)]
        boxes.append(Box(left, 3, "h0", PALE_GREEN))
        lines = [(0.0, 3.7, 0.0, 3.4, GREY), (0.1, 2.7, 0.38, 2.4, GREEN)]
        for level in range(1, levels + 1):
            x = left + level
            boxes += [
                Box(x, 4, f"SP{level}", PALE_GREY),
                Box(x, 3, f"h{level}", PALE_GREEN),
                Box(x - 0.5, 2, f"s{level}", PALE_ORANGE, 0.2),
                Box(x, 1, f"p{level}", PALE_BLUE, 0.2),
                Box(x, 0, f"{code} c{level}", PALE_BLUE, 0.4),
            ]
            lines += [(level, 3.7, level, 3.4, GREY), (level, 2.7, level, 1.4, GREEN)]
            lines.append((level - 0.4, 1.7, level - 0.15, 1.4, ORANGE))
            lines.append((level, 0.7, level, 0.4, colour))
            if level < levels:
                lines.append((level - 0.28, 2, level + 0.22, 2, ORANGE))
                lines.append((level + 0.2, 0.3, level + 0.45, 1.6, colour))
        arrows += [(((left + a, b), (left + c, d)), hue) for a, b, c, d, hue in lines]
    caption = (
        "One pass of the backbone gives h0, h1, … (green). At each level the head adds h and s, "
        "and a softmax gives p. In training p is compared with the true code; in inference it "
        "ranks the codes. The code then moves s."
    )
    return _diagram(boxes, arrows, "The draft head in training and in inference", caption, 290)


def residual_plane_figure(points: Tensor, centroids: Tensor, item: int) -> Figure:
    """One item in the plane: x is the nearest centroid plus the residual.

    Args:
        points: (N, 2), the items.
        centroids: (C, 2).
        item: the item whose residual is drawn.
    """
    nearest, height = int((centroids - points[item]).norm(dim=1).argmin()), 300
    x, centroid = (tuple(row.tolist()) for row in (points[item], centroids[nearest]))
    (left, bottom), (right, top) = points.min(dim=0).values, points.max(dim=0).values
    half_y = float(top - bottom) * 0.55
    half_x = half_y * (WIDTH - 80) / height  # one unit is as long on both axes
    traces = [
        draw.markers(points.tolist(), SeriesStyle("items", "#BBBBBB"), 5),
        draw.markers(centroids.tolist(), SeriesStyle("centroids", GREEN, symbol="diamond"), 12),
        draw.segments([((0.0, 0.0), centroid)], GREEN, 2, "nearest centroid, from 0"),
        draw.segments([(centroid, x)], VERMILLION, 3, "residual"),
        draw.markers([x], SeriesStyle("x", BLUE, symbol="square"), 10),
    ]
    x_axis = draw.axis(ends=(float(left + right) / 2 - half_x, float(left + right) / 2 + half_x))
    y_axis = draw.axis(ends=(float(bottom) - 0.1 * half_y, float(top) + 0.1 * half_y))
    caption = f"The code of x is {nearest}, the number of its nearest centroid."
    return draw.figure(
        traces, "x = centroid + residual", caption, height, xaxis=x_axis, yaxis=y_axis
    )


def ways_out_figure(
    names: Sequence[str], before: Sequence[Codes], ways: Mapping[str, Sequence[Codes]]
) -> Figure:
    """Colliding items after each way out of the collision.

    Args:
        names: the items.
        before: their codes, as the quantizer gives them.
        ways: name → the items' codes; a row may have a code more than before.
    """
    boxes = [Box(0.6, -row, name) for row, name in enumerate(names)]
    step = max(len(codes) for rows in ways.values() for codes in rows) + 0.7
    for column, (way, rows) in enumerate(ways.items()):
        left = 2.2 + column * step
        boxes.append(Box(left + 1, 0.9, way))
        for row, (codes, old) in enumerate(zip(rows, before, strict=True)):
            for level, code in enumerate(codes):
                kept = old[level : level + 1] == (code,)
                text, colour = (f"{code}", PALE_BLUE) if kept else (f"{code} *", PALE_ORANGE)
                boxes.append(Box(left + level, -row, text, colour, 0.42))
    caption = (
        "Each row is an item. Blue: a code as the quantizer gave it. Orange, with a star: changed "
        "or added."
    )
    return _diagram(boxes, [], "Four ways out of a collision", caption, 38 * len(names) + 60)


def trie_figure(ids: Sequence[tuple[int, int]]) -> Figure:
    """A small trie above the two arrays that hold it.

    Args:
        ids: different IDs of two codes.
    """
    ids = sorted(ids)
    firsts = sorted({first for first, _ in ids})
    starts = [sum(one < first for one, _ in ids) for first in firsts]
    ends = [*starts[1:], len(ids)]
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    root = (len(ids) - 1) / 2
    boxes = [Box(root, 4, "prompt", PALE_GREY, 0.5)]
    arrows = []
    for first, start, end, x in zip(firsts, starts, ends, middles, strict=True):
        boxes += [Box(x, 3, str(first), PALE_BLUE), Box(x, 1, str(start), PALE_ORANGE)]
        arrows += [(((root, 3.7), (x, 3.3)), GREY), (((x, 0.7), (start, 0.3)), ORANGE)]
        arrows += [(((x, 2.7), (row, 2.3)), GREY) for row in range(start, end)]
    for row, (_, code) in enumerate(ids):
        boxes += [Box(row, 2, str(code), PALE_GREEN), Box(row, 0, str(code), PALE_GREEN)]
    boxes.append(Box(len(ids), 1, str(len(ids)), PALE_ORANGE))
    boxes += [Box(-1.6, y, name) for y, name in enumerate(("codes", "starts", "code 2", "code 1"))]
    caption = (
        f"{len(ids)} IDs. starts says for each first code where its children begin in codes (its "
        "last number is where they end), so the children of a prefix are one slice."
    )
    return _diagram(boxes, arrows, "A trie, and the two arrays that hold it", caption, 230)


def cache_figure(prompt: int, beams: int, codes: int) -> Figure:
    """The KV cache of a beam search: a copy of the prompt for every beam, or the prompt once.

    Args:
        prompt: tokens of the prompt.
        beams: K.
        codes: how many codes each beam has chosen.
    """
    right = prompt + codes + 2
    boxes = [
        Box(prompt / 2, -1, "one copy per beam"),
        Box(right + prompt / 2, -1, "the prompt once"),
    ]
    for beam in range(beams):
        boxes.append(Box(-1.6, beam, f"beam {beam + 1}", half=0.6))
        boxes += [Box(x, beam, "p", PALE_GREY, 0.42) for x in range(prompt)]
        for left in (prompt, right + prompt):
            boxes += [Box(left + x, beam, f"c{x + 1}", PALE_BLUE, 0.42) for x in range(codes)]
    boxes += [Box(right + x, (beams - 1) / 2, "p", PALE_GREY, 0.42) for x in range(prompt)]
    copies, once = beams * (prompt + codes), prompt + beams * codes
    caption = (
        f"Each box is one token's keys and values: p of the prompt, c of the codes that a beam has "
        f"chosen. {copies} of them on the left, {once} on the right."
    )
    title = "The KV cache of a beam search, two ways"
    return _diagram(boxes, [], title, caption, 34 * (beams + 1))


def list_figure(lists: Mapping[str, Sequence[bool | None]]) -> Figure:
    """What each position of a list holds.

    Args:
        lists: name → for each position whether its ID exists; None for an empty position.
    """
    traces = []
    for kind, style in LIST_MARKS.items():
        rows = enumerate(lists.values())
        cells = ((x, y, one) for y, found in rows for x, one in enumerate(found, start=1))
        points = [(x, y) for x, y, one in cells if one is kind]
        traces.append(draw.markers(points, style, 10))
    useful = ", ".join(f"{name} {sum(map(bool, found))}" for name, found in lists.items())
    caption = f"Positions that hold an existing item: {useful}. All others are wasted."
    x_axis, y_axis = draw.axis("position"), draw.rows_axis(list(lists), 120)
    title, height = "The positions of one list", 34 * len(lists) + 20
    return draw.figure(traces, title, caption, height, xaxis=x_axis, yaxis=y_axis)


def draft_tree_figure(
    drafts: Sequence[Sequence[Codes]], beams: Sequence[Sequence[Codes]]
) -> Figure:
    """The head's draft tree and the backbone's beams over it, level by level.

    Args:
        drafts: for each level from 1 on, the prefixes that the head drafted.
        beams: for each level from 1 on, the prefixes in the backbone's beam.
    """
    levels = [sorted({*draft, *beam}) for draft, beam in zip(drafts, beams, strict=True)]
    height = max(map(len, levels))
    at: dict[Codes, tuple[float, float]] = {(): (0, height / 2)}
    for depth, level in enumerate(levels, start=1):
        at |= {p: (depth, height * (1 - (i + 0.5) / len(level))) for i, p in enumerate(level)}
    drafted, wanted = ({p for row in tree for p in row} for tree in (drafts, beams))
    groups = (drafted - wanted, drafted & wanted, wanted - drafted)
    # Edges begin right of a code, so that they cross no label.
    edges = [((len(p) - 1 + GUTTER * (len(p) > 1), at[p[:-1]][1]), at[p]) for p in at if p]
    root = draw.markers([at[()]], SeriesStyle("", BLACK, symbol="square"), 11)
    marks = [
        draw.markers([at[p] for p in sorted(group)], style, 10)
        for group, style in zip(groups, DRAFT_MARKS, strict=True)
    ]
    labels = draw.texts(at.values(), ["", *(f"   {p[-1]}" for p in at if p)], "middle right", 11)
    shares = [
        f"level {i}: {len(drafted & set(b))} of {len(b)}" for i, b in enumerate(beams, start=1)
    ]
    names = ["prompt", *(f"level {level}" for level in range(1, len(levels) + 1))]
    x_axis, y_axis = draw.named_axis(names, first=0.3), {"visible": False, "range": [0, height]}
    title = "A draft tree, and the backbone's beams over it"
    caption = f"Beams that the draft holds: {', '.join(shares)}."
    traces = [draw.segments(edges, "#BBBBBB"), root, *marks, labels]
    return draw.figure(traces, title, caption, 18 * height, xaxis=x_axis, yaxis=y_axis)
