"""A slow beam search over dictionaries, checks against it, and a model that reads from a table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nezha_lite.decoding import DecodeResult, Verification
from nezha_lite.model.prompts import Prompts
from nezha_lite.semantic_ids import SemanticIds

Prefix = tuple[int, ...]
LogProbs = Callable[[Prefix], Sequence[float]]  # of the next code after a prefix


@dataclass
class SlowLevel:
    proposed: list[Prefix]
    kept: list[Prefix]
    scores: dict[Prefix, float]  # of every candidate with a chance


def best_first(scores: dict[Prefix, float]) -> list[Prefix]:
    return sorted(scores, key=lambda prefix: -scores[prefix])


def slow_search(
    log_probs: LogProbs, ids: SemanticIds, beam: int, verification: Verification
) -> tuple[list[tuple[Prefix, float]], list[SlowLevel]]:
    """Beam search over a dictionary prefix → score; the final list and every level."""
    rows = [tuple(row) for row in ids.codes.tolist()]
    beams: dict[Prefix, float] = {(): 0.0}
    levels = []
    for level in range(1, ids.levels + 1):
        scores = {}
        for prefix, score in beams.items():
            for code, log_prob in enumerate(log_probs(prefix)):
                if log_prob > -math.inf:
                    scores[(*prefix, code)] = score + log_prob
        ranked = best_first(scores)
        allowed = ranked
        if verification == "prefix":
            allowed = [prefix for prefix in ranked if any(row[:level] == prefix for row in rows)]
        kept = allowed[:beam]
        if verification == "final" and level == ids.levels:
            kept = [prefix for prefix in kept if prefix in rows]
        beams = {prefix: scores[prefix] for prefix in kept}
        levels.append(SlowLevel(ranked[:beam], kept, scores))
    return list(beams.items()), levels


def key_of(prefix: Prefix, radices: Sequence[int]) -> int:
    return sum(code * math.prod(radices[:level]) for level, code in enumerate(prefix))


def check_list(
    result: DecodeResult, row: int, expected: list[tuple[Prefix, float]], ids: SemanticIds
) -> None:
    """The row is the expected list, best first, then empty places."""
    empty = result.keys.shape[1] - len(expected)
    keys = [key_of(codes, ids.radices) for codes, _ in expected]
    assert result.keys[row].tolist() == keys + [-1] * empty
    scores = torch.tensor([score for _, score in expected] + [-math.inf] * empty)
    torch.testing.assert_close(result.scores[row], scores, rtol=1e-4, atol=1e-4)


def check_shape(result: DecodeResult, batch: int, beam: int) -> None:
    """What holds for every result, whatever the model says."""
    assert result.keys.shape == result.scores.shape == (batch, beam)
    assert (result.keys.dtype, result.scores.dtype) == (torch.int64, torch.float32)
    assert not result.scores.isnan().any()
    assert ((result.keys == -1) == (result.scores == -torch.inf)).all()
    for keys, scores in zip(result.keys.tolist(), result.scores.tolist(), strict=True):
        assert scores == sorted(scores, reverse=True)
        found = [key for key in keys if key >= 0]
        assert keys[: len(found)] == found, "empty places come last"
        assert len(set(found)) == len(found), "no ID twice"


class ScriptedHead:
    """A head that reads its log-probabilities from a table; its state is (row, key of prefix)."""

    def __init__(self, ids: SemanticIds, tables: Sequence[LogProbs]) -> None:
        self.radices, self.levels = ids.radices, ids.levels
        self.tables = tables

    def candidates_of(self, level: int) -> None:
        """No level has candidate embeddings."""

    def log_probs(self, level: int, hidden: Tensor, state: Tensor) -> Tensor:
        rows = []
        for row, key in state.flatten(0, -2).long().tolist():
            digits = []
            for radix in self.radices[:level]:
                digits.append(key % radix)
                key //= radix
            rows.append(list(self.tables[row](tuple(digits))))
        return torch.tensor(rows).view(*state.shape[:-1], self.radices[level])

    def lookup_tables(self) -> Sequence[Tensor]:
        return ()

    def advance(
        self, level: int, codes: Tensor, state: Tensor, tables: Sequence[Tensor] = ()
    ) -> Tensor:
        moved = state.expand(*codes.shape, -1).clone()
        moved[..., 1] += codes * math.prod(self.radices[:level])
        return moved


class ScriptedModel:
    """Stands in for a NezhaModel: one table of log-probabilities per prompt of the batch."""

    device = torch.device("cpu")
    training = False

    def __init__(self, ids: SemanticIds, tables: Sequence[LogProbs]) -> None:
        self.head = ScriptedHead(ids, tables)
        self.passes = 0

    def draft_states(self, prompts: Prompts) -> Tensor:
        self.passes += 1
        hidden = torch.zeros(len(prompts), self.head.levels + 1, 2, dtype=torch.float64)
        hidden[:, 0, 0] = torch.arange(len(prompts))
        return hidden
