"""Trees of codes below a batch of prompts: the backbone reads many beams in one pass.

All beams of a prompt are tokens of one row. The prompt's keys and values are in the KV cache once
and shared; a token also sees its own ancestors (see `nezha_lite.model.tree_attention`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nezha_lite.decoding.beam_search import gather_rows
from nezha_lite.model import Prompts

if TYPE_CHECKING:
    from nezha_lite.model import NezhaModel


class PromptTree:
    """A batch of prompts, prefilled once, and the nodes read below them so far.

    A node is one code of one prompt's tree, numbered within its row in reading order. Its ancestors
    are the node numbers from the root down to the node itself, padded with -1.

    >>> from nezha_lite.model import NezhaModel
    >>> from nezha_lite.semantic_ids import SemanticIds
    >>> ids = SemanticIds.from_codes([[0, 1], [1, 2]], radices=(2, 3))
    >>> model = NezhaModel.from_preset("tiny", ids).eval()
    >>> with torch.inference_mode():
    ...     tree = PromptTree(model, model.build_prompts([[0]], ids).without_placeholders())
    ...     first_code = torch.tensor([[0, 1]]) + model.vocabulary.level_offsets[0]
    ...     ancestors = extend(tree.root(), torch.tensor([[0, 0]]), tree.size)
    ...     hidden = tree.read(first_code, ancestors)
    >>> hidden.shape[:2], tree.size, tree.calls  # two nodes below the prompt, two passes
    (torch.Size([1, 2]), 2, 2)

    Args:
        model: its backbone reads.
        prompts: with or without placeholders; nodes follow the history and never see placeholders.

    Attributes:
        prompt_states: (B, L+1, D), h_0 … h_L; (B, 1, D) without placeholders.
        size: nodes per prompt so far.
        calls: passes of the backbone so far.
    """

    def __init__(self, model: NezhaModel, prompts: Prompts) -> None:
        self.model = model
        output = model.read_prompts(prompts, use_cache=True)
        self.prompt_states = output.last_hidden_state[:, -(prompts.levels + 1) :]
        self.size, self.calls = 0, 1
        self._cache = output.past_key_values
        if prompts.levels:
            self._cache.crop(-prompts.levels)
        history = prompts.without_placeholders()
        self._visible = history.attention_mask.bool()[:, None, None]  # (B, 1, 1, T)
        self._last_position = history.position_ids[:, -1:]  # (B, 1)

    def root(self) -> Tensor:
        """The ancestors of the root, which is above all nodes: (B, 1, 0)."""
        return self._last_position.new_zeros(len(self._last_position), 1, 0)

    def read(self, tokens: Tensor, ancestors: Tensor) -> Tensor:
        """One pass over M new nodes of every prompt.

        Args:
            tokens: (B, M) int64.
            ancestors: (B, M, A) int64; the new nodes' own numbers are `size` … `size` + M − 1.

        Returns:
            (B, M, D), their hidden states.
        """
        output = self.model.hidden_states(
            tokens,
            attention_mask=self._visible,
            position_ids=self._last_position + (ancestors >= 0).sum(dim=-1),
            past_key_values=self._cache,
            use_cache=True,
            ancestors=ancestors,
        )
        self.size += tokens.shape[1]
        self.calls += 1
        return output.last_hidden_state

    def clear(self) -> None:
        """Remove all nodes; the prompts stay."""
        self._cache.crop(-self.size)
        self.size = 0


def extend(ancestors: Tensor, parents: Tensor, first: int) -> Tensor:
    """The ancestors of children (B, W) numbered from `first` on: (B, K, A) → (B, W, A+1).

    >>> extend(torch.tensor([[[0], [1]]]), torch.tensor([[1, 1, 0]]), first=2)
    tensor([[[1, 2],
             [1, 3],
             [0, 4]]])
    """
    numbers = torch.arange(first, first + parents.shape[1], device=parents.device)
    own = numbers.expand(parents.shape).unsqueeze(-1)  # (B, W, 1)
    return torch.cat([gather_rows(ancestors, parents), own], dim=-1)
