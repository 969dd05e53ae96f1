"""The trace of `generate`, which keeps none: rebuilt from the beams and logits seen on the way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from nezha_lite.decoding.trace import DecodeTrace, LevelTrace
from nezha_lite.model.prompts import Vocabulary
from nezha_lite.verifiers import RequestFilter, Verifier, child_keys


class RunningBeams(LogitsProcessor):
    """Changes nothing; remembers the beams that `generate` holds before every step.

    Args:
        width: T, length of the prompts in tokens.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.tokens: list[Tensor] = []  # before level 1 … L: (B·K, l−1) int64, best first

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See `LogitsProcessor`."""
        self.tokens.append(input_ids[:, self.width :].clone())
        return scores


def codes_of(tokens: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(..., l) int64 tokens → codes; all -1 where they are not one code of each of l levels."""
    levels = tokens.shape[-1]
    codes = tokens - torch.tensor(vocabulary.level_offsets[:levels], device=tokens.device)
    radices = torch.tensor(vocabulary.radices[:levels], device=tokens.device)
    fits = ((codes >= 0) & (codes < radices)).all(dim=-1, keepdim=True)
    return codes.masked_fill(~fits, -1)


def rebuild_trace(
    hypotheses: Sequence[Tensor],
    logits: Sequence[Tensor],
    vocabulary: Vocabulary,
    verifier: Verifier | None,
    requests: RequestFilter | None,
) -> DecodeTrace:
    """What a `BeamSearch` would have recorded.

    Its beams are those hypotheses that hold a code of every level so far. The others, and the
    copies with which `generate` fills up, are empty slots from the level on where they first occur.

    Args:
        hypotheses: after level l = 1 … L, (B, K, l) int64 codes, best first; -1 where there is
            none.
        logits: before level l, (B·K, V), of the token after each hypothesis.
        vocabulary: token layout.
        verifier: for `exists`.
        requests: for `exists`, where there is a verifier.
    """
    batch, beam = hypotheses[0].shape[:2]
    rows = torch.arange(batch, device=logits[0].device).unsqueeze(1)  # (B, 1)
    slots: list[dict[tuple[int, ...], int]] = [{(): 0} for _ in range(batch)]  # live beams
    sources = torch.zeros_like(rows)  # (B, W) which hypothesis each beam is
    scores = torch.zeros(batch, 1, device=logits[0].device)  # (B, W)
    keys = torch.zeros_like(sources)  # (B, W)
    levels = []
    for level, (radix, first) in enumerate(
        zip(vocabulary.radices, vocabulary.level_offsets, strict=True), start=1
    ):
        log_probs = logits[level - 1].log_softmax(dim=-1)[:, first : first + radix]
        log_probs = log_probs.view(batch, -1, radix)[rows, sources]  # (B, W, C)
        totals = scores.unsqueeze(-1) + log_probs
        grid = child_keys(keys, level, vocabulary.radices)
        exists = torch.ones_like(totals, dtype=torch.bool)
        if verifier is not None:
            exists = verifier.prefix_contains(level, grid)
            if requests is not None:
                exists = exists & requests.admits(level, grid.flatten(1)).view_as(exists)

        width = min(beam, radix * totals.shape[1])
        places: list[list[int]] = []  # of the kept among the hypotheses
        numbers: list[list[int]] = []  # of the kept among the candidates
        for row, prefixes in enumerate(hypotheses[level - 1].tolist()):
            found: dict[tuple[int, ...], int] = {}
            places.append([0] * width)
            numbers.append([-1] * width)
            for place, codes in enumerate(map(tuple, prefixes)):
                # What has no live parent is no code, or -1; what was found already is a copy.
                if codes[-1] >= 0 and codes[:-1] in slots[row] and codes not in found:
                    places[row][len(found)] = place
                    numbers[row][len(found)] = slots[row][codes[:-1]] * radix + codes[-1]
                    found[codes] = len(found)
            slots[row] = found
        sources = torch.tensor(places, device=rows.device)
        kept = torch.tensor(numbers, device=rows.device)
        levels.append(
            LevelTrace(level, totals, grid, exists, totals.flatten(1).topk(width).indices, kept)
        )
        chosen = kept.clamp_min(0)
        scores = totals.flatten(1).gather(1, chosen).masked_fill(kept < 0, -torch.inf)
        keys = grid.flatten(1).gather(1, chosen).masked_fill(kept < 0, -1)
    return DecodeTrace(tuple(levels), len(levels), verified=verifier is not None)
