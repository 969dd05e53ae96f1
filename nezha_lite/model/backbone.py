"""The decoder-only language model inside `NezhaModel`: made from a configuration, or pretrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from nezha_lite.common.checks import check
from nezha_lite.model.config import NezhaConfig
from nezha_lite.model.tree_attention import use_tree_attention

# The last layer of each residual branch, two in a block, by its name in transformers.
RESIDUAL_OUTPUTS = (".o_proj", ".down_proj", ".c_proj")
OWN_DROPOUTS = ("embd_pdrop", "resid_pdrop")  # a backbone's, where NezhaConfig.dropout acts


def make_backbone(config: NezhaConfig) -> Any:
    """The backbone of this configuration, with random weights; it attends to trees of prefixes.

    Raises:
        ValueError: if the configuration has none, or one with too few tokens or positions.
    """
    if config.backbone is None:
        raise ValueError("backbone is None: use NezhaModel.from_preset or from_backbone.")
    fields = dict(config.backbone)
    if config.dropout:
        fields |= {name: 0.0 for name in OWN_DROPOUTS if name in fields}
    backbone_config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    _check_sizes(config, backbone_config)
    # Packed prefixes bring their own (B, 1, T, T) boolean mask, which sdpa takes as it is.
    backbone = AutoModelForCausalLM.from_config(backbone_config, attn_implementation="sdpa")
    use_tree_attention(backbone)
    return backbone


def residual_outputs(backbone: Any, dropout: float) -> list[nn.Module]:
    """The last layer of each residual branch.

    Qwen3 and Llama have no dropout there, which small data needs. A hook on these layers adds it
    without renaming a single weight.

    Raises:
        ValueError: if their names are unknown, so that there cannot be this dropout.
    """
    modules = backbone.named_modules()
    outputs = [module for name, module in modules if name.endswith(RESIDUAL_OUTPUTS)]
    kind = backbone.config.model_type
    valid = f"0 with a backbone of type {kind!r}, whose residual branches have unknown names"
    check(len(outputs) == 2 * backbone.config.num_hidden_layers, "dropout", dropout, valid)
    return outputs


def _check_sizes(config: NezhaConfig, backbone: Any) -> None:
    """Raise ValueError if the backbone has too few tokens, or positions for the longest prompt."""
    size, levels, max_items = config.vocabulary.size, len(config.radices), config.max_items
    enough = f"at least the {size} tokens that radices and token_offset need"
    check(backbone.vocab_size >= size, "the backbone's vocab_size", backbone.vocab_size, enough)
    positions = getattr(backbone, "max_position_embeddings", None)
    if positions is not None and 1 + levels * (max_items + 1) > positions:
        valid = (
            f"at most {(positions - 1) // levels - 1}: the backbone has {positions:,} positions, "
            f"and N items of {levels} codes need 1 + {levels} · (N + 1)"
        )
        check(False, "max_items", max_items, valid)


def pretrained_backbone(name_or_folder: str | Path) -> Any:
    """A pretrained one, in float32, of a Hugging Face name or a folder; no code of its own is run.

    Raises:
        ValueError: if nothing can be loaded, or it is not decoder-only.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_folder, trust_remote_code=False)
        if config.is_encoder_decoder:
            raise ValueError(f"{config.model_type} is an encoder–decoder")
        return AutoModelForCausalLM.from_pretrained(
            name_or_folder,
            attn_implementation="sdpa",
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"backbone {str(name_or_folder)!r} cannot be loaded: a decoder-only model's Hugging "
            f"Face name, or a folder with its config and weights in safetensors, is needed "
            f"({reason})"
        ) from error
