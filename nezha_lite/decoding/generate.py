"""The usual first choice of users: `generate` of transformers, with and without a constraint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import compress
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from nezha_lite.decoding.base import Decoder, DecodeResult, check_numbers
from nezha_lite.model import Prompts, Vocabulary
from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers import RequestFilter, Verifier, child_keys

Prefix = tuple[int, ...]  # tokens written so far
Following = dict[Prefix, list[int]]  # the tokens after every prefix

# Scores below this are no hypotheses: `generate` fills up with copies at -1e9.
_LEAST_SCORE = -1e8
_CHUNK = 4096  # prefixes looked up together while listing the catalogue


class GenerateDecoder(Decoder):
    """`generate(num_beams=K, num_return_sequences=K)` on the backbone, as a user would call it.

    With verification "prefix" a `prefix_allowed_tokens_fn` reads the next tokens from a dict of
    the catalogue's prefixes, and the lists are those of `AutoregressiveDecoder`. The dict is built
    for the first list: after the verifier changed, make a new decoder.

    With "off" and "final" `generate` ranks all tokens of the vocabulary. A hypothesis that is not
    one code of every level is no semantic ID and leaves padding, although it occupied a beam.

    This baseline is used correctly and not tuned: the prompt is copied K times before prefill, and
    the prefix function is called once per beam and level. Settings of the model's own
    `generation_config` (an end token, a repetition penalty) are not used.

    Arguments and errors are `Decoder`'s.
    """

    records: ClassVar[bool] = False
    backbone_predicts: ClassVar[bool] = True

    @cached_property
    def _backbone(self) -> Any:
        # `generate` takes every setting that it is not given from the model's generation_config,
        # and None cannot be given. This copy shares all weights, and has an empty one.
        backbone = copy.copy(self.model.backbone)
        backbone.generation_config = GenerationConfig()
        return backbone

    @cached_property
    def _following(self) -> Following | None:
        """The tokens that may follow a prefix of tokens; None where all codes of a level may."""
        if self.verifier is None or self.verification != "prefix":
            return None
        return _following_tokens(self.verifier, self.model.vocabulary, self.model.device)

    def _decode(
        self, prompts: Prompts, beam: int, trace: bool, requests: RequestFilter | None
    ) -> DecodeResult:
        vocabulary, batch = self.model.vocabulary, len(prompts)
        width = prompts.input_ids.shape[1] - prompts.levels
        output = self._generate(prompts.without_placeholders(), beam, requests)
        tokens = output.sequences[:, width:]  # (B·K, L)
        scores = output.sequences_scores if beam > 1 else _greedy_scores(output.logits, tokens)
        scores = scores.view(batch, beam)
        keys = _keys_of(tokens.view(batch, beam, -1), vocabulary)
        dead = (keys < 0) | (scores <= _LEAST_SCORE)
        if self.verifier is not None and self.verification == "final":
            dead |= ~self.verifier.contains(keys)
        order = dead.byte().argsort(dim=1, stable=True)  # padding comes last
        return DecodeResult(
            keys.masked_fill(dead, -1).gather(1, order),
            scores.masked_fill(dead, -torch.inf).gather(1, order),
            vocabulary.levels,
        )

    def _generate(self, history: Prompts, beam: int, requests: RequestFilter | None) -> Any:
        """What transformers' `generate` returns."""
        # One beam is greedy search to `generate`: it has no length penalty and returns no score.
        many = {"num_beams": beam, "num_return_sequences": beam, "length_penalty": 0.0}
        return self._backbone.generate(
            history.input_ids,
            # Only the model knows the items that the tokens complete.
            inputs_embeds=None
            if self.model.memory is None
            else self.model.embed(history.input_ids),
            attention_mask=history.attention_mask,
            prefix_allowed_tokens_fn=self._constraint(history.input_ids.shape[1], requests),
            logits_processor=LogitsProcessorList([_CheckedScores()]),
            generation_config=GenerationConfig(
                max_new_tokens=self.model.head.levels,
                do_sample=False,
                use_cache=True,
                pad_token_id=self.model.vocabulary.pad,
                return_dict_in_generate=True,
                output_scores=beam > 1,
                output_logits=beam == 1,
                **(many if beam > 1 else {}),
            ),
        )

    def _constraint(
        self, width: int, requests: RequestFilter | None
    ) -> Callable[[int, Tensor], Sequence[int]] | None:
        """A `prefix_allowed_tokens_fn` for prompts of this width; None if all tokens may follow."""
        if self._following is None and requests is None:
            return None
        vocabulary, following = self.model.vocabulary, self._following

        def next_tokens(prompt: int, tokens: Tensor) -> Sequence[int]:
            prefix = tokens[width:]
            if following is None:
                allowed: Sequence[int] = vocabulary.level_tokens(len(prefix))
            else:
                allowed = following.get(tuple(prefix.tolist()), [])
            if requests is not None:
                allowed = _admitted_tokens(allowed, prefix, vocabulary, requests, prompt)
            # `generate` refuses an empty list, which only a prompt with nothing left gets.
            return allowed or [vocabulary.pad]

        return next_tokens


