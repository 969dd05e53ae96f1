"""What comes after a given prefix: log-probabilities of the next code, by teacher forcing."""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor

from nezha_lite.draft_head import at_least_float32
from nezha_lite.model import NezhaModel
from nezha_lite.prompts import Prompts


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
