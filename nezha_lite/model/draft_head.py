"""NEZHA's draft head: a small autoregressive model inside the large one (paper, section 3.2).

    s_1     = h_0                            the last history token's hidden state
    p_l     = softmax(W_l (h_l + s_l))       h_l: the hidden state at placeholder l
    s_{l+1} = Transition_l(e_l, s_l)         e_l: the chosen code's embedding in the head

The backbone runs once and gives h_0 … h_L. Only s_l depends on the beam, and one RNN cell moves it
one level on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nezha_lite.common.checks import check
from nezha_lite.model.prefix_embedding import PrefixEmbedding

TRANSITIONS = ("rnn", "gru", "none")


class DraftHead(nn.Module):
    """The head's parameters, with one method for p_l, `logits`, and one for s_{l+1}, `advance`.

    >>> head = DraftHead(radices=(3, 4), width=8)
    >>> hidden, beams = torch.zeros(1, 1, 8), torch.zeros(1, 5, 8)  # (B, 1, D), (B, K, D)
    >>> head.logits(0, hidden, beams).shape  # (B, K, T_1)
    torch.Size([1, 5, 3])
    >>> head.advance(0, torch.tensor([[0, 1, 2, 0, 1]]), beams).shape
    torch.Size([1, 5, 8])

    Args:
        radices: T_1 … T_L.
        width: D, the backbone's hidden size.
        transition: "rnn" (a tanh cell), "gru", or "none": the state stays h_0, which makes the
            levels independent of each other, as in parallel (Medusa-style) heads.
        dropout: on h_l + s_l while training.
        placeholders: False replaces h_1 … h_L by 0, so that the head reads h_0 alone.
        candidates: embeddings of the prefixes of the last levels, in order; none is the paper's
            head. At these levels the softmax is over the continuations that exist.

    Raises:
        ValueError: for an unknown transition.
    """

    def __init__(
        self,
        radices: Sequence[int],
        width: int,
        transition: str = "rnn",
        dropout: float = 0.0,
        placeholders: bool = True,
        candidates: Sequence[PrefixEmbedding] = (),
    ) -> None:
        super().__init__()
        check(transition in TRANSITIONS, "transition", transition, f"one of {TRANSITIONS}")
        self.radices = tuple(radices)
        self.transition = transition
        self.classifiers = nn.ModuleList(nn.Linear(width, radix) for radix in radices)
        # The last level's code ends the ID: no later level needs its embedding.
        inner = self.radices[:-1] if transition != "none" else ()
        cell = nn.GRUCell if transition == "gru" else nn.RNNCell
        self.embeddings = nn.ModuleList(nn.Embedding(radix, width) for radix in inner)
        self.cells = nn.ModuleList(cell(width, width) for _ in inner)
        self.dropout = nn.Dropout(dropout)
        self.placeholders = placeholders
        self.candidates = nn.ModuleList(candidates)
        self._tables: list[Tensor] = []  # see `refresh_tables`
        self._table_versions: list[tuple[int, int]] = []

    @property
    def levels(self) -> int:
        """L, the number of codes in an ID."""
        return len(self.radices)

    def candidates_of(self, level: int) -> PrefixEmbedding | None:
        """The embeddings of level 0 … L−1; None where the softmax is over all codes."""
        index = level - (self.levels - len(self.candidates))
        embedding: Any = self.candidates[index] if index >= 0 else None
        return embedding

    def query(self, hidden: Tensor, state: Tensor) -> Tensor:
        """h_l + s_l, with dropout while training: hidden and state (..., D) → (..., D)."""
        if not self.placeholders:
            hidden = torch.zeros_like(hidden)
        query: Tensor = self.dropout(hidden + state)
        return query

    def logits(self, level: int, hidden: Tensor, state: Tensor) -> Tensor:
        """W_l (h_l + s_l) for level 0 … L−1: hidden and state (..., D) → (..., T_l)."""
        return self.classifiers[level](self.query(hidden, state))

    def log_probs(
        self,
        level: int,
        hidden: Tensor,
        state: Tensor,
        prefixes: Tensor | None = None,
        exists: Tensor | None = None,
    ) -> Tensor:
        """log p_l, in float32 at least, for every precision: (..., D) → (..., T_l).

        Args:
            level: 0 … L−1.
            hidden: h_l, (..., D).
            state: s_l, (..., D).
            prefixes: (...) int64, keys of the codes before, which candidate embeddings need.
            exists: (..., T_l) bool, the continuations that a verifier knows. With candidate
                embeddings the softmax is over these; by default over those of the training.
        """
        candidates = self.candidates_of(level)
        if candidates is None:
            logits = self.logits(level, hidden, state)
            return torch.log_softmax(logits.to(at_least_float32(logits.dtype)), dim=-1)
        assert prefixes is not None
        query = self.query(hidden, state)
        query = query.expand(*prefixes.shape, query.shape[-1])
        logits = self.classifiers[level](query)
        logits = logits.to(at_least_float32(logits.dtype))
        return candidates.log_probs(logits, query, prefixes, exists)

    def advance(
        self, level: int, codes: Tensor, state: Tensor, tables: Sequence[Tensor] = ()
    ) -> Tensor:
        """s_{l+1}, after choosing `codes` (B, W) int64 at `level`: (B, W, D).

        Args:
            level: 0 … L−2.
            codes: any shape (...), for a state of that shape.
            state: s_l, (..., D), or (B, 1, D) where all codes of a row extend the same one.
            tables: of `lookup_tables`, to look products up instead of computing them.
        """
        if self.transition == "none":
            return state.expand(*codes.shape, -1)
        if tables:
            return self._advance_by_table(level, codes, state, tables[level])
        embedded = self.embeddings[level](codes)  # (..., D)
        # PyTorch's cells take one batch dimension only.
        state = state.expand_as(embedded).flatten(0, -2)
        next_state: Tensor = self.cells[level](embedded.flatten(0, -2), state)
        return next_state.view_as(embedded)

    def lookup_tables(self) -> Sequence[Tensor]:
        """The cells' products with the code embeddings, up to date: L − 1 of (C, D or 3·D).

        None of them for weights made in inference mode, whose changes nothing tells.
        """
        if not torch.compiler.is_compiling():
            if any(weight.is_inference() for weight in self.cells.parameters()):
                return ()
            self.refresh_tables()
        return self._tables

    def refresh_tables(self) -> None:
        """Compute the cells' products with the code embeddings again if weights have changed.

        They depend on weights alone: computed for all codes of a level, half of a cell's work
        becomes a lookup. Compiled programs read them where this was called. Tables of one shape
        stay at one address, where CUDA graphs read them.
        """
        inputs: list[tuple[Tensor, Tensor, Tensor]] = [
            (embedding.weight, cell.weight_ih, cell.bias_ih)  # type: ignore[misc]
            for embedding, cell in zip(self.embeddings, self.cells, strict=True)
        ]
        weights = [weight for level in inputs for weight in level]
        versions = [(weight.data_ptr(), weight._version) for weight in weights]
        if versions != self._table_versions:
            with torch.inference_mode(False), torch.no_grad():
                tables = [
                    F.linear(*level) for level in inputs
                ]  # L − 1 of (C, D), for a GRU (C, 3·D)
                for index, (old, new) in enumerate(zip(self._tables, tables, strict=False)):
                    if old.dtype == new.dtype and old.device == new.device:
                        tables[index] = old.copy_(new)
            self._tables, self._table_versions = tables, versions

    def _advance_by_table(self, level: int, codes: Tensor, state: Tensor, table: Tensor) -> Tensor:
        cell = self.cells[level]
        assert isinstance(cell, nn.RNNCell | nn.GRUCell)
        from_code = F.embedding(codes, table)  # (..., D), for a GRU (..., 3·D)
        from_state = F.linear(state, cell.weight_hh, cell.bias_hh)
        if self.transition == "rnn":
            return torch.tanh(from_code + from_state)
        code_reset, code_update, code_new = from_code.chunk(3, dim=-1)
        state_reset, state_update, state_new = from_state.chunk(3, dim=-1)
        new = torch.tanh(code_new + torch.sigmoid(code_reset + state_reset) * state_new)
        return torch.lerp(new, state, torch.sigmoid(code_update + state_update))

    def forward(self, hidden: Tensor, codes: Tensor) -> list[Tensor]:
        """Teacher forcing: logits of every level, given the true codes before it.

        Args:
            hidden: (M, L+1, D), h_0 … h_L of M targets.
            codes: (M, L) int64, the targets' codes.

        Returns:
            L tensors (M, T_l).
        """
        state = hidden[:, 0]  # (M, D)
        logits = []
        for level in range(self.levels):
            logits.append(self.logits(level, hidden[:, level + 1], state))
            if level + 1 < self.levels:
                state = self.advance(level, codes[:, level], state)
        return logits


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The precision of log-probabilities for a model of this precision."""
    return torch.promote_types(dtype, torch.float32)