class _CheckedScores(LogitsProcessor):
    """Raises ValueError where a score is NaN, of which `generate` would make a list."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        check_numbers(scores)
        return scores


def _keys_of(tokens: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(..., l) int64 tokens → (...) int64 keys; -1 for tokens that are no codes of the levels."""
    length, device = tokens.shape[-1], tokens.device
    offsets, radices, strides = torch.tensor(
        [vocabulary.level_offsets, vocabulary.radices, radix_strides(vocabulary.radices)],
        device=device,
    )[:, :length]
    codes = tokens - offsets
    valid = ((codes >= 0) & (codes < radices)).all(dim=-1)
    return (codes * strides).sum(dim=-1).masked_fill(~valid, -1)


def _greedy_scores(logits: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
    """Σ_l log p, which greedy search does not return: L × (B, V), (B, L) → (B,)."""
    log_probs = torch.stack(logits, dim=1).log_softmax(dim=-1)  # (B, L, V)
    return log_probs.gather(2, tokens.unsqueeze(-1)).sum(dim=(1, 2))


def _following_tokens(
    verifier: Verifier, vocabulary: Vocabulary, device: torch.device
) -> Following:
    """Every prefix of an existing ID → the tokens that continue it to one."""
    rows = torch.zeros(1, 0, dtype=torch.int64, device=device)  # (P, l), all existing prefixes
    for level, first in enumerate(vocabulary.level_offsets, start=1):
        longer = []
        for chunk in rows.split(_CHUNK):
            children = child_keys(_keys_of(chunk, vocabulary), level, vocabulary.radices)
            parents, codes = verifier.prefix_contains(level, children).nonzero().unbind(dim=1)
            longer.append(torch.cat([chunk[parents], first + codes.unsqueeze(1)], dim=1))
        rows = torch.cat(longer)
    following: dict[Prefix, dict[int, None]] = {}
    for row in rows.tolist():
        for level, token in enumerate(row):
            following.setdefault(tuple(row[:level]), {})[token] = None
    return {prefix: list(tokens) for prefix, tokens in following.items()}


def _admitted_tokens(
    tokens: Sequence[int],
    prefix: Tensor,
    vocabulary: Vocabulary,
    requests: RequestFilter,
    prompt: int,
) -> list[int]:
    """Those of the tokens after a prefix (l,) that begin an ID which the request admits."""
    rows = [[*prefix.tolist(), token] for token in tokens]
    if not rows:
        return []
    keys = _keys_of(torch.tensor(rows, device=prefix.device), vocabulary)  # (F,)
    admitted = requests.admits(len(prefix) + 1, keys.expand(len(requests), -1)) & (keys >= 0)
    return list(compress(tokens, admitted[prompt % len(requests)].tolist()))
