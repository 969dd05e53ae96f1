"""What happened inside a decode, level by level: the record that figures and widgets read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nezha_lite.common.checks import check


@dataclass(frozen=True, eq=False)
class LevelTrace:
    """One level of a beam search. Candidates are numbered k · C + c: code c after live beam k.

    Two beams, two codes: the better beam is extended by code 0, which no item has.

    >>> level = LevelTrace(
    ...     level=2,
    ...     scores=torch.tensor([[[-1.0, -2.0], [-3.0, -4.0]]]),
    ...     keys=torch.tensor([[[0, 2], [1, 3]]]),
    ...     exists=torch.tensor([[[False, True], [True, True]]]),
    ...     kept=torch.tensor([[1, 2]]),
    ... )
    >>> level.rejected(0), level.pruned(0, limit=5)
    ([0], [3])

    Attributes:
        level: 1 … L.
        scores: (B, K, C) float32, summed log-probabilities of all candidates.
        keys: (B, K, C) int64, their prefix keys.
        exists: (B, K, C) bool, whether the prefix begins an existing ID; all True without verifier.
        kept: (B, W) int64, the candidates that the beam kept, best first, padded with -1.
    """

    level: int
    scores: Tensor
    keys: Tensor
    exists: Tensor
    kept: Tensor

    @cached_property
    def proposed(self) -> Tensor:
        """(B, W) int64, the candidates that an unverified beam would keep, best first."""
        return self.scores.flatten(1).topk(self.kept.shape[1]).indices

    @property
    def n_codes(self) -> int:
        """C, the number of codes at this level."""
        return int(self.scores.shape[-1])

    @property
    def proposed_live(self) -> Tensor:
        """(B, W) bool, which proposed candidates are drafts; the others extend a dead beam."""
        return torch.isfinite(self.scores.flatten(1).gather(1, self.proposed))

    @property
    def proposed_exists(self) -> Tensor:
        """(B, W) bool, which proposed candidates are drafts that exist."""
        return self.exists.flatten(1).gather(1, self.proposed) & self.proposed_live

    def rejected(self, row: int) -> list[int]:
        """Numbers of the drafts that were proposed, do not exist and were not kept, best first."""
        missing = self.proposed_live[row] & ~self.proposed_exists[row]
        kept = set(self.kept[row].tolist())
        return [draft for draft in self.proposed[row][missing].tolist() if draft not in kept]

    def pruned(self, row: int, limit: int) -> list[int]:
        """Numbers of the best `limit` candidates that exist outside the beam, best first."""
        scores = self.scores[row].flatten().clone()
        kept = self.kept[row]
        scores[kept[kept >= 0]] = -torch.inf
        scores[~self.exists[row].flatten()] = -torch.inf
        best = scores.topk(min(limit, scores.numel()))
        return best.indices[torch.isfinite(best.values)].tolist()


@dataclass(frozen=True, eq=False)
class DecodeTrace:
    """A decode's levels in order.

    Attributes:
        levels: one record per level.
        backbone_calls: forward passes of the backbone.
        verified: whether the decoder had a verifier, so that `exists` is known.
    """

    levels: tuple[LevelTrace, ...]
    backbone_calls: int
    verified: bool

    def prefixes(self, level: int) -> Tensor:
        """Codes of the beams kept after `level` levels: (B, W, level) int64, padded with -1.

        Raises:
            ValueError: for a level that was not recorded.
        """
        depth = len(self.levels)
        check(1 <= level <= depth, "level", level, f"between 1 and {depth}")
        numbers = self.levels[level - 1].kept  # (B, W)
        padding = numbers < 0
        codes = []
        for step in reversed(self.levels[:level]):
            parents = numbers.clamp_min(0) // step.n_codes
            codes.append(numbers.clamp_min(0) % step.n_codes)
            if step.level > 1:
                numbers = self.levels[step.level - 2].kept.gather(1, parents)
        stacked = torch.stack(codes[::-1], dim=-1)  # (B, W, level)
        return stacked.masked_fill(padding.unsqueeze(-1), -1)

    def acceptance(self) -> list[float]:
        """Per level, the share of proposed drafts that exist, over the whole batch.

        Raises:
            ValueError: if the decoder had no verifier.
        """
        if not self.verified:
            raise ValueError("Acceptance needs a verifier, but this decoder was given none.")
        counts = [(level.proposed_exists.sum(), level.proposed_live.sum()) for level in self.levels]
        return [float(existing / drafts.clamp_min(1)) for existing, drafts in counts]
