"""NezhaModel's configuration and its presets."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from nezha_lite.model.prompts import Vocabulary

# Shapes of Qwen3 backbones: `tiny` for notebooks, `small` for real data on a CPU or one GPU; the
# others are the published models', whose names count their own vocabulary's parameters too.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16}
    | {"num_key_value_heads": 4, "intermediate_size": 192},
    "small": {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 32}
    | {"num_key_value_heads": 4, "intermediate_size": 384},
    "qwen3-0.6b": {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16}
    | {"head_dim": 128, "num_key_value_heads": 8, "intermediate_size": 3072},
    "qwen3-1.7b": {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16}
    | {"head_dim": 128, "num_key_value_heads": 8, "intermediate_size": 6144},
    "qwen3-4b": {"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32}
    | {"head_dim": 128, "num_key_value_heads": 8, "intermediate_size": 9728},
    "qwen3-8b": {"hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32}
    | {"head_dim": 128, "num_key_value_heads": 8, "intermediate_size": 12288},
}


class NezhaConfig(PreTrainedConfig):
    """Everything that decides the weights' shapes and the loss.

    Args:
        backbone: the backbone's configuration as a dict with its `model_type`, or None for the
            empty configuration that transformers needs internally.
        radices: T_1 … T_L of the semantic IDs.
        token_offset: first token number after the backbone's own vocabulary.
        max_items: longest history, in items.
        transition: the draft head's cell: "rnn", "gru" or "none".
        dropout: on input embeddings, residual branches and the head, while training. (Attention
            dropout is the backbone's own setting.)
        placeholders: whether the draft head reads the placeholders' hidden states; without them it
            knows h_0 alone.
        draft_weight: weight of the draft head's loss in the joint loss; 0 trains the backbone
            alone, as a generative recommender without NEZHA.
        next_code_weight: weight of the autoregressive next-code loss; 0 is the paper's recipe.
        label_smoothing: of both losses.
    """

    model_type = "nezha_lite"

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        radices: Sequence[int] = (),
        token_offset: int = 0,
        max_items: int = 20,
        transition: str = "rnn",
        dropout: float = 0.0,
        placeholders: bool = True,
        draft_weight: float = 1.0,
        next_code_weight: float = 1.0,
        label_smoothing: float = 0.0,
        **kwargs: Any,  # transformers' own fields
    ) -> None:
        whole, number = (int,), (int, float)
        for name, value, types, low, high, valid in (
            ("token_offset", token_offset, whole, 0, inf, "a whole number of 0 or more"),
            ("max_items", max_items, whole, 1, inf, "a whole number of at least 1"),
            ("draft_weight", draft_weight, number, 0, inf, "0 or more"),
            ("next_code_weight", next_code_weight, number, 0, inf, "0 or more"),
            ("dropout", dropout, number, 0, 1, "in [0, 1)"),
            ("label_smoothing", label_smoothing, number, 0, 1, "in [0, 1)"),
            ("placeholders", placeholders, (bool,), 0, 2, "True or False"),
        ):
            if type(value) not in types or not low <= value < high:
                raise ValueError(f"{name} is {value!r:.40}, but must be {valid}.")
        for radix in radices:
            if type(radix) is not int or not 1 <= radix < 2**63:
                raise ValueError(f"radices holds {radix!r:.40}, but each must be at least 1.")
        if draft_weight == next_code_weight == 0:
            raise ValueError("draft_weight and next_code_weight are both 0: nothing is trained.")
        self.backbone = backbone
        self.radices = list(radices)
        self.token_offset = token_offset
        self.max_items = max_items
        self.transition = transition
        self.dropout = dropout
        self.placeholders = placeholders
        self.draft_weight = draft_weight
        self.next_code_weight = next_code_weight
        self.label_smoothing = label_smoothing
        kwargs.setdefault("tie_word_embeddings", False)  # the backbone ties its own
        super().__init__(**kwargs)

    @classmethod
    def for_backbone(cls, backbone: PreTrainedConfig, **settings: Any) -> NezhaConfig:
        """The configuration around this backbone; TypeError names a misspelt setting."""
        known = set(cls.__init__.__annotations__) - {"return", "kwargs", "backbone"}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise TypeError(f"Unknown setting {unknown[0]!r}; NezhaConfig has {sorted(known)}.")
        return cls(backbone=backbone.to_dict(), **settings)

    @property
    def vocabulary(self) -> Vocabulary:
        """The token layout that follows from radices and offset."""
        return Vocabulary(tuple(self.radices), self.token_offset)


AutoConfig.register(NezhaConfig.model_type, NezhaConfig, exist_ok=True)
