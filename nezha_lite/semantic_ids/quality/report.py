"""The quality report: every figure about a catalogue's semantic IDs, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nezha_lite.semantic_ids.catalogue import SemanticIds
from nezha_lite.semantic_ids.quality.code_usage import (
    LevelUse,
    added_bits,
    has_extra_level,
    level_uses,
    prefix_groups,
    sizes_of,
)
from nezha_lite.semantic_ids.quality.neighbours import neighbour_shares
from nezha_lite.semantic_ids.quality.problems import Problem, find_problems
from nezha_lite.semantic_ids.quality.purity import category_purity, partition_stability
from nezha_lite.semantic_ids.quantizers.base import check_vectors


@dataclass(frozen=True)
class PrefixQuality:
    """What the first `level` codes say about their items; None where it was not asked or undefined.

    `neighbours`: of an item's nearest neighbours, the share with its prefix; `neighbours_chance`
    for random neighbours, `neighbours_possible` at most. `purity`: of the items of a prefix that
    several share, the share in the most common category; `purity_chance` for shuffled categories,
    `purity_items` the share of items this is about. `stability`: adjusted Rand index against
    another seed's prefixes.
    """

    level: int
    added_bits: float
    neighbours: float | None = None
    neighbours_chance: float | None = None
    neighbours_possible: float | None = None
    purity: float | None = None
    purity_chance: float | None = None
    purity_items: float | None = None
    stability: float | None = None

    @property
    def lift(self) -> float | None:
        """How many times more neighbours share the prefix than random pairs do."""
        return (
            self.neighbours / self.neighbours_chance
            if (self.neighbours is not None and self.neighbours_chance)
            else None
        )


@dataclass(frozen=True)
class IdQuality:
    """The report of `id_quality`.

    Attributes:
        items: N.
        distinct: different IDs.
        space: IDs that could be written.
        shared: items whose ID another item has too.
        largest_group: items of the most common ID.
        different_vectors: None without vectors. Items with equal vectors collide in any quantizer.
        zero_vectors: items without a direction, left out of the neighbours.
        levels: one entry for each level.
        prefixes: one entry for each length of prefix.
        found: what `problems` puts into words.
    """

    items: int
    distinct: int
    space: int
    shared: int
    largest_group: int
    different_vectors: int | None
    zero_vectors: int | None
    levels: tuple[LevelUse, ...]
    prefixes: tuple[PrefixQuality, ...]
    found: tuple[Problem, ...]

    @property
    def collision_rate(self) -> float:
        """1 − distinct / items: the share of items whose ID was already taken."""
        return 1.0 - self.distinct / self.items

    @property
    def occupancy(self) -> float:
        """Distinct IDs / ID space: the chance that a random ID exists."""
        return self.distinct / self.space

    @property
    def collapsed(self) -> tuple[int, ...]:
        """The levels that collapsed, as `find_problems` defines it."""
        return tuple(p.level for p in self.found if p.kind == "collapsed" and p.level)

    def problems(self) -> list[str]:
        """One sentence for each thing that is wrong: where, how much, and what to do about it."""
        return [problem.sentence for problem in self.found]

    def rows(self) -> list[dict[str, Any]]:
        """One JSON-ready object for each level, with every figure."""
        rows = []
        for use, prefix in zip(self.levels, self.prefixes, strict=True):
            row: dict[str, Any] = {
                "level": use.level,
                "extra": use.extra,
                "radix": use.radix,
                "codes_used": use.used,
                "use": use.use,
                "entropy": use.entropy,
                "perplexity": use.perplexity,
                "attained": use.attained,
                "top": use.top,
                "prefixes": use.prefixes,
                "added_bits": prefix.added_bits,
            }
            for name in (
                *("neighbours", "neighbours_chance", "neighbours_possible", "lift"),
                *("purity", "purity_chance", "purity_items", "stability"),
            ):
                row[name] = getattr(prefix, name)
            rows.append({key: v if v is None else _short(v) for key, v in row.items()})
        return rows

    def metrics(self) -> dict[str, float]:
        """A flat mapping for `ResultRow.metrics`; a level's figures end in @level.

        Figures that were not asked for or are undefined are left out. `lowest_use` is the share in
        use of the least used codebook, the extra level aside.
        """
        own = [level for level in self.levels if not level.extra]
        figures: dict[str, float] = {
            "items": self.items,
            "distinct": self.distinct,
            "collision_rate": self.collision_rate,
            "shared": self.shared / self.items,
            "largest_group": self.largest_group,
            "occupancy": self.occupancy,
            "lowest_use": min(level.use for level in own),
            "collapsed_levels": len(self.collapsed),
        }
        if self.different_vectors is not None:
            figures["duplicate_rate"] = 1.0 - self.different_vectors / self.items
        for row in self.rows():
            level = row.pop("level")
            figures |= {
                f"{name}@{level}": value
                for name, value in row.items()
                if value is not None and not isinstance(value, bool)
            }
        return {name: _short(value) for name, value in figures.items()}

    def table(self) -> str:
        """The report for people, in Markdown."""
        return _report_text(self)


def id_quality(
    semantic_ids: SemanticIds,
    vectors: Tensor | None = None,
    categories: Sequence[str] | None = None,
    other_seed: SemanticIds | None = None,
    neighbours: int = 10,
    queries: int = 2000,
    seed: int = 0,
    extra_level: bool | None = None,
) -> IdQuality:
    """Measure a catalogue's semantic IDs.

    Args:
        semantic_ids: ours or anybody's, collisions included.
        vectors: (N, D), needed for the neighbours, and to tell collisions of equal vectors from
            others. IDs made from these very vectors have an advantage over IDs made from others:
            compare tokenizers on the vectors they were all given.
        categories: N labels, "" where unknown, such as `item_categories(dataset)`.
        other_seed: IDs of the same items, fitted with another seed, for the stability.
        neighbours: k, nearest neighbours by cosine of each item.
        queries: items whose neighbours are looked up; more items than this are sampled.
        seed: of that sample and of the shuffled categories.
        extra_level: whether the last level only numbers items that share an ID, so that its even
            use is not to be expected; None finds out from the codes.

    Raises:
        ValueError: naming the argument that does not fit the catalogue.
    """
    n_items = semantic_ids.n_items
    _check(semantic_ids, categories, other_seed, neighbours, queries)
    multiples: list[int] | None = None
    zeros: int | None = None
    if vectors is not None:
        vectors = check_vectors(vectors)
        if len(vectors) != n_items:
            raise ValueError(f"vectors has {len(vectors)} rows, but there are {n_items} items.")
        # Adding zero turns −0.0 into 0.0, which are equal but not the same bytes.
        multiples = [*Counter(row.tobytes() for row in (vectors + 0.0).numpy()).values()]
        zeros = int((~vectors.ne(0).any(dim=1)).sum())
    if extra_level is None:
        extra_level = has_extra_level(semantic_ids)
    levels = level_uses(semantic_ids, multiples, extra_level)
    groupings = [prefix_groups(semantic_ids, level.level) for level in levels]
    close = (
        neighbour_shares(vectors, groupings, neighbours, queries, seed)
        if vectors is not None
        else None
    )
    prefixes = []
    for level, (groups, bits) in enumerate(
        zip(groupings, added_bits(groupings), strict=True), start=1
    ):
        figures: dict[str, float | None] = {}
        if close is not None:
            figures["neighbours"] = close[level - 1].share
            figures["neighbours_chance"] = close[level - 1].chance
            figures["neighbours_possible"] = close[level - 1].possible
        pure = None if categories is None else category_purity(categories, groups, seed)
        if pure is not None:
            figures["purity"], figures["purity_chance"] = pure.share, pure.chance
            figures["purity_items"] = pure.items
        if other_seed is not None and level <= other_seed.levels:
            figures["stability"] = partition_stability(groups, prefix_groups(other_seed, level))
        prefixes.append(PrefixQuality(level, bits, **figures))
    sizes = sizes_of(groupings[-1])
    different = None if multiples is None else len(multiples)
    return IdQuality(
        items=n_items,
        distinct=len(sizes),
        space=semantic_ids.space,
        shared=int(sizes[sizes >= 2].sum()),
        largest_group=int(sizes.max()),
        different_vectors=different,
        zero_vectors=zeros,
        levels=levels,
        prefixes=tuple(prefixes),
        found=tuple(find_problems(levels, n_items, different)),
    )


def _check(
    semantic_ids: SemanticIds,
    categories: Sequence[str] | None,
    other_seed: SemanticIds | None,
    neighbours: int,
    queries: int,
) -> None:
    n_items = semantic_ids.n_items
    for name, value in (("neighbours", neighbours), ("queries", queries)):
        if value < 1:
            raise ValueError(f"{name} is {value}, but must be at least 1.")
    if categories is not None and len(categories) != n_items:
        raise ValueError(f"categories has {len(categories)} labels, but there are {n_items} items.")
    if other_seed is not None and other_seed.items != semantic_ids.items:
        raise ValueError(
            "other_seed names other items than semantic_ids, or in another order: both must be "
            "fitted on the same catalogue."
        )


def _short(value: float) -> float:
    """Six significant digits, for a file; whole numbers stay whole."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _report_text(quality: IdQuality) -> str:
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
