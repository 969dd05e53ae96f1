"""The quality report: every figure about a catalogue's semantic IDs, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nezha_lite.common.checks import check
from nezha_lite.semantic_ids.catalogue import SemanticIds
from nezha_lite.semantic_ids.quality.code_usage import (
    LevelUse,
    added_bits,
    has_extra_level,
    level_uses,
    prefix_groups,
    sizes_of,
)
from nezha_lite.semantic_ids.quality.prefixes import (
    category_purity,
    neighbour_shares,
    partition_stability,
)
from nezha_lite.semantic_ids.quality.problems import Problem, find_problems
from nezha_lite.semantic_ids.quantizers.base import Vectors, check_vectors

# What `IdQuality.rows` reports of a level.
_LEVEL_FIGURES = (
    *("level", "extra", "radix", "codes_used", "use", "entropy", "perplexity"),
    *("attained", "top", "prefixes"),
)
_PREFIX_FIGURES = (
    *("added_bits", "neighbours", "neighbours_chance", "neighbours_possible", "lift"),
    *("purity", "purity_chance", "purity_items", "stability"),
)


@dataclass(frozen=True)
class PrefixQuality:
    """What the first `level` codes say about their items; None where not measured or undefined.

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
        if self.neighbours is None or not self.neighbours_chance:
            return None
        return self.neighbours / self.neighbours_chance


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
        issues: what is wrong; `problems` gives the sentences alone.
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
    issues: tuple[Problem, ...]

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
        return tuple(p.level for p in self.issues if p.kind == "collapsed" and p.level)

    def problems(self) -> list[str]:
        """One sentence for each thing that is wrong: where, how much, and what to do about it."""
        return [problem.sentence for problem in self.issues]

    def rows(self) -> list[dict[str, Any]]:
        """One JSON-ready object for each level, with every figure."""
        rows = []
        for use, prefix in zip(self.levels, self.prefixes, strict=True):
            row = {name: getattr(use, name) for name in _LEVEL_FIGURES}
            row |= {name: getattr(prefix, name) for name in _PREFIX_FIGURES}
            rows.append({key: v if v is None else _short(v) for key, v in row.items()})
        return rows

    def metrics(self) -> dict[str, float]:
        """A flat mapping for `ResultRow.metrics`; a level's figures end in @level.

        Figures that were not measured or are undefined are left out. `lowest_use` is the share in
        use of the least used codebook, the extra level aside.
        """
        figures: dict[str, float] = {
            "items": self.items,
            "distinct": self.distinct,
            "collision_rate": self.collision_rate,
            "shared": self.shared / self.items,
            "largest_group": self.largest_group,
            "occupancy": self.occupancy,
            "lowest_use": min(level.use for level in self.levels if not level.extra),
            "collapsed_levels": len(self.collapsed),
        }
        if self.different_vectors is not None:
            figures["duplicate_rate"] = 1.0 - self.different_vectors / self.items
        for row in self.rows():
            level = row.pop("level")
            values = {f"{name}@{level}": value for name, value in row.items() if name != "extra"}
            figures |= {name: value for name, value in values.items() if value is not None}
        return {name: _short(value) for name, value in figures.items()}

    def table(self) -> str:
        """The report for people, in Markdown: figures, a table of the levels, problems."""
        lines = [*_facts(self), "", *_level_table(self), ""]
        problems = [f"- {problem}" for problem in self.problems()]
        lines += ["Problems:", "", *problems] if problems else ["No problem found."]
        return "\n".join(lines) + "\n"


