"""What is wrong with semantic IDs, in sentences that name the level, the figure and a remedy.

A level has *collapsed* when it says far less than its items would allow: it uses fewer than half
of the codes that could be in use, or its perplexity is below a quarter of the attainable one, which
means two bits lost. What is attainable is bounded by the codebook and by the different vectors
there are (the items, where no vectors are given). Uneven codes alone are no collapse: real
catalogues have large and small clusters, and a first level at a third of the attainable perplexity
with three quarters of its codes in use is how good tokenizers look on them. Two kinds of level are
never called collapsed: the extra level, which is uneven by design, and a level after which all
that can be told apart is told apart, because there it has little left to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nezha_lite.semantic_ids.quality.code_usage import LevelUse

COLLAPSED_USE = 0.5  # codes used / codes that could be
COLLAPSED_PERPLEXITY = 0.25  # perplexity / what is attainable
HIGH_COLLISION_RATE = 0.1  # share of items whose ID was already taken

Kind = Literal["single-code", "collapsed", "redundant", "duplicates", "collisions", "texts"]
_SENTENCES: dict[Kind, str] = {
    "single-code": "Level {level.level} has a codebook of 1, so it tells nothing apart and costs a "
    "decoding step: leave it out, or give it at least 2 codes.",
    "collapsed": "Level {level.level} has collapsed: it uses {level.codes_used:,} of "
    "{level.attainable_codes:,} codes that it could, and {level.top:.1%} of the items carry one "
    "code, so it says no more than {level.perplexity:.1f} evenly used codes: choose fewer codes, "
    "or a quantizer that keeps codes alive (rq-kmeans, balanced-rq-kmeans, rq-vae with revival).",
    "redundant": "Level {level.level} tells nothing apart that the levels before it do not: there "
    "are {level.prefixes:,} different prefixes with it and without: leave it out, or use fewer "
    "codes before it.",
    "duplicates": "All {items:,} items have the same vector, and no quantizer can tell them apart: "
    "{remedy}.",
    "collisions": "{rate:.1%} of the items have an ID that was already taken{why}: resolve the "
    "collisions, or fit with more codes or another level.",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; `level` is None where it concerns the IDs as a whole."""

    kind: Kind
    level: int | None
    sentence: str


def find_problems(
    levels: Sequence[LevelUse], items: int, different_vectors: int | None
) -> Iterator[Problem]:
    """Everything that is wrong with IDs of `items` items, level by level, then as a whole."""
    different = different_vectors or items
    before = 1  # prefixes of no codes: one, the empty one
    for level in levels:
        if kind := _of_level(level, before, different, items):
            yield _problem(kind, level)
        before = level.prefixes
    rate = 1 - before / items
    if different == 1 < items:
        remedy = (
            "resolve the collisions, or give the items vectors that differ"
            if before < items
            else "their codes are numbers only, so give the items vectors that differ"
        )
        yield _problem("duplicates", items=items, remedy=remedy)
    elif rate > HIGH_COLLISION_RATE:
        equal = 1 - different / items
        why = f" ({equal:.1%} already because their vectors are equal)" if equal else ""
        yield _problem("collisions", rate=rate, why=why)


def _of_level(level: LevelUse, before: int, different: int, items: int) -> Kind | None:
    if level.radix == 1:
        return "single-code"
    if level.extra or different == 1 or items == 1:
        return None
    few = level.codes_used < COLLAPSED_USE * level.attainable_codes
    low = few or level.attained < COLLAPSED_PERPLEXITY
    if low and before < different and level.prefixes < different:
        return "collapsed"
    return "redundant" if level.prefixes == before else None


def _problem(kind: Kind, level: LevelUse | None = None, **figures: Any) -> Problem:
    sentence = _SENTENCES[kind].format(level=level, **figures)
    return Problem(kind, None if level is None else level.level, sentence)
