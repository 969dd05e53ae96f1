"""Trees of codes below a batch of prompts: how the backbone reads many beams in one pass.

All beams of a prompt are tokens of one row. The prompt's keys and values lie in the cache once and
are shared; beside them a token sees its own ancestors only (see `nezha_lite.model.tree_attention`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts


class PromptTree:
    """A batch of prompts, read once, and the nodes read below them since.

    A node is one code of one prompt's tree, numbered within its row in the order of reading. Its
    lineage are the node numbers from the root down to itself, -1 where there are no more.

    Args:
        model: whose backbone reads.
        prompts: with placeholders or without; nodes follow the history, and never see placeholders.

    Attributes:
        prompt_states: (B, L+1, D), h_0 … h_L; (B, 1, D) without placeholders.
        size: nodes per prompt so far.
        calls: passes of the backbone so far.
    """

    def __init__(self, model: NezhaModel, prompts: Prompts) -> None:
        self.model = model
        output = model.hidden_states(
            prompts.input_ids,
            attention_mask=prompts.visible(),
            position_ids=prompts.position_ids,
            use_cache=True,
        )
        self.prompt_states = output.last_hidden_state[:, -(prompts.levels + 1) :]
        self.size, self.calls = 0, 1
        self._cache = output.past_key_values
        if prompts.levels:
            self._cache.crop(-prompts.levels)
        history = prompts.without_placeholders()
        self._seen = history.attention_mask.bool()[:, None, None]  # (B, 1, 1, T)
        self._last = history.position_ids[:, -1:]  # (B, 1)

    def root(self) -> Tensor:
        """The lineage of the root, above all nodes: (B, 1, 0)."""
        return self._last.new_zeros(len(self._last), 1, 0)

    def read(self, tokens: Tensor, lineage: Tensor) -> Tensor:
        """One pass over M new nodes of every prompt.

        Args:
            tokens: (B, M) int64.
            lineage: (B, M, A) int64; the new nodes' own numbers are `size` … `size` + M − 1.

        Returns:
            (B, M, D), their hidden states.
        """
        output = self.model.hidden_states(
            tokens,
            attention_mask=self._seen,
            position_ids=self._last + (lineage >= 0).sum(dim=-1),
            past_key_values=self._cache,
            use_cache=True,
            ancestors=lineage,
        )
        self.size += tokens.shape[1]
        self.calls += 1
        return output.last_hidden_state


def descend(lineage: Tensor, parents: Tensor, first: int) -> Tensor:
    """Lineage of the children (B, W) numbered from `first` on: (B, K, A) → (B, W, A+1)."""
    own = torch.arange(first, first + parents.shape[1], device=parents.device)
    return torch.cat([take(lineage, parents), own.expand(parents.shape).unsqueeze(-1)], dim=-1)


def take(rows: Tensor, index: Tensor) -> Tensor:
    """Rows by number, in every prompt: (B, K, X), (B, W) int64 → (B, W, X)."""
    return rows.gather(1, index.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
