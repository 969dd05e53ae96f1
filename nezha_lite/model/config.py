"""The configuration of `NezhaModel`, and the shapes of its presets."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from nezha_lite.common.checks import check, check_counts
from nezha_lite.model.prompts import Vocabulary

_SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("head_dim", "num_key_value_heads", "intermediate_size"),
)
# Shapes of Qwen3 backbones: `tiny` for notebooks, `small` for real data on a CPU or one GPU; the
# others are the published models', whose names count their own vocabulary's parameters too.
PRESETS: dict[str, dict[str, Any]] = {
    name: dict(zip(_SIZES, sizes, strict=True))
    for name, *sizes in (
        ("tiny", 64, 2, 4, 16, 4, 192),
        ("small", 128, 3, 4, 32, 4, 384),
        ("qwen3-0.6b", 1024, 28, 16, 128, 8, 3072),
        ("qwen3-1.7b", 2048, 28, 16, 128, 8, 6144),
        ("qwen3-4b", 2560, 36, 32, 128, 8, 9728),
        ("qwen3-8b", 4096, 36, 32, 128, 8, 12288),
    )
}


class NezhaConfig(PreTrainedConfig):
    """All settings that decide the shapes of the weights and the loss.

    >>> NezhaConfig(radices=[3, 4, 2], max_items=5).vocabulary.size
    14
    >>> NezhaConfig(dropout=1.5)
    Traceback (most recent call last):
    ValueError: dropout is 1.5, but must be in [0, 1).

    Args:
        backbone: the backbone's configuration as a dict with its `model_type`, or None for the
            empty configuration that transformers needs internally.
        radices: T_1 … T_L of the semantic IDs.
        token_offset: first token number after the backbone's own vocabulary.
        max_items: longest history, in items.
        transition: the draft head's cell: "rnn", "gru" or "none".
        dropout: on input embeddings, residual branches and the head, while training. Above 0 it
            replaces the backbone's own at these places (GPT-2 has one). Attention dropout is the
            backbone's own setting.
        placeholders: whether the draft head reads the placeholders' hidden states; without them it
            reads h_0 alone.
        draft_weight: weight of the draft head's loss in the joint loss; 0 trains the backbone
            alone, as a generative recommender without NEZHA.
        next_code_weight: weight of the autoregressive next-code loss; 0 is the paper's recipe.
        label_smoothing: of both losses.

    Raises:
        ValueError: for a setting outside its range.
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
        self._check_ranges()
        kwargs.setdefault("tie_word_embeddings", False)  # the backbone ties its own
        super().__init__(**kwargs)

    def _check_ranges(self) -> None:
        check_counts(self, "max_items")
        check_counts(self, "token_offset", low=0)
        limits = {"draft_weight": inf, "next_code_weight": inf, "dropout": 1, "label_smoothing": 1}
        for name, limit in limits.items():
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            check(number and 0 <= value < limit, name, value, f"in [0, {limit})")
        is_bool = isinstance(self.placeholders, bool)
        check(is_bool, "placeholders", self.placeholders, "True or False")
        for level, radix in enumerate(self.radices):
            whole = type(radix) is int and 1 <= radix < 2**63
            check(whole, f"radices[{level}]", radix, "a whole number of at least 1")
        if self.draft_weight == self.next_code_weight == 0:
            raise ValueError("draft_weight and next_code_weight are both 0: nothing is trained.")

    @classmethod
    def for_backbone(cls, backbone: PreTrainedConfig, **settings: Any) -> NezhaConfig:
        """The configuration around this backbone; TypeError names a misspelt setting."""
        fields = set(cls.__init__.__annotations__) - {"return", "kwargs", "backbone"}
        for name in sorted(settings.keys() - fields):
            raise TypeError(f"Unknown setting {name!r}; NezhaConfig has {sorted(fields)}.")
        return cls(backbone=backbone.to_dict(), **settings)

    @property
    def vocabulary(self) -> Vocabulary:
        """The token layout that follows from radices and offset."""
        return Vocabulary(tuple(self.radices), self.token_offset)


AutoConfig.register(NezhaConfig.model_type, NezhaConfig, exist_ok=True)
