"""The attention that the backbones of this package use: sdpa, and tree attention for beams.

Tree attention reads many beams in one pass: a token sees its prompt, whose keys and values lie in
the cache once, and its own ancestors. The masked form of this spends nearly all its time on pairs
that never meet, so it is computed in two parts, the shared prompt and each token's few ancestors,
under one softmax.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

NAME = "nezha_lite"
WHOLE = 2**30  # tokens; a window that no prompt fills


def use_tree_attention(backbone: PreTrainedModel) -> None:
    """Let the backbone attend by `tree_attention`, which is sdpa for every ordinary call.

    A backbone of sliding windows (Mistral, Gemma) is opened to see whole prompts, as the masks of
    packed training, padded prompts and trees do anyway: otherwise a long prompt's list would depend
    on whether it is padded, and its cache would have lost what a tree must see.
    """
    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, attention_mask_of)
    backbone.set_attn_implementation(NAME)
    text = backbone.config.get_text_config()
    if getattr(text, "sliding_window", None) is not None:
        text.sliding_window = WHOLE


def attention_mask_of(
    batch_size: int,
    q_length: int,
    kv_length: int,
    *positional: Any,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    **others: Any,
) -> Tensor | None:
    """A mask function for transformers: sdpa's, and none where the backbone was given none.

    While compiling, transformers would write the causal mask out, and with a mask the fastest
    kernels are lost. Its guess that rows whose positions start anew hold several sequences is not
    needed here: packed training brings its own mask.
    """
    unlimited = local_size is None or kv_length <= local_size
    if attention_mask is None and unlimited and q_length in (1, kv_length):
        return None
    mask: Tensor | None = AttentionMaskInterface()["sdpa"](
        batch_size,
        q_length,
        kv_length,
        *positional,
        attention_mask=attention_mask,
        local_size=local_size,
        **others,
    )
    return mask


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    lineage: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """An attention function for transformers: prompt and ancestors under one softmax.

    Args:
        module: the layer.
        query: (B, H, M, d), of the new nodes.
        key: (B, H_kv, T + nodes, d): the prompt's, then those of all nodes, the new ones included.
        value: likewise.
        attention_mask: (B, 1, 1, T) bool, where the prompt is no padding.
        scaling: of the scores; 1/√d if None.
        lineage: (B, M, A), see `PromptTree`; without it this is sdpa.
        others: what transformers hands to attention functions besides.

    Returns:
        (B, M, H, d), and None for the weights.
    """
    if lineage is None:
        output, _ = AttentionInterface()["sdpa"](
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
        return output, None
    assert attention_mask is not None
    batch, heads, nodes, width = query.shape
    prompt, groups = attention_mask.shape[-1], key.shape[1]
    # Heads that share keys are queries of one matrix product: (B, H_kv, G·M, d).
    scaled = query * (width**-0.5 if scaling is None else scaling)
    query = scaled.reshape(batch, groups, -1, width)
    to_prompt = query @ key[:, :, :prompt].transpose(-1, -2)  # (B, H_kv, G·M, T)
    to_prompt.masked_fill_(~attention_mask, -torch.inf)
    per_node = (batch, groups, heads // groups, nodes)
    ancestors = _rows(key, lineage, prompt)  # (B, H_kv, M, A, d)
    to_ancestors = torch.einsum("bgrmd,bgmad->bgrma", query.view(*per_node, width), ancestors)
    to_ancestors = to_ancestors.masked_fill((lineage < 0)[:, None, None], -torch.inf)
    scores = torch.cat([to_prompt.view(*per_node, prompt), to_ancestors], dim=-1)
    weights = scores.softmax(dim=-1)  # accumulated in fp32 whatever the precision
    on_prompt, on_ancestors = weights.split([prompt, lineage.shape[-1]], dim=-1)
    output = (on_prompt.reshape(to_prompt.shape) @ value[:, :, :prompt]).view(*per_node, width)
    output += torch.einsum("bgrma,bgmad->bgrmd", on_ancestors, _rows(value, lineage, prompt))
    return output.view(batch, heads, nodes, width).transpose(1, 2), None


def _rows(states: Tensor, lineage: Tensor, prompt: int) -> Tensor:
    """The ancestors' keys or values: (B, H, S, d), (B, M, A) → (B, H, M, A, d)."""
    batch, heads, length, width = states.shape
    first = torch.arange(batch * heads, device=states.device).view(batch, heads, 1) * length
    index = first + prompt + lineage.clamp_min(0).flatten(1).unsqueeze(1)  # (B, H, M·A)
    rows = states.reshape(-1, width).index_select(0, index.flatten())
    return rows.view(batch, heads, *lineage.shape[1:], width)
