"""What happened inside a decode, level by level: the one record that figures and widgets read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LevelTrace:
    """One level of a beam search. Candidates are numbered k · C + c: code c after live beam k.

    Attributes:
        level: 1 … L.
        scores: (B, K, C) float32, summed log-probabilities of all candidates.
        keys: (B, K, C) int64, their prefix keys.
        exists: (B, K, C) bool, whether the prefix begins an existing ID; all True without verifier.
        proposed: (B, W) int64, the candidates that the beam would take unverified, best first.
        kept: (B, W) int64, the candidates that it took, best first; -1 where there were too few.
    """

    level: int
    scores: Tensor
    keys: Tensor
    exists: Tensor
    proposed: Tensor
    kept: Tensor

    @property
    def n_codes(self) -> int:
        """C, the number of codes at this level."""
        return int(self.scores.shape[-1])

    @property
    def proposed_live(self) -> Tensor:
        """(B, W) bool: which of the proposed candidates are drafts.

        The others follow a dead beam and only fill up places while fewer drafts exist than W.
        """
        return torch.isfinite(self.scores.flatten(1).gather(1, self.proposed))

    @property
    def proposed_exists(self) -> Tensor:
        """(B, W) bool: which of the proposed candidates are drafts that exist."""
        return self.exists.flatten(1).gather(1, self.proposed) & self.proposed_live

    def rejected(self, row: int) -> list[int]:
        """Drafts that were proposed, do not exist, and were not kept, best first."""
        refused = self.proposed_live[row] & ~self.proposed_exists[row]
        kept = set(self.kept[row].tolist())
        return [draft for draft in self.proposed[row][refused].tolist() if draft not in kept]

    def pruned(self, row: int, limit: int) -> list[int]:
        """The best `limit` candidates that exist but fell outside the beam, best first."""
        scores = self.scores[row].flatten().clone()
        kept = self.kept[row]
        scores[kept[kept >= 0]] = -torch.inf
        scores[~self.exists[row].flatten()] = -torch.inf
        best = scores.topk(min(limit, scores.numel()))
        return best.indices[torch.isfinite(best.values)].tolist()


@dataclass(frozen=True, eq=False)
class DecodeTrace:
    """A decode's levels in order, how often the backbone ran, and whether a verifier was there."""

    levels: tuple[LevelTrace, ...]
    backbone_calls: int
    verified: bool

    def prefixes(self, level: int) -> Tensor:
        """Codes of the beams kept after `level` levels: (B, W, level) int64, -1 in empty slots."""
        if not 1 <= level <= len(self.levels):
            raise ValueError(f"level is {level}, but must be between 1 and {len(self.levels)}.")
        slots = self.levels[level - 1].kept  # (B, W)
        empty = slots < 0
        codes = []
        for step in reversed(self.levels[:level]):
            parents = slots.clamp_min(0) // step.n_codes
            codes.append(slots.clamp_min(0) % step.n_codes)
            if step.level > 1:
                slots = self.levels[step.level - 2].kept.gather(1, parents)
        stacked = torch.stack(codes[::-1], dim=-1)  # (B, W, level)
        return stacked.masked_fill(empty.unsqueeze(-1), -1)

    def acceptance(self) -> list[float]:
        """Per level, the share of proposed drafts that exist, over the whole batch.

        Raises:
            ValueError: if the decoder had no verifier, so that nobody knows.
        """
        if not self.verified:
            raise ValueError("Acceptance needs a verifier, but this decoder was given none.")
        counts = [(level.proposed_exists.sum(), level.proposed_live.sum()) for level in self.levels]
        return [float(existing / drafts.clamp_min(1)) for existing, drafts in counts]
