"""Small catalogues and random models for the tests."""

import random
from collections.abc import Sequence

import torch
from transformers import (
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from nezha_lite.model import NezhaModel
from nezha_lite.model.config import NezhaConfig
from nezha_lite.model.prefix_embedding import catalogue_shape
from nezha_lite.semantic_ids import SemanticIds

RADICES = (3, 4, 2)
BACKBONES = ("qwen3", "llama", "gpt2")


def catalogue(n: int = 9, radices: Sequence[int] = RADICES, seed: int = 0) -> SemanticIds:
    """A catalogue of n random IDs, collisions included."""
    generator = random.Random(seed)
    codes = [[generator.randrange(radix) for radix in radices] for _ in range(n)]
    return SemanticIds.from_codes(codes, radices)


def backbone_config(kind: str, vocab_size: int, layers: int = 2) -> PreTrainedConfig:
    """Width 16, two heads; Qwen3 and GPT-2 tie their embeddings, Llama and Mistral do not.

    Mistral, which is none of `BACKBONES`, has windows of six tokens.
    """
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
    if kind == "gpt2":
        return GPT2Config(
            vocab_size=vocab_size, n_embd=16, n_layer=layers, n_head=2, n_positions=256, **special
        )
    config = {"qwen3": Qwen3Config, "llama": LlamaConfig, "mistral": MistralConfig}[kind]
    if kind == "mistral":
        special["sliding_window"] = 6
    return config(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=256,
        tie_word_embeddings=kind == "qwen3",
        **special,
    )


def tiny_model(
    semantic_ids: SemanticIds,
    kind: str = "qwen3",
    *,
    seed: int = 0,
    layers: int = 2,
    **settings: object,
) -> NezhaModel:
    """A random model in eval mode, its weights large enough that every code matters."""
    # Ten tokens before its own: the token offset of a pretrained backbone.
    size = 10 + 2 + semantic_ids.levels + sum(semantic_ids.radices)
    config = NezhaConfig.for_backbone(
        backbone_config(kind, size, layers),
        radices=semantic_ids.radices,
        token_offset=10,
        **settings,
    )
    if config.remembers_ids:
        vars(config).update(catalogue_shape(semantic_ids))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NezhaModel(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.4)
                else:
                    parameter.add_(0.2 * torch.randn_like(parameter))
            for module in model.prefix_embeddings:
                for table in (module.vectors, module.biases):
                    if table is not None:
                        table.weight[0] = 0
    model.set_catalogue(semantic_ids)
    return model.eval()
