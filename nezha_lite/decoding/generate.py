"""What users reach for first: `generate` of transformers, with and without a constraint."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from nezha_lite.decoding.base import (
    DecodeResult,
    Verification,
    check_call,
    check_verifier,
    check_writes_codes,
)
from nezha_lite.decoding.generate_constraint import (
    Allowed,
    admitted_among,
    admitted_codes,
    existing_keys,
    following_tokens,
)
from nezha_lite.decoding.generate_trace import RunningBeams, codes_of, rebuild_trace
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers import RequestFilter, Verifier

# What `generate` scores below this is no hypothesis: it fills up with copies at -1e9.
_NO_HYPOTHESIS = -1e8


class GenerateDecoder:
    """`generate(num_beams=K, num_return_sequences=K)` on the backbone, as a user would call it.

    With verification "prefix" a `prefix_allowed_tokens_fn` reads the next tokens from a dict of
    the catalogue's prefixes; its lists are those of `AutoregressiveDecoder`. The dict is built
    once, when the decoder is made: after the verifier changed, make a new decoder.

    Without it ("off", "final") `generate` chooses among all tokens of the vocabulary. A hypothesis
    that is not one code of every level is no semantic ID and leaves an empty place, although it
    took a beam.

    It is the baseline, used correctly and not tuned: the prompt is copied K times before it is
    read, and the prefix function is called once per beam and level. Settings that a model
    brings along in its `generation_config` (an end token, a repetition penalty) are not used.

    Args:
        model: a trained `NezhaModel` in eval mode.
        verifier: the catalogue; may be None with verification "off".
        verification: "off", "final" or "prefix"; see `BeamSearchDecoder`.

    Raises:
        ValueError: for an unknown mode, a missing verifier, one of other radices, or a model
            trained with next_code_weight 0.
    """

    def __init__(
        self,
        model: NezhaModel,
        verifier: Verifier | None = None,
        verification: Verification = "prefix",
    ) -> None:
        check_writes_codes(model.config)
        check_verifier(model.head.radices, verifier, verification)
        self.model, self.verifier, self.verification = model, verifier, verification
        # `generate` takes every setting that it is not given from the model's generation_config,
        # and None cannot be given. This copy shares all weights, and has an empty one.
        self.backbone = copy.copy(model.backbone)
        self.backbone.generation_config = GenerationConfig()
        self.keys: Tensor | None = None  # (M,) int64, the existing IDs
        if verifier is not None and verification == "prefix":
            self.keys = existing_keys(verifier, model.device)
            self.following = following_tokens(self.keys, model.vocabulary)

    @torch.inference_mode()
    def decode(
        self,
        prompts: Prompts,
        beam: int,
        trace: bool = False,
        requests: RequestFilter | None = None,
    ) -> DecodeResult:
        """See `Decoder.decode`.

        A trace shows the beams that hold codes of the right levels, and what the backbone thought
        of the codes after them; beams that hold anything else are empty slots.
        """
        check_call(prompts, beam, requests)
        vocabulary, batch = self.model.vocabulary, len(prompts)
        width = prompts.input_ids.shape[1] - prompts.levels
        running = RunningBeams(width) if trace else None
        output = self._generate(prompts.without_placeholders(), beam, requests, running)
        tokens = output.sequences[:, width:]  # (B·K, L)
        scores = output.sequences_scores if beam > 1 else _sum_of(output.logits, tokens)
        scores = scores.view(batch, beam)
        codes = codes_of(tokens, vocabulary).view(batch, beam, -1)  # (B, K, L)
        alive = (codes[..., 0] >= 0) & (scores > _NO_HYPOTHESIS)
        strides = torch.tensor(radix_strides(vocabulary.radices), device=codes.device)
        keys = (codes * strides).sum(dim=-1).masked_fill(~alive, -1)
        if self.verifier is not None and self.verification == "final":
            alive &= self.verifier.contains(keys)
        order = (~alive).to(torch.int8).argsort(dim=1, stable=True)  # empty places last
        keys = keys.masked_fill(~alive, -1).gather(1, order)
        scores = scores.masked_fill(~alive, -torch.inf).gather(1, order)
        record = None
        if running is not None:
            beams = [
                codes_of(before, vocabulary).view(batch, beam, -1) for before in running.tokens[1:]
            ]
            beams.append(codes.masked_fill(~alive.unsqueeze(-1), -1))
            record = rebuild_trace(beams, output.logits, vocabulary, self.verifier, requests)
        return DecodeResult(keys, scores, vocabulary.levels, record)

    def _generate(
        self,
        history: Prompts,
        beam: int,
        requests: RequestFilter | None,
        running: RunningBeams | None,
    ) -> Any:
        width, pad = history.input_ids.shape[1], self.model.vocabulary.pad
        allowed = self._allowed(requests)

        def next_tokens(prompt: int, tokens: Tensor) -> Sequence[int]:
            assert allowed is not None
            # An empty list is an error to `generate`, and padding is no code. It comes to that
            # only where nothing at all is left for this prompt.
            return allowed(prompt, tuple(tokens[width:].tolist())) or [pad]

        # One beam is greedy search to `generate`: it knows no length penalty, and returns no score.
        many = {"num_beams": beam, "num_return_sequences": beam, "length_penalty": 0.0}
        return self.backbone.generate(
            history.input_ids,
            attention_mask=history.attention_mask,
            prefix_allowed_tokens_fn=None if allowed is None else next_tokens,
            logits_processor=LogitsProcessorList([] if running is None else [running]),
            generation_config=GenerationConfig(
                max_new_tokens=self.model.head.levels,
                do_sample=False,
                use_cache=True,
                pad_token_id=pad,
                return_dict_in_generate=True,
                output_scores=beam > 1,
                output_logits=beam == 1 or running is not None,
                **(many if beam > 1 else {}),
            ),
        )

    def _allowed(self, requests: RequestFilter | None) -> Allowed | None:
        """The constraint; None where every token may follow."""
        if self.keys is None:
            if requests is None:
                return None
            return admitted_codes(self.model.vocabulary, requests, self.model.device)
        rows = [self.following]
        if requests is not None:
            rows = admitted_among(self.keys, self.model.vocabulary, requests)
        return lambda prompt, prefix: rows[prompt % len(rows)].get(prefix, ())  # one row serves all


def _sum_of(logits: Sequence[Tensor], tokens: Tensor) -> Tensor:
    """Greedy search returns no scores: Σ_l log p of what it chose, L × (B, V), (B, L) → (B,)."""
    chosen = [
        step.log_softmax(dim=-1).gather(1, tokens[:, level, None])
        for level, step in enumerate(logits)
    ]
    return torch.cat(chosen, dim=1).sum(dim=1)
