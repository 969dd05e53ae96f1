"""NEZHA's draft head: a tiny autoregressive model inside the big one (paper, section 3.2).

    s_1     = h_0                            the last history token's hidden state
    p_l     = softmax(W_l (h_l + s_l))       h_l: the hidden state at placeholder l
    s_{l+1} = Transition_l(e_l, s_l)         e_l: the chosen code's embedding in the head

The backbone runs once and hands over h_0 … h_L; all that depends on the beam is s_l, and moving it
one level costs one RNN cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRANSITIONS = ("rnn", "gru", "none")


class DraftHead(nn.Module):
    """The head's parameters and its two verbs: `logits` and `advance`.

    Args:
        radices: T_1 … T_L.
        width: D, the backbone's hidden size.
        transition: "rnn" (a tanh cell), "gru", or "none": the state stays h_0, which makes the
            levels independent of each other, as in parallel (Medusa-style) heads.
        dropout: on h_l + s_l while training.
        placeholders: False takes 0 for h_1 … h_L: what the head can do with h_0 alone.
    """

    def __init__(
        self,
        radices: Sequence[int],
        width: int,
        transition: str = "rnn",
        dropout: float = 0.0,
        placeholders: bool = True,
    ) -> None:
        super().__init__()
        if transition not in TRANSITIONS:
            raise ValueError(f"transition is {transition!r}, but must be one of {TRANSITIONS}.")
        self.radices = tuple(radices)
        self.transition = transition
        self.classifiers = nn.ModuleList(nn.Linear(width, radix) for radix in radices)
        # The last level's choice ends the ID: nothing follows that would need its embedding.
        inner = self.radices[:-1] if transition != "none" else ()
        cell = nn.GRUCell if transition == "gru" else nn.RNNCell
        self.embeddings = nn.ModuleList(nn.Embedding(radix, width) for radix in inner)
        self.cells = nn.ModuleList(cell(width, width) for _ in inner)
        self.dropout = nn.Dropout(dropout)
        self.placeholders = placeholders

    @property
    def levels(self) -> int:
        """L, the number of codes in an ID."""
        return len(self.radices)

    def logits(self, level: int, hidden: Tensor, state: Tensor) -> Tensor:
        """W_l (h_l + s_l) for level 0 … L−1: hidden and state (..., D) → (..., T_l)."""
        if not self.placeholders:
            hidden = torch.zeros_like(hidden)
        return self.classifiers[level](self.dropout(hidden + state))

    def advance(self, level: int, codes: Tensor, state: Tensor) -> Tensor:
        """s_{l+1}, after choosing `codes` (...) int64 at `level` in `state` (..., D)."""
        if self.transition == "none":
            return state
        if torch.compiler.is_compiling() and not self.training:
            return self._advance_by_table(level, codes, state)
        embedded = self.embeddings[level](codes)  # (..., D)
        # PyTorch's cells take one batch dimension only.
        moved = self.cells[level](embedded.flatten(0, -2), state.flatten(0, -2))
        return moved.view_as(state)

    def _advance_by_table(self, level: int, codes: Tensor, state: Tensor) -> Tensor:
        # What the cell makes of e_l depends on weights alone: computed for all codes of the level,
        # half of the cell's work becomes a lookup. Where weights are part of the program (on a
        # CPU) the table is too; elsewhere it is made in every run, once for all beams.
        cell, embedding = self.cells[level], self.embeddings[level]
        assert isinstance(cell, nn.RNNCell | nn.GRUCell)
        assert isinstance(embedding, nn.Embedding)
        table = F.linear(embedding.weight, cell.weight_ih, cell.bias_ih)  # (C, D or 3·D)
        seen = table[codes]  # (..., D), for a GRU (..., 3·D)
        kept = F.linear(state, cell.weight_hh, cell.bias_hh)
        if self.transition == "rnn":
            return torch.tanh(seen + kept)
        seen_reset, seen_update, seen_new = seen.chunk(3, dim=-1)
        kept_reset, kept_update, kept_new = kept.chunk(3, dim=-1)
        new = torch.tanh(seen_new + torch.sigmoid(seen_reset + kept_reset) * kept_new)
        return torch.lerp(new, state, torch.sigmoid(seen_update + kept_update))

    def forward(self, hidden: Tensor, codes: Tensor) -> list[Tensor]:
        """Teacher forcing: logits of every level, given the true codes before it.

        Args:
            hidden: (M, L+1, D), h_0 … h_L of M targets.
            codes: (M, L) int64, the targets' codes.

        Returns:
            L tensors (M, T_l).
        """
        state = hidden[:, 0]  # (M, D)
        outputs = []
        for level in range(self.levels):
            outputs.append(self.logits(level, hidden[:, level + 1], state))
            if level + 1 < self.levels:
                state = self.advance(level, codes[:, level], state)
        return outputs

    def log_probs(self, level: int, hidden: Tensor, state: Tensor) -> Tensor:
        """log p_l in fp32 at least, whatever the model's precision: (..., D) → (..., T_l)."""
        logits = self.logits(level, hidden, state)
        return torch.log_softmax(logits.to(at_least_float32(logits.dtype)), dim=-1)


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The precision of log-probabilities, for a model of this one."""
    return torch.promote_types(dtype, torch.float32)
