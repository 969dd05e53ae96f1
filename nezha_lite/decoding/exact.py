"""Scores of the whole catalogue by teacher forcing: what the beam searches approximate."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from nezha_lite.common.checks import check
from nezha_lite.decoding.autoregressive import next_code_log_probs
from nezha_lite.decoding.base import Decoder, DecodeResult, check_next_code_training
from nezha_lite.decoding.prompt_tree import PromptTree
from nezha_lite.model.prompts import Prompts, check_same_space
from nezha_lite.semantic_ids import SemanticIds, radix_strides
from nezha_lite.verifiers import RequestFilter, child_keys

if TYPE_CHECKING:
    from nezha_lite.model import NezhaModel

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

    records: ClassVar[bool] = False

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
        scorer = (_DraftScorer if self.under == "draft" else _BackboneScorer)(self.model, prompts)
        scores = torch.zeros(len(prompts), 1, device=self.model.device)  # of the empty prefix
        for level, (before, prefixes) in enumerate(pairwise(self.prefixes), start=1):
            scores = self._extended(scores, before, prefixes, scorer)  # (B, P_l)
            if requests is not None:
                keys = prefixes.keys.expand(len(prompts), -1)
                scores = scores.masked_fill(~requests.admits(level, keys), -torch.inf)
        best = scores.topk(min(beam, scores.shape[1]))
        keys = self.prefixes[-1].keys[best.indices].masked_fill(best.values.isneginf(), -1)
        columns = (0, beam - keys.shape[1])
        return DecodeResult(
            pad(keys, columns, value=-1),
            pad(best.values, columns, value=-torch.inf),
            scorer.passes,
        )

    def _extended(
        self,
        scores: Tensor,
        before: _Prefixes,
        prefixes: _Prefixes,
        scorer: _DraftScorer | _BackboneScorer,
    ) -> Tensor:
        """Scores (B, P_l) of prefixes of l codes, from those (B, P) of the prefixes before."""
        rows = max(1, self.chunk // len(scores))
        sizes = (prefixes.parents // rows).bincount().tolist()  # each parent has a child
        chunks = zip(
            before.codes.split(rows),
            prefixes.parents.split(sizes),
            prefixes.codes[:, -1].split(sizes),
            strict=True,
        )
        extended = []
        for chunk, (codes, parents, last_codes) in enumerate(chunks):
            log_probs = scorer.log_probs(codes, prefixes.keys)  # (B, P, C)
            added = log_probs[:, parents - chunk * rows, last_codes]
            extended.append(scores[:, parents] + added)
        return torch.cat(extended, dim=1)


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
