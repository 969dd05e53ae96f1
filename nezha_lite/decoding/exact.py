"""Scores of the whole catalogue by teacher forcing: what the beam searches approximate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from nezha_lite.common.checks import check
from nezha_lite.decoding.autoregressive import next_code_log_probs
from nezha_lite.decoding.base import Decoder, DecodeResult, check_next_code_training
from nezha_lite.decoding.prompt_tree import PromptTree
from nezha_lite.decoding.trace import DecodeTrace, LevelTrace
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts, check_same_space
from nezha_lite.semantic_ids import SemanticIds, radix_strides
from nezha_lite.verifiers import RequestFilter, child_keys

Under = Literal["draft", "backbone"]
UNDER: tuple[Under, ...] = get_args(Under)


class ExactDecoder(Decoder):
    """Scores every existing ID, by teacher forcing, and returns the K best.

    Under the draft head it returns what `NezhaDecoder` would with a beam as wide as the catalogue,
    under the backbone what `AutoregressiveDecoder` would: the oracle that shows what a beam lost.
    It reads the catalogue itself, as it is now, so it needs no verifier and every list exists.

    The log-probabilities after every existing prefix are computed once, `chunk` of them at a time;
    under the backbone each chunk is one pass.

    Args:
        model: a trained `NezhaModel`.
        semantic_ids: the catalogue.
        under: "draft", one pass of the backbone and then the head, or "backbone".
        chunk: prompts × prefixes scored together; it bounds the memory and changes nothing else.

    Raises:
        ValueError: for an unknown `under`, a chunk below 1, IDs of another shape than the model's,
            or "backbone" with a model trained with next_code_weight 0.
    """

    def __init__(
        self, model: NezhaModel, semantic_ids: SemanticIds, under: Under = "draft", chunk: int = 512
    ) -> None:
        check(under in UNDER, "under", under, f"one of {UNDER}")
        check(chunk >= 1, "chunk", chunk, "at least 1")
        if under == "backbone":
            check_next_code_training(model)
        check_same_space(semantic_ids, model.vocabulary)
        self.model, self.under, self.chunk = model, under, chunk
        self.prefixes = [
            _Prefixes.of(semantic_ids, level, model.device)
            for level in range(semantic_ids.levels + 1)
        ]

    def _decode(
        self, prompts: Prompts, beam: int, trace: bool, requests: RequestFilter | None
    ) -> DecodeResult:
        # A trace keeps all that exists at every level, and the K best at the last. It holds the
        # log-probabilities of the whole catalogue at once.
        scorer = (_DraftScorer if self.under == "draft" else _BackboneScorer)(self.model, prompts)
        radices, levels = self.model.head.radices, []
        start = torch.zeros(len(prompts), 1, device=self.model.device)
        before = _Ranking(self.prefixes[0], start, start.long())
        for level, prefixes in enumerate(self.prefixes[1:], start=1):
            scores, log_probs = self._extended(before, prefixes, scorer, keep=trace)
            if requests is not None:
                keys = prefixes.keys.expand(len(prompts), -1)
                scores = scores.masked_fill(~requests.admits(level, keys), -torch.inf)
            everything = trace and level < len(radices)
            width = scores.shape[1] if everything else min(beam, scores.shape[1])
            after = _Ranking(prefixes, scores, scores.topk(width).indices)
            if trace:
                levels.append(before.trace_of(level, radices, after, log_probs))
            before = after
        columns = (0, beam - before.order.shape[1])
        return DecodeResult(
            pad(before.ordered_keys(), columns, value=-1),
            pad(before.ordered_scores(), columns, value=-torch.inf),
            scorer.passes,
            DecodeTrace(tuple(levels), scorer.passes, verified=True) if trace else None,
        )

    def _extended(
        self,
        before: _Ranking,
        prefixes: _Prefixes,
        scorer: _DraftScorer | _BackboneScorer,
        keep: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        """Scores of these prefixes, (B, P_l), and all log-probabilities (B, P, C) if `keep`."""
        rows = max(1, self.chunk // len(before.scores))
        sizes = (prefixes.parents // rows).bincount().tolist()  # each parent has a child
        chunks = zip(
            before.prefixes.codes.split(rows),
            prefixes.parents.split(sizes),
            prefixes.codes[:, -1].split(sizes),
            strict=True,
        )
        scores, all_log_probs = [], []
        for chunk, (codes, parents, last_codes) in enumerate(chunks):
            log_probs = scorer.log_probs(codes, prefixes.keys)  # (B, P, C)
            added = log_probs[:, parents - chunk * rows, last_codes]
            scores.append(before.scores[:, parents] + added)
            if keep:
                all_log_probs.append(log_probs)
        return torch.cat(scores, dim=1), all_log_probs


# ---- log-probabilities by teacher forcing -------------------------------------------------------


class _DraftScorer:
    """Log-probabilities of the next code after any prefix, under the draft head."""

    def __init__(self, model: NezhaModel, prompts: Prompts) -> None:
        self.head, self.hidden = model.head, model.draft_states(prompts)  # (B, L+1, D)
        self.passes = 1

    def log_probs(self, codes: Tensor, existing: Tensor) -> Tensor:
        """(P, l) int64 codes → (B, P, T_{l+1}), float32 at least.

        `existing` are the keys of the catalogue's prefixes of l + 1 codes.
        """
        (n_prefixes, length), radices = codes.shape, self.head.radices
        state = self.hidden[:, :1].repeat(1, n_prefixes, 1)  # (B, P, D)
        for level in range(length):
            state = self.head.advance(level, codes[:, level].expand(len(state), -1), state)
        hidden = self.hidden[:, length + 1, None]
        if self.head.candidates_of(length) is None:
            return self.head.log_probs(length, hidden, state)
        strides = torch.tensor(radix_strides(radices)[:length], dtype=torch.int64)
        keys = (codes * strides.to(codes.device)).sum(dim=-1, keepdim=True).mT  # (1, P)
        exists = torch.isin(child_keys(keys, length + 1, radices), existing)  # (1, P, C)
        exists = exists.expand(len(state), -1, -1)
        return self.head.log_probs(length, hidden, state, keys.expand(len(state), -1), exists)


class _BackboneScorer:
    """The same under the backbone: every prefix is a chain of nodes below each prompt."""

    def __init__(self, model: NezhaModel, prompts: Prompts) -> None:
        self.model = model
        self.tree = PromptTree(model, prompts.without_placeholders())

    @property
    def passes(self) -> int:
        return self.tree.calls

    def log_probs(self, codes: Tensor, existing: Tensor) -> Tensor:
        n_prefixes, length = codes.shape
        if length == 0:
            return next_code_log_probs(self.model, 0, self.tree.prompt_states)
        numbers = torch.arange(codes.numel(), device=codes.device).view(n_prefixes, 1, length)
        later = torch.ones(length, length, dtype=torch.bool, device=codes.device).triu(1)
        ancestors = numbers.masked_fill(later, -1).flatten(0, 1)  # (P·l, l)
        batch = len(self.tree.prompt_states)
        tokens = self.model.vocabulary.tokens_of(codes).flatten().expand(batch, -1)  # (B, P·l)
        hidden = self.tree.read(tokens, ancestors.expand(batch, -1, -1))  # (B, P·l, D)
        self.tree.clear()
        return next_code_log_probs(self.model, length, hidden[:, length - 1 :: length])


# ---- the catalogue's prefixes -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Prefixes:
    """The catalogue's P distinct prefixes of l codes, in the order of their codes.

    Attributes:
        codes: (P, l) int64.
        keys: (P,) int64.
        parents: (P,) int64, the position of each one's first l−1 codes among the prefixes of that
            length. It never decreases: siblings are neighbours.
    """

    codes: Tensor
    keys: Tensor
    parents: Tensor

    @classmethod
    def of(cls, semantic_ids: SemanticIds, level: int, device: torch.device) -> _Prefixes:
        codes = semantic_ids.codes[:, :level]
        codes = torch.unique(codes, dim=0) if level else codes[:1]
        is_next = (codes[1:, :-1] != codes[:-1, :-1]).any(dim=1)
        parents = pad(is_next.cumsum(dim=0), (1, 0))
        keys = semantic_ids.keys_of(codes)
        return cls(codes.to(device), keys.to(device), parents.to(device))


@dataclass(frozen=True, eq=False)
class _Ranking:
    """A batch of prompts' scores of the catalogue's prefixes.

    Attributes:
        prefixes: P of them.
        scores: (B, P), -inf where a request refuses them.
        order: (B, W) int64, positions of the W best, best first.
    """

    prefixes: _Prefixes
    scores: Tensor
    order: Tensor

    def ordered_scores(self) -> Tensor:
        """(B, W)."""
        return self.scores.gather(1, self.order)

    def ordered_keys(self) -> Tensor:
        """(B, W) int64, -1 where refused."""
        keys = self.prefixes.keys[self.order]
        return keys.masked_fill(self.ordered_scores().isneginf(), -1)

    def trace_of(
        self, level: int, radices: tuple[int, ...], after: _Ranking, log_probs: list[Tensor]
    ) -> LevelTrace:
        """The record of a beam search whose beams are all these prefixes, and its next step."""
        prefixes, n_codes = after.prefixes, radices[level - 1]
        codes = prefixes.codes[:, -1]  # (P_l,)
        beams = self.order.unsqueeze(-1).expand(-1, -1, n_codes)  # (B, P, C)
        scores = (self.scores.unsqueeze(-1) + torch.cat(log_probs, dim=1)).gather(1, beams)
        exists = torch.zeros_like(scores, dtype=torch.bool)
        exists[:, prefixes.parents, codes] = after.scores.isfinite()
        beam_of = self.order.argsort(dim=1)  # (B, P): which beam each prefix is
        numbers = (beam_of[:, prefixes.parents] * n_codes + codes).gather(1, after.order)
        kept = numbers.masked_fill(after.ordered_scores().isneginf(), -1)
        keys = child_keys(self.ordered_keys(), level, radices)
        return LevelTrace(level, scores, keys, exists.gather(1, beams), kept)
