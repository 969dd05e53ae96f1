"""The quality report as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nezha_lite.semantic_ids.quality.code_usage import LevelUse

if TYPE_CHECKING:
    from nezha_lite.semantic_ids.quality.report import IdQuality, PrefixQuality


def report_text(quality: IdQuality) -> str:
    """The figures of the catalogue, a table of its levels, and its problems."""
    lines = [*_facts(quality), "", *_levels(quality), ""]
    problems = [f"- {problem}" for problem in quality.problems()]
    lines += ["Problems:", "", *problems] if problems else ["No problem found."]
    return "\n".join(lines) + "\n"


def _facts(quality: IdQuality) -> list[str]:
    lines = [
        f"- {quality.items:,} items, {quality.distinct:,} different IDs: "
        f"collision rate {_percent(quality.collision_rate)}",
        f"- {quality.shared:,} items share an ID ({_percent(quality.shared / quality.items)}); "
        f"the largest group has {quality.largest_group:,}",
        f"- {quality.space:,} IDs could be written: {_percent(quality.occupancy)} exist",
    ]
    if quality.different_vectors is not None:
        equal = quality.items - quality.different_vectors
        lines.append(
            f"- {equal:,} items have the vector of an earlier item "
            f"({_percent(equal / quality.items)}), {quality.zero_vectors:,} a zero vector"
        )
    return lines


def _levels(quality: IdQuality) -> list[str]:
    columns = ["level", "codes used", "effective codes", "of attainable", "commonest code"]
    columns += ["prefixes", "new bits"]
    optional = {
        "neighbours kept (chance, at most)": _neighbours,
        "category purity (chance)": _purity,
        "stability": lambda prefix: _share(prefix.stability),
    }
    shown = {
        title: cell
        for title, cell in optional.items()
        if any(cell(prefix) != "–" for prefix in quality.prefixes)
    }
    lines = [[*columns, *shown], ["---"] * (len(columns) + len(shown))]
    for level, prefix in zip(quality.levels, quality.prefixes, strict=True):
        lines.append([*_own(level, prefix), *(cell(prefix) for cell in shown.values())])
    return [f"| {' | '.join(line)} |" for line in lines]


def _own(level: LevelUse, prefix: PrefixQuality) -> list[str]:
    return [
        f"{level.level} (extra)" if level.extra else f"{level.level}",
        f"{level.used:,} of {level.radix:,}",
        f"{level.perplexity:.1f}",
        "–" if level.extra else _percent(level.attained),
        _percent(level.top),
        f"{level.prefixes:,}",
        f"{prefix.added_bits:.2f}",
    ]


def _neighbours(prefix: PrefixQuality) -> str:
    if prefix.neighbours is None:
        return "–"
    chance, most = prefix.neighbours_chance, prefix.neighbours_possible
    return f"{_share(prefix.neighbours)} ({_share(chance)}, {_share(most)})"


def _purity(prefix: PrefixQuality) -> str:
    if prefix.purity is None:
        return "–"
    return f"{_share(prefix.purity)} ({_share(prefix.purity_chance)})"


def _share(value: float | None) -> str:
    return (
        "–" if value is None else f"{value:.3f}" if value == 0 or value >= 5e-4 else f"{value:.1g}"
    )


def _percent(value: float) -> str:
    """Two significant digits below one per cent, one decimal above."""
    return f"{100 * value:.1f} %" if value == 0 or value >= 0.00995 else f"{100 * value:.2g} %"
