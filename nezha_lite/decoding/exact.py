"""The whole catalogue scored, without a beam: what the other decoders approximate."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from nezha_lite.decoding.base import DecodeResult, check_call, check_writes_codes
from nezha_lite.decoding.trace import DecodeTrace, LevelTrace
from nezha_lite.model import NezhaModel
from nezha_lite.model.draft_head import at_least_float32
from nezha_lite.model.prompts import Prompts, check_same_space
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import RequestFilter, child_keys


class Reader(Protocol):
    """Log-probabilities of the next code after any prefix, for a batch of prompts."""

    passes: int  # of the backbone, so far

    def log_probs(self, codes: Tensor) -> Tensor:
        """(P, l) int64 codes → (B, P, T_{l+1}), float32 at least."""


class DraftReader:
    """Under the draft head."""

    def __init__(self, model: NezhaModel, prompts: Prompts) -> None:
        self.head, self.hidden = model.head, model.draft_states(prompts)  # (B, L+1, D)
        self.passes = 1

    def log_probs(self, codes: Tensor) -> Tensor:
        """See `Reader`."""
        rows, level = codes.shape
        state = self.hidden[:, :1].repeat(1, rows, 1)  # (B, P, D)
        for done in range(level):
            state = self.head.advance(done, codes[:, done].expand(len(state), -1), state)
        return self.head.log_probs(level, self.hidden[:, level + 1, None], state)


class BackboneReader:
    """Under the backbone."""

    def __init__(self, model: NezhaModel, prompts: Prompts) -> None:
        self.model, self.history = model, prompts.without_placeholders()
        output = model.hidden_states(
            self.history.input_ids,
            attention_mask=self.history.attention_mask,
            position_ids=self.history.position_ids,
            use_cache=True,
        )
        self.hidden, self.cache = output.last_hidden_state[:, -1:], output.past_key_values
        self.passes = 1

    def log_probs(self, codes: Tensor) -> Tensor:
        """See `Reader`."""
        level = codes.shape[1]
        hidden = self._continued(codes) if level else self.hidden  # (B, P, D)
        logits = self.model.backbone.get_output_embeddings()(hidden)
        log_probs = torch.log_softmax(logits.to(at_least_float32(logits.dtype)), dim=-1)
        first = self.model.vocabulary.level_offsets[level]
        return log_probs[..., first : first + self.model.vocabulary.radices[level]]

    def _continued(self, codes: Tensor) -> Tensor:
        """(P, l) → (B, P, D): the hidden states of the last code, after every prompt."""
        (rows, level), batch = codes.shape, len(self.history)
        offsets = torch.tensor(self.model.vocabulary.level_offsets[:level], device=codes.device)
        steps = torch.arange(1, level + 1, device=codes.device)
        cache = copy.deepcopy(self.cache)  # a pass writes into it
        cache.batch_repeat_interleave(rows)
        seen = torch.nn.functional.pad(self.history.attention_mask, (0, level), value=1)
        positions = self.history.position_ids[:, -1:] + steps  # (B, l)
        output = self.model.hidden_states(
            (codes + offsets).repeat(batch, 1),  # (B·P, l)
            attention_mask=seen.repeat_interleave(rows, dim=0),
            position_ids=positions.repeat_interleave(rows, dim=0),
            past_key_values=cache,
            use_cache=True,
        )
        self.passes += 1
        return output.last_hidden_state[:, -1].view(batch, rows, -1)


Under = Literal["draft", "backbone"]
UNDER: tuple[Under, ...] = get_args(Under)
_READERS: dict[Under, type[DraftReader | BackboneReader]] = {
    "draft": DraftReader,
    "backbone": BackboneReader,
}


class ExactDecoder:
    """Scores every existing ID, by teacher forcing, and returns the K best.

    Under the draft head it is what `NezhaDecoder` would find with a beam as wide as the catalogue,
    under the backbone what `AutoregressiveDecoder` would: the oracle that shows what a beam lost.
    It takes the catalogue itself, as it is now, so no verifier is needed and all that it returns
    exists.

    The log-probabilities after every existing prefix are computed once, `chunk` of them at a time;
    under the backbone each chunk is one pass over its codes beside a copy of the prompts' cache.

    Args:
        model: a trained `NezhaModel` in eval mode.
        semantic_ids: the catalogue.
        under: "draft", one pass of the backbone and then the head, or "backbone".
        chunk: prompts × prefixes looked at together; it bounds the memory and changes nothing else.

    Raises:
        ValueError: for an unknown `under`, a chunk below 1, IDs of another shape than the model's,
            or "backbone" with a model trained with next_code_weight 0.
    """

    def __init__(
        self,
        model: NezhaModel,
        semantic_ids: SemanticIds,
        under: Under = "draft",
        chunk: int = 512,
    ) -> None:
        if under not in UNDER:
            raise ValueError(f"under is {under!r}, but must be one of {UNDER}.")
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}, but must be at least 1.")
        if under == "backbone":
            check_writes_codes(model.config)
        check_same_space(semantic_ids, model.vocabulary)
        self.model, self.under, self.chunk = model, under, chunk
        self.tree = [
            _Prefixes.of(semantic_ids, level, model.device)
            for level in range(semantic_ids.levels + 1)
        ]

    @torch.inference_mode()
    def decode(
        self,
        prompts: Prompts,
        beam: int,
        trace: bool = False,
        requests: RequestFilter | None = None,
    ) -> DecodeResult:
        """See `Decoder.decode`; `beam` is only how many IDs to return.

        A trace keeps all that exists at every level, and the K best at the last. It holds the
        log-probabilities of the whole catalogue at once.
        """
        check_call(prompts, beam, requests)
        reader = _READERS[self.under](self.model, prompts)
        radices, levels = self.model.head.radices, []
        start = torch.zeros(len(prompts), 1, device=self.model.device)
        before = _Scored(self.tree[0], start, start.long())
        for level, prefixes in enumerate(self.tree[1:], start=1):
            scores, log_probs = self._extended(before, prefixes, reader, keep=trace)
            if requests is not None:
                asked = prefixes.keys.expand(len(prompts), -1)
                scores = scores.masked_fill(~requests.admits(level, asked), -torch.inf)
            width = scores.shape[1]
            if level == len(radices) or not trace:  # then nobody asks for the others' order
                width = min(beam, width)
            after = _Scored(prefixes, scores, scores.topk(width).indices)
            if trace:
                levels.append(_recorded(level, radices, before, after, log_probs))
            before = after
        missing = beam - before.order.shape[1]
        return DecodeResult(
            torch.nn.functional.pad(before.ordered_keys(), (0, missing), value=-1),
            torch.nn.functional.pad(before.ordered_scores(), (0, missing), value=-torch.inf),
            reader.passes,
            DecodeTrace(tuple(levels), reader.passes, verified=True) if trace else None,
        )

    def _extended(
        self, before: _Scored, prefixes: _Prefixes, reader: Reader, keep: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Scores of these prefixes, (B, P_l), and all log-probabilities (B, P, C) if `keep`."""
        at_once = max(1, self.chunk // len(before.scores))
        starts = range(0, len(before.prefixes.keys) + at_once, at_once)
        edges = torch.searchsorted(
            prefixes.parents, torch.tensor(starts, device=prefixes.parents.device)
        ).tolist()
        scores, kept = [], []
        for number, codes in enumerate(before.prefixes.codes.split(at_once)):
            log_probs = reader.log_probs(codes)  # (B, P, C)
            children = slice(edges[number], edges[number + 1])
            parents, chosen = prefixes.parents[children], prefixes.codes[children, -1]
            grown = log_probs[:, parents - starts[number], chosen]
            scores.append(before.scores[:, parents] + grown)
            if keep:
                kept.append(log_probs)
        return torch.cat(scores, dim=1), kept


# ---- the catalogue's prefixes -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Prefixes:
    """The catalogue's P distinct prefixes of l codes, in the order of their codes.

    Attributes:
        codes: (P, l) int64.
        keys: (P,) int64.
        parents: (P,) int64, the place of each one's first l−1 codes among the prefixes of that
            length. It never falls: siblings lie side by side.
    """

    codes: Tensor
    keys: Tensor
    parents: Tensor

    @classmethod
    def of(cls, semantic_ids: SemanticIds, level: int, device: torch.device) -> _Prefixes:
        codes = semantic_ids.codes[:, :level]
        codes = torch.unique(codes, dim=0) if level else codes[:1]
        is_next = (codes[1:, :-1] != codes[:-1, :-1]).any(dim=1)
        parents = torch.nn.functional.pad(is_next.cumsum(dim=0), (1, 0))
        keys = semantic_ids.keys_of(codes)
        return cls(codes.to(device), keys.to(device), parents.to(device))


@dataclass(frozen=True, eq=False)
class _Scored:
    """Prefixes with what a batch of prompts thinks of them.

    Attributes:
        prefixes: P of them.
        scores: (B, P), -inf where a request refuses them.
        order: (B, W) int64, the places of the W best, best first.
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


def _recorded(
    level: int,
    radices: tuple[int, ...],
    before: _Scored,
    after: _Scored,
    log_probs: list[Tensor],
) -> LevelTrace:
    """What a beam search would have recorded whose beams are all that exists."""
    prefixes, n_codes = after.prefixes, radices[level - 1]
    codes = prefixes.codes[:, -1]  # (P_l,)
    beams = before.order.unsqueeze(-1).expand(-1, -1, n_codes)  # (B, P, C)
    scores = (before.scores.unsqueeze(-1) + torch.cat(log_probs, dim=1)).gather(1, beams)
    exists = torch.zeros_like(scores, dtype=torch.bool)
    exists[:, prefixes.parents, codes] = after.scores.isfinite()
    places = before.order.argsort(dim=1)  # (B, P): which beam each prefix is
    numbers = (places[:, prefixes.parents] * n_codes + codes).gather(1, after.order)
    return LevelTrace(
        level,
        scores,
        child_keys(before.ordered_keys(), level, radices),
        exists.gather(1, beams),
        scores.flatten(1).topk(numbers.shape[1]).indices,
        numbers.masked_fill(after.ordered_scores().isneginf(), -1),
    )
