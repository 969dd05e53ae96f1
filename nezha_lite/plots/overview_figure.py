"""The whole method in one drawing: prompt, backbone, draft head and trie, with its rival below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nezha_lite.datasets import InteractionDataset
from nezha_lite.plots import draw
from nezha_lite.plots.beam_figures import (
    LABEL_GAP,
    LABEL_SIZE,
    ROW_HEIGHT,
    TreeNode,
    outcome_marks,
)
from nezha_lite.plots.colours import BLACK, BLUE, GREEN, ORANGE, VERMILLION
from nezha_lite.plots.static_svg import EDGE, WIDTH
from nezha_lite.plots.style import Figure, SeriesStyle
from nezha_lite.semantic_ids import SemanticIds

# Pixels from the top: the rows of the drawing. Pixels from the left: their names, h_0, and h_L.
TOKENS, BACKBONE, HIDDEN, HEAD, TRIE = 12, 66, 100, 146, 178
NAMES, FIRST, LAST = 96, 258, 674
TOKEN, FITTING = 24, 7  # pixels between two tokens; history tokens that fit before h_0
GAP = 8  # pixels between a line and the mark where it ends
PALE = "#DDDDDD"
BAR = (NAMES, BACKBONE), (LAST + 40, BACKBONE)
ROWS = ("prompt", "backbone", "hidden states", "draft head", "trie of IDs", "autoregressive")
CODE = SeriesStyle("code of the history", PALE, symbol="square")
PLACEHOLDER = SeriesStyle("placeholder", ORANGE, symbol="square")
STATE = SeriesStyle("hidden state", BLUE)
MOVING = SeriesStyle("state of the head", GREEN, symbol="square")
WAITING = SeriesStyle("", "#AAAAAA", symbol="circle-open")


def overview_figure(
    tokens: Sequence[str],
    tree: Sequence[TreeNode],
    passes: Sequence[int],
    step: int,
    semantic_ids: SemanticIds,
    dataset: InteractionDataset,
) -> Figure:
    """One decode by NEZHA up to a step, and the passes that the autoregressive decoder needs.

    The traces are always of the same kinds in the same order, whatever the step.

    Args:
        tokens: the names of the prompt's tokens, plain text; the last L are the placeholders.
        tree: drafts, from `tree_nodes`.
        passes: how many tokens each pass of the autoregressive decoder reads.
        step: 0 shows the prompt, 1 the backbone's pass, l + 1 level l, L + 2 the list.
        semantic_ids: the catalogue, for the hover texts.
        dataset: for their titles.
    """
    levels, drafted = semantic_ids.levels, max(0, min(step - 1, semantic_ids.levels))
    columns = [FIRST + level * (LAST - FIRST) / levels for level in range(levels + 1)]
    most = max(Counter(row.node.level for row in tree).values(), default=1)
    depth = ROW_HEIGHT * max(most, 6)  # of the trie
    rival = TRIE + depth + 44  # where the passes of the autoregressive decoder are
    heights = (TOKENS, BACKBONE, HIDDEN, HEAD, TRIE + depth / 2, rival)
    nodes = [row for row in tree if row.node.level <= drafted]
    places = [(columns[row.node.level], TRIE + depth * row.y) for row in nodes]
    links = _links(columns, drafted)
    links += [
        (0, ((columns[row.node.level - 1] + 3 * GAP, TRIE + depth * row.parent_y), place))
        for row, place in zip(nodes, places, strict=True)
        if row.node.level > 1
    ]
    hidden, head = [(x, HIDDEN) for x in columns], [(x, HEAD) for x in columns[1:]]
    read = hidden if step else []
    tokens_shown = _prompt(tokens, columns)
    named = [name for _, name in tokens_shown]
    half, done = (columns[1] - columns[0]) / 2 - 6, max(min(step, 1), drafted)
    bars = [((x - half, rival), (x + half, rival)) for x in columns[1 : len(passes) + 1]]
    reading = [f"1 pass over {len(tokens)} tokens" if step else ""]
    counts = [f"pass {number}: {count} tokens" for number, count in enumerate(passes[:done], 1)]
    names = [f"h{level}" for level in range(levels + 1)]
    names += [f"s{level}" for level in range(1, levels + 1)]
    names += [str(row.node.codes[-1]) for row in nodes]
    beside = [(x + LABEL_GAP, y) for x, y in (*hidden, *head, *places)]
    frame = {"visible": False, "fixedrange": True}
    return draw.figure(
        [
            draw.segments([line for number, line in links if number < step], "#AAAAAA"),
            draw.segments([line for number, line in links if number == step > 0], BLACK, 2),
            draw.segments([BAR], BLUE if step else PALE, 16 if step == 1 else 10),
            draw.segments(bars[:done], VERMILLION, 10),
            draw.segments(bars[done:], PALE, 10),
            draw.markers([place for place, _ in tokens_shown[:-levels]], CODE, 22),
            draw.markers([place for place, _ in tokens_shown[-levels:]], PLACEHOLDER, 22),
            draw.markers([*hidden[len(read) :], *head[drafted:]], WAITING, 11),
            draw.markers(read, STATE, 12),
            draw.markers(head[:drafted], MOVING, 12),
            *outcome_marks([row.node for row in nodes], places, semantic_ids, dataset),
            draw.texts([place for place, _ in tokens_shown], named, "middle center", 10),
            draw.texts(beside, names, "middle right", LABEL_SIZE),
            draw.texts([(0, y) for y in heights], ROWS, "middle right", 12),
            draw.texts([(NAMES, BACKBONE - 18)], reading, "middle right", LABEL_SIZE),
            draw.texts(
                [(x, rival - 17) for x in columns[1 : len(counts) + 1]], counts, "middle center", 10
            ),
        ],
        "One pass of the backbone, then the head alone",
        "From the top: the prompt with its placeholders, the backbone, its hidden states h. The "
        "draft head moves its state s code by code; the trie keeps what exists. Below: the "
        "autoregressive decoder needs one pass for each code.",
        round(rival + 14),
        62,
        {"l": EDGE, "r": EDGE},
        xaxis={"range": [0, WIDTH - 2 * EDGE], **frame},
        yaxis={"range": [rival + 14, 0], **frame},
    )


def _links(columns: Sequence[float], drafted: int) -> list[tuple[int, draw.Segment]]:
    """The lines between the rows, each after the step that draws it."""
    links: list[tuple[int, draw.Segment]] = [
        (1, ((x, TOKENS + 12), (x, BACKBONE - GAP))) for x in columns
    ]
    links += [(1, ((x, BACKBONE + GAP), (x, HIDDEN - GAP))) for x in columns]
    for level in range(1, drafted + 1):
        x, left = columns[level], columns[level - 1]
        state = (left, HIDDEN + GAP) if level == 1 else (left + 4 * GAP, HEAD)
        ends = (state, (x, HIDDEN + GAP), (x, HEAD + GAP))
        tips = ((x - GAP, HEAD), (x, HEAD - GAP), (x, TRIE - GAP / 2))
        links += [(level + 1, line) for line in zip(ends, tips, strict=True)]
    return links


def _prompt(
    tokens: Sequence[str], columns: Sequence[float]
) -> list[tuple[tuple[float, float], str]]:
    """Where tokens are: the history up to h_0, "…" for what does not fit, the placeholders."""
    history, holders = list(tokens[: 1 - len(columns)]), tokens[1 - len(columns) :]
    if len(history) > FITTING:
        history[1 : 2 - FITTING] = ["…"]
    xs = [*(FIRST - TOKEN * back for back in reversed(range(len(history)))), *columns[1:]]
    return [((x, TOKENS), name) for x, name in zip(xs, [*history, *holders], strict=True)]
