"""The agreement between draft head and backbone: prefixes that both searches kept for a prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.decoding import DecodeTrace, LevelTrace
from nezha_lite.plots import draw
from nezha_lite.plots.colours import BLACK, BLUE, GREEN, ORANGE, VERMILLION
from nezha_lite.plots.numbers import code_text, probability
from nezha_lite.plots.style import Figure, SeriesStyle

Codes = tuple[int, ...]
HALF = 0.29  # levels, from the middle of a pair of columns to either of them
ROW, MIN_HEIGHT, MAX_HEIGHT = 20, 180, 640  # pixels: of a rank; of the plot
ABOVE = 20  # pixels, from the first rank up to the counts
LOOKS = ((BLUE, ""), (ORANGE, "/"), (GREEN, "x"))
MARKS = {
    True: SeriesStyle("kept by both", BLUE),
    False: SeriesStyle("kept by one alone", VERMILLION, symbol="x"),
}
RING = SeriesStyle("", BLACK, symbol="circle-open", stroke=2.5)


@dataclass(frozen=True)
class SearchRank:
    """Rank and log-probability of a prefix in one search.

    Attributes:
        rank: its position in the beam, from 1; None if the beam did not keep it.
        log_prob: its summed log-probability; None if the search never came to it, because the beam
            had lost what it continues.
    """

    rank: int | None
    log_prob: float | None


@dataclass(frozen=True)
class ComparedPrefix:
    """A prefix that at least one of the searches kept."""

    codes: Codes
    head: SearchRank
    model: SearchRank

    @property
    def shared(self) -> bool:
        """Whether both kept it."""
        return self.head.rank is not None and self.model.rank is not None


@dataclass(frozen=True)
class LevelAgreement:
    """Both searches after one level.

    Attributes:
        level: 1 … L.
        prefixes: those of the model's beam by rank, then those that the head's alone kept.
        model_kept: how many the model's beam holds.
    """

    level: int
    prefixes: tuple[ComparedPrefix, ...]
    model_kept: int

    @property
    def shared(self) -> int:
        """How many prefixes both kept."""
        return sum(prefix.shared for prefix in self.prefixes)


def compare_prefixes(draft: DecodeTrace, model: DecodeTrace, row: int) -> list[LevelAgreement]:
    """The prefixes of both searches for one prompt, level by level.

    Args:
        draft: of a `NezhaDecoder`.
        model: of an `AutoregressiveDecoder`, for the same prompts.
        row: of the batch.
    """
    agreements = []
    for level in range(1, len(model.levels) + 1):
        head_codes, model_codes = (_beam(trace, level, row) for trace in (draft, model))
        by_key = {**model_codes, **head_codes}  # the model's first, then the head's alone
        ranks = [
            _search_ranks(trace.levels[level - 1], row, list(codes), list(by_key))
            for trace, codes in ((draft, head_codes), (model, model_codes))
        ]
        prefixes = map(ComparedPrefix, by_key.values(), *ranks)
        agreements.append(LevelAgreement(level, tuple(prefixes), len(model_codes)))
    return agreements


def shared_shares(draft: DecodeTrace, model: DecodeTrace) -> Tensor:
    """(B, L) float64: share of the backbone's prefixes that the head kept; 1 where it kept none."""
    shares = []
    for head_level, model_level in zip(draft.levels, model.levels, strict=True):
        head_keys, model_keys = _kept_keys(head_level), _kept_keys(model_level)  # (B, W), (B, V)
        same = (model_keys.unsqueeze(-1) == head_keys.unsqueeze(1)).any(dim=-1)  # (B, V)
        live = model_keys >= 0
        n_kept, n_shared = live.sum(dim=1), (same & live).sum(dim=1)  # (B,)
        shares.append(torch.where(n_kept > 0, n_shared / n_kept.clamp_min(1).double(), 1.0))
    return torch.stack(shares, dim=1)


def _kept_keys(step: LevelTrace) -> Tensor:
    """(B, W) int64 prefix keys of the beams after a level; -1 in empty slots."""
    keys = step.keys.flatten(1).gather(1, step.kept.clamp_min(0))
    return keys.masked_fill(step.kept < 0, -1)


def _beam(trace: DecodeTrace, level: int, row: int) -> dict[int, Codes]:
    """The prefixes that one prompt's beam holds after a level, best first: key → codes."""
    keys = _kept_keys(trace.levels[level - 1])[row].tolist()
    prefixes = trace.prefixes(level)[row].tolist()
    return {key: tuple(codes) for key, codes in zip(keys, prefixes, strict=True) if key >= 0}


def _search_ranks(step: LevelTrace, row: int, kept: list[int], keys: list[int]) -> list[SearchRank]:
    """The outcome of each key in one prompt's search, whose beam holds the keys `kept`."""
    pairs = zip(step.keys[row].flatten().tolist(), step.scores[row].flatten().tolist(), strict=True)
    scores = {key: score for key, score in pairs if math.isfinite(score)}
    ranks = {key: rank for rank, key in enumerate(kept, start=1)}
    return [SearchRank(ranks.get(key), scores.get(key)) for key in keys]


@dataclass(frozen=True)
class RankMark:
    """One prefix in one column."""

    prefix: ComparedPrefix
    x: float
    rank: int


