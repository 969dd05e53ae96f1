"""The outcome of every draft of one decode: nodes of the beam tree, and counts per level.

Only the `DecodeTrace` is read; nothing here decodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch

from nezha_lite.decoding import DecodeTrace


class Fate(Enum):
    """What the beam search did with a candidate; the value is the text for a reader."""

    KEPT = "kept"
    UNCHECKED = "kept, though it does not exist"
    REJECTED = "rejected: does not exist"
    PRUNED = "pruned: below the beam's worst score"


@dataclass(frozen=True)
class Node:
    """A candidate of the beam tree: kept, rejected, or one of the best pruned.

    Attributes:
        level: 1 … L.
        candidate: its number in the `LevelTrace`.
        parent: position of the beam that it extends among those kept one level before.
        codes: its prefix, `level` codes.
        key: the prefix's key.
        log_prob: summed log-probability.
        fate: what the search did with it.
        position: its own position in the beam (0 = best), -1 if it was not kept.
    """

    level: int
    candidate: int
    parent: int
    codes: tuple[int, ...]
    key: int
    log_prob: float
    fate: Fate
    position: int


def beam_nodes(trace: DecodeTrace, row: int, max_pruned: int = 3) -> list[Node]:
    """All kept and rejected candidates of a row, level by level, each level best first.

    Args:
        trace: of a decode with `trace=True`.
        row: of the batch.
        max_pruned: how many of the best pruned candidates to add at each level.
    """
    nodes = []
    parents: list[list[int]] = [[]]  # codes of the beams that are live before the level
    for step in trace.levels:
        kept = step.kept[row].tolist()
        candidates = [candidate for candidate in kept if candidate >= 0]
        candidates += step.rejected(row) + step.pruned(row, max_pruned)
        indices = torch.tensor(candidates, dtype=torch.int64)
        scores = step.scores[row].flatten()[indices].tolist()
        keys = step.keys[row].flatten()[indices].tolist()
        exists = step.exists[row].flatten()[indices].tolist()
        positions = {
            candidate: position for position, candidate in enumerate(kept) if candidate >= 0
        }
        rejected = set(step.rejected(row))
        level_nodes = []
        for candidate, score, key, real in zip(candidates, scores, keys, exists, strict=True):
            parent, code = divmod(candidate, step.n_codes)
            if candidate in positions:
                fate = Fate.KEPT if real else Fate.UNCHECKED
            else:
                fate = Fate.REJECTED if candidate in rejected else Fate.PRUNED
            level_nodes.append(
                Node(
                    level=step.level,
                    candidate=candidate,
                    parent=parent,
                    codes=(*parents[parent], code),
                    key=key,
                    log_prob=score,
                    fate=fate,
                    position=positions.get(candidate, -1),
                )
            )
        nodes += sorted(level_nodes, key=lambda node: (-node.log_prob, node.candidate))
        parents = trace.prefixes(step.level)[row].tolist()
    return nodes


@dataclass(frozen=True)
class DraftCounts:
    """The drafts of one level: existing, rejected, and non-existing but kept unchecked."""

    level: int
    existing: int
    rejected: int
    unchecked: int

    @property
    def proposed(self) -> int:
        """All drafts of the level."""
        return self.existing + self.rejected + self.unchecked


def draft_counts(trace: DecodeTrace, row: int) -> list[DraftCounts]:
    """Counts for every level of one row."""
    counts = []
    for step in trace.levels:
        rejected = len(step.rejected(row))
        existing = int(step.proposed_exists[row].sum())
        unchecked = int(step.proposed_live[row].sum()) - existing - rejected
        counts.append(DraftCounts(step.level, existing, rejected, unchecked))
    return counts
