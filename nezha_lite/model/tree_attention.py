"""The attention of all backbones in this package: sdpa, and tree attention for beams.

Tree attention reads many beams in one pass. A token attends to its prompt, whose keys and values
are in the KV cache once, and to its own ancestors in the tree of codes. A dense mask would spend
nearly all of its time on pairs of tokens that do not see each other. Therefore attention is
computed in two parts, the shared prompt and each token's few ancestors, under one softmax.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

NAME = "nezha_lite"
UNLIMITED = 2**30  # tokens; a sliding window that no prompt fills


def use_tree_attention(backbone: PreTrainedModel) -> None:
    """Make `tree_attention`, which is sdpa for every ordinary call, the backbone's attention.

    A sliding window (Mistral, Gemma) is widened to whole prompts, because the masks of packed
    training, padded prompts and trees do not follow it: with a window, the list for a long prompt
    would depend on its padding, and the cache would drop keys that the tree needs.
    """
    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, AttentionMaskInterface()["sdpa"])
    backbone.set_attn_implementation(NAME)
    text = backbone.config.get_text_config()
    if getattr(text, "sliding_window", None) is not None:
        text.sliding_window = UNLIMITED


def causal_mask(like: Tensor) -> Tensor:
    """The mask of prompts without padding: (1, 1, 0, 0), which `tree_attention` takes for none.

    With no mask at all, transformers compares all positions to find packed sequences, which waits
    for the device, and writes out a causal mask while compiling, which excludes the fastest
    kernels. A mask of four dimensions is passed on as it is.

    >>> causal_mask(torch.tensor([[1, 5, 7]])).shape
    torch.Size([1, 1, 0, 0])
    """
    return torch.empty(1, 1, 0, 0, dtype=torch.bool, device=like.device)


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    ancestors: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """An attention function for transformers: prompt and ancestors under one softmax.

    Args:
        module: the layer.
        query: (B, H, M, d), of the M new nodes.
        key: (B, H_kv, T + nodes, d), of the prompt, then of all nodes, the new ones included.
        value: the same shape as `key`.
        attention_mask: (B, 1, 1, T) bool, False on padding of the prompt; without `ancestors` any
            mask of sdpa, `causal_mask`, or None.
        scaling: factor of the scores; 1/√d if None.
        ancestors: (B, M, A) int64, see `PromptTree`; without it this is sdpa.
        others: further arguments that transformers gives to attention functions.

    Returns:
        (B, M, H, d), and None for the attention weights.
    """
    if ancestors is None:
        if attention_mask is not None and attention_mask.numel() == 0:
            attention_mask = None
        output, _ = AttentionInterface()["sdpa"](
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
        return output, None
    assert attention_mask is not None
    batch, heads, nodes, width = query.shape
    prompt, groups = attention_mask.shape[-1], key.shape[1]
    # Query heads that share keys are rows of one matrix product: (B, H_kv, G·M, d).
    scaled = query * (width**-0.5 if scaling is None else scaling)
    query = scaled.reshape(batch, groups, -1, width)
    to_prompt = query @ key[:, :, :prompt].transpose(-1, -2)  # (B, H_kv, G·M, T)
    to_prompt.masked_fill_(~attention_mask, -torch.inf)
    per_node = (batch, groups, heads // groups, nodes)
    ancestor_keys = _gather_nodes(key, ancestors, prompt)  # (B, H_kv, M, A, d)
    to_ancestors = torch.einsum("bgrmd,bgmad->bgrma", query.view(*per_node, width), ancestor_keys)
    to_ancestors = to_ancestors.masked_fill((ancestors < 0)[:, None, None], -torch.inf)
    scores = torch.cat([to_prompt.view(*per_node, prompt), to_ancestors], dim=-1)
    weights = scores.softmax(dim=-1)  # accumulated in fp32 for every precision
    on_prompt, on_ancestors = weights.split([prompt, ancestors.shape[-1]], dim=-1)
    output = (on_prompt.reshape(to_prompt.shape) @ value[:, :, :prompt]).view(*per_node, width)
    ancestor_values = _gather_nodes(value, ancestors, prompt)  # (B, H_kv, M, A, d)
    output += torch.einsum("bgrma,bgmad->bgrmd", on_ancestors, ancestor_values)
    return output.view(batch, heads, nodes, width).transpose(1, 2), None


def _gather_nodes(states: Tensor, ancestors: Tensor, prompt: int) -> Tensor:
    """The ancestors' keys or values: (B, H, S, d), (B, M, A) → (B, H, M, A, d)."""
    batch, heads, length, width = states.shape
    first = torch.arange(batch * heads, device=states.device).view(batch, heads, 1) * length
    index = first + prompt + ancestors.clamp_min(0).flatten(1).unsqueeze(1)  # (B, H, M·A)
    rows = states.reshape(-1, width).index_select(0, index.flatten())
    return rows.view(batch, heads, *ancestors.shape[1:], width)