def rank_marks(levels: Sequence[LevelAgreement], shared: bool) -> list[RankMark]:
    """The marks of the prefixes that both searches kept, or that only one of them kept."""
    return [
        RankMark(prefix, level.level + side, rank)
        for level in levels
        for prefix in level.prefixes
        if prefix.shared is shared
        for side, rank in ((-HALF, prefix.head.rank), (HALF, prefix.model.rank))
        if rank is not None
    ]


def selected_ends(selected: ComparedPrefix | None) -> tuple[list[float], list[int]]:
    """x and y of the selected prefix in the columns that contain it."""
    if selected is None:
        return [], []
    level = len(selected.codes)
    both = ((level - HALF, selected.head.rank), (level + HALF, selected.model.rank))
    points = [(x, rank) for x, rank in both if rank is not None]
    return [x for x, _ in points], [rank for _, rank in points]


def ranks_figure(
    levels: Sequence[LevelAgreement], selected: ComparedPrefix | None = None
) -> Figure:
    """A pair of columns for each level; a line joins a prefix's rank in both.

    The traces are always: lines, the selected prefix, marks of both, marks of one alone, counts.

    Args:
        levels: from `compare_prefixes`.
        selected: drawn thick.
    """
    marks = {shared: rank_marks(levels, shared) for shared in MARKS}
    deepest = max((mark.rank for group in marks.values() for mark in group), default=1)
    both = [(mark.x, mark.rank) for mark in marks[True]]
    lines = draw.segments(zip(both[::2], both[1::2], strict=True), "#999999", 1.5)
    groups = []
    for shared, group in marks.items():
        hover = [describe(mark.prefix).replace("; ", "\n") for mark in group]
        groups.append(draw.markers([(m.x, m.rank) for m in group], MARKS[shared], 9, hover))
    points = zip(*selected_ends(selected), strict=True)
    ring = draw.series(points, RING, width=3, size=17, hoverinfo="skip", showlegend=False)
    height = min(MAX_HEIGHT, max(MIN_HEIGHT, ROW * deepest))
    pixel = (deepest + 1.6) / height  # in ranks, and rather too large
    above = 1 - max(1, ABOVE * pixel)
    tops = [(level.level, above) for level in levels]
    counts = [f"level {one.level}: {one.shared} of {one.model_kept}" for one in levels]
    ends = (deepest + 0.8, above - ABOVE / 2 * pixel)
    columns = [level.level + side for level in levels for side in (-HALF, HALF)]
    sides = ["head", "model"] * len(levels)
    ranks = [1, *range(5, deepest + 1, 5)] if deepest > 10 else range(1, deepest + 1)
    return draw.figure(
        [lines, ring, *groups, draw.texts(tops, counts, "middle center")],
        "The same prefixes, ranked by the head and by the model",
        "Above each pair: how many of the model's prefixes the head kept too. A flat line is the "
        "same rank in both. A cross is kept by one alone: on the model's side, the head lost it.",
        height,
        xaxis=draw.axis("", columns, sides, (0.5, len(levels) + 0.5), showgrid=False),
        yaxis=draw.axis("rank in the beam", ranks, ends=ends, showgrid=False),
    )


def shares_figure(
    series: Mapping[str, Sequence[float]],
    title: str = "How much of the model's beam the head foresees",
    caption: str = "",
    groups: Sequence[str] | None = None,
) -> Figure:
    """Bars side by side for each group: shares, such as those of the model's beam.

    Args:
        series: at most three, name → share of group 1, 2, …; one may end before the others.
        title: plain text.
        caption: what to see, in a sentence.
        groups: plain text below each group; by default "level 1", "level 2", …

    Raises:
        ValueError: for more than three series.
    """
    check(len(series) <= len(LOOKS), "number of series", len(series), f"at most {len(LOOKS)}")
    levels = max((len(shares) for shares in series.values()), default=1)
    named = [f"level {number}" for number in range(1, levels + 1)] if groups is None else groups
    width = 0.84 / max(1, len(series))
    traces: list[go.Bar | go.Scatter] = []
    tops: list[tuple[float, float]] = []
    for index, (name, shares) in enumerate(series.items()):
        shift = (index - (len(series) - 1) / 2) * width
        bars = [(group + shift, 100 * share) for group, share in enumerate(shares, start=1)]
        traces.append(draw.bars(bars, name, *LOOKS[index], 0.9 * width))
        tops += bars
    traces.append(draw.texts(tops, [f"{height:.0f} %" for _, height in tops], size=11))
    x_axis = draw.named_axis(named, range(1, levels + 1), 0.5)
    y_axis = draw.axis("share (%)", range(0, 101, 25), ends=(0, 116))
    return draw.figure(traces, title, caption, 180, barmode="overlay", xaxis=x_axis, yaxis=y_axis)


def describe(prefix: ComparedPrefix) -> str:
    """The rank and probability of a prefix in both searches, in one line of plain text."""
    head, model = _rank_text(prefix.head, "head"), _rank_text(prefix.model, "model")
    return f"Prefix {code_text(prefix.codes)}: {head}; {model}."


def _rank_text(search: SearchRank, whose: str) -> str:
    rank = "not kept" if search.rank is None else f"rank {search.rank}"
    if search.log_prob is None:
        return f"{rank} by the {whose}, which had lost what it continues"
    return f"{rank} by the {whose} (probability {probability(search.log_prob)})"