def id_quality(
    semantic_ids: SemanticIds,
    vectors: Vectors | None = None,
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
        vectors: (N, D), as a tensor, an array or lists; needed for the neighbours, and to tell
            collisions of equal vectors from others. IDs made from these very vectors have an
            advantage over IDs made from others: compare tokenizers on vectors they were all given.
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
    check(neighbours >= 1, "neighbours", neighbours, "at least 1")
    check(queries >= 1, "queries", queries, "at least 1")
    if categories is not None and len(categories) != n_items:
        raise ValueError(f"categories has {len(categories)} labels, but there are {n_items} items.")
    if other_seed is not None and other_seed.items != semantic_ids.items:
        raise ValueError(
            "other_seed names other items than semantic_ids, or in another order: both must be "
            "fitted on the same catalogue."
        )
    multiples: list[int] | None = None
    if vectors is not None:
        vectors = check_vectors(vectors)
        if len(vectors) != n_items:
            raise ValueError(f"vectors has {len(vectors)} rows, but there are {n_items} items.")
        # Adding zero turns −0.0 into 0.0, which are equal but not the same bytes.
        multiples = [*Counter(row.tobytes() for row in (vectors + 0.0).numpy()).values()]
    if extra_level is None:
        extra_level = has_extra_level(semantic_ids)
    levels = level_uses(semantic_ids, multiples, extra_level)
    groupings = [prefix_groups(semantic_ids, level.level) for level in levels]
    bits = added_bits(groupings)
    figures: list[dict[str, Any]] = [{"added_bits": added} for added in bits]
    if vectors is not None:
        shares = neighbour_shares(vectors, groupings, neighbours, queries, seed)
        figures = [one | other for one, other in zip(figures, shares, strict=True)]
    for level, (groups, prefix) in enumerate(zip(groupings, figures, strict=True), start=1):
        if categories is not None:
            prefix |= category_purity(categories, groups, seed)
        if other_seed is not None and level <= other_seed.levels:
            prefix["stability"] = partition_stability(groups, prefix_groups(other_seed, level))
    sizes = sizes_of(groupings[-1])
    different = None if multiples is None else len(multiples)
    return IdQuality(
        items=n_items,
        distinct=len(sizes),
        space=semantic_ids.space,
        shared=int(sizes[sizes >= 2].sum()),
        largest_group=int(sizes.max()),
        different_vectors=different,
        zero_vectors=None if vectors is None else int((~vectors.ne(0).any(dim=1)).sum()),
        levels=levels,
        prefixes=tuple(PrefixQuality(n, **prefix) for n, prefix in enumerate(figures, start=1)),
        issues=tuple(find_problems(levels, n_items, different)),
    )


def _short(value: float) -> float:
    """Six significant digits, for a file; whole numbers stay whole."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


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


def _level_table(quality: IdQuality) -> list[str]:
    """A row for each level; columns without any figure are left out."""
    levels = [*zip(quality.levels, quality.prefixes, strict=True)]
    columns = {title: [cell(*level) for level in levels] for title, cell in _COLUMNS.items()}
    columns = {title: cells for title, cells in columns.items() if any(cells)}
    rows = zip(*columns.values(), strict=True)
    lines = [[*columns], ["---"] * len(columns), *([cell or "–" for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _percent(value: float) -> str:
    """Two significant digits below one per cent, one decimal above."""
    return f"{100 * value:.1f} %" if value == 0 or value >= 0.00995 else f"{100 * value:.2g} %"


def _share(value: float | None, *in_brackets: float | None) -> str | None:
    """A share, and others to compare it with; None where it was not measured or is undefined."""
    if value is None:
        return None
    shown = f"{value:.3f}" if value == 0 or value >= 5e-4 else f"{value:.1g}"
    return f"{shown} ({', '.join(_share(v) or '–' for v in in_brackets)})" if in_brackets else shown


_COLUMNS: dict[str, Callable[[LevelUse, PrefixQuality], str | None]] = {
    "level": lambda use, _: f"{use.level} (extra)" if use.extra else f"{use.level}",
    "codes used": lambda use, _: f"{use.codes_used:,} of {use.radix:,}",
    "effective codes": lambda use, _: f"{use.perplexity:.1f}",
    "of attainable": lambda use, _: "–" if use.extra else _percent(use.attained),
    "commonest code": lambda use, _: _percent(use.top),
    "prefixes": lambda use, _: f"{use.prefixes:,}",
    "new bits": lambda _, prefix: f"{prefix.added_bits:.2f}",
    "neighbours kept (chance, at most)": lambda _, prefix: _share(
        prefix.neighbours, prefix.neighbours_chance, prefix.neighbours_possible
    ),
    "category purity (chance)": lambda _, prefix: _share(prefix.purity, prefix.purity_chance),
    "stability": lambda _, prefix: _share(prefix.stability),
}
