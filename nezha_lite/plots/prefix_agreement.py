"""Prefixes that the draft head's search and the backbone's search both kept for one prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nezha_lite.decoding import DecodeTrace, LevelTrace

Codes = tuple[int, ...]


@dataclass(frozen=True)
class Opinion:
    """Rank and log-probability of a prefix in one search.

    Attributes:
        rank: its place in the beam, from 1; None if the beam did not keep it.
        log_prob: its summed log-probability; None if the search never came to it, because the beam
            had lost what it continues.
    """

    rank: int | None
    log_prob: float | None


@dataclass(frozen=True)
class ComparedPrefix:
    """A prefix that at least one of the searches kept."""

    codes: Codes
    head: Opinion
    model: Opinion

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
        of_head, of_model = (_Search(trace, level, row) for trace in (draft, model))
        by_key = {**of_model.codes, **of_head.codes}  # the model's first, then the head's alone
        head, model_opinions = of_head.opinions([*by_key]), of_model.opinions([*by_key])
        prefixes = zip(by_key.values(), head, model_opinions, strict=True)
        agreements.append(
            LevelAgreement(
                level, tuple(ComparedPrefix(*parts) for parts in prefixes), len(of_model.codes)
            )
        )
    return agreements


def shared_shares(draft: DecodeTrace, model: DecodeTrace) -> Tensor:
    """(B, L) float64: share of the backbone's prefixes that the head kept; 1 where it kept none."""
    shares = []
    for one, other in zip(draft.levels, model.levels, strict=True):
        head_keys, model_keys = _kept_keys(one), _kept_keys(other)  # (B, W), (B, V)
        shared = (model_keys.unsqueeze(-1) == head_keys.unsqueeze(1)).any(dim=-1) & (
            model_keys >= 0
        )  # (B, V)
        n_kept = (model_keys >= 0).sum(dim=1)
        shares.append(
            torch.where(n_kept > 0, shared.sum(dim=1) / n_kept.clamp_min(1).double(), 1.0)
        )
    return torch.stack(shares, dim=1)


def _kept_keys(step: LevelTrace) -> Tensor:
    """(B, W) int64 prefix keys of the beams after a level; -1 in empty slots."""
    keys = step.keys.flatten(1).gather(1, step.kept.clamp_min(0))
    return keys.masked_fill(step.kept < 0, -1)


class _Search:
    """One prompt's search after one level."""

    def __init__(self, trace: DecodeTrace, level: int, row: int) -> None:
        step = trace.levels[level - 1]
        keys = _kept_keys(step)[row].tolist()
        codes = trace.prefixes(level)[row].tolist()
        self.codes: dict[int, Codes] = {
            key: tuple(digits) for key, digits in zip(keys, codes, strict=True) if key >= 0
        }
        self.ranks = {key: rank for rank, key in enumerate(self.codes, start=1)}
        self.keys, self.scores = step.keys[row].flatten(), step.scores[row].flatten()

    def opinions(self, keys: list[int]) -> Iterator[Opinion]:
        """One for each key."""
        model_keys = torch.tensor(keys, dtype=torch.int64, device=self.keys.device)
        same = self.keys == model_keys.unsqueeze(-1)  # (P, K·C)
        scores = self.scores[same.byte().argmax(dim=-1)] if keys else self.scores[:0]
        scored = (same.any(dim=-1) & torch.isfinite(scores)).tolist()
        for key, score, was_scored in zip(keys, scores.tolist(), scored, strict=True):
            yield Opinion(self.ranks.get(key), score if was_scored else None)
