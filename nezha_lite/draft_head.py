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
    """

    def __init__(
        self, radices: Sequence[int], width: int, transition: str = "rnn", dropout: float = 0.0
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

    @property
    def levels(self) -> int:
        """L, the number of codes in an ID."""
        return len(self.radices)

    def logits(self, level: int, hidden: Tensor, state: Tensor) -> Tensor:
        """W_l (h_l + s_l) for level 0 … L−1: hidden and state (..., D) → (..., T_l)."""
        return self.classifiers[level](self.dropout(hidden + state))

    def advance(self, level: int, codes: Tensor, state: Tensor) -> Tensor:
        """s_{l+1}, after choosing `codes` (...) int64 at `level` in `state` (..., D)."""
        if self.transition == "none":
            return state
        embedded = self.embeddings[level](codes)  # (..., D)
        # PyTorch's cells take one batch dimension only.
        moved = self.cells[level](embedded.flatten(0, -2), state.flatten(0, -2))
        return moved.view_as(state)

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
        """log p_l in fp32, whatever the model's precision: (..., D) → (..., T_l)."""
        return torch.log_softmax(self.logits(level, hidden, state).float(), dim=-1)
