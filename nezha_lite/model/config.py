"""The configuration of `NezhaModel`, and the shapes of its presets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from nezha_lite.common.checks import (
    BelowOne,
    Checked,
    Count,
    CountOrZero,
    Flag,
    Share,
    Weight,
    check,
)
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


class NezhaConfig(Checked, PreTrainedConfig):
    """All settings that decide the shapes of the weights and the loss.

    >>> NezhaConfig(radices=[3, 4, 2], max_items=5).vocabulary.size
    14
    >>> NezhaConfig(dropout=1.5)
    Traceback (most recent call last):
    ValueError: dropout is 1.5, but must be in [0, 1).

    Attributes:
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
        item_memory: whether each ID of the training has an embedding, which is added to the last
            code's token of an item in the history.
        memory_dropout: share of the history's items without that embedding while training.
        candidate_embeddings: at how many of the last levels, at most L−1, each continuation that
            exists has an embedding in the draft head (`PrefixEmbedding`); True is 1.
        list_weight: 1 − α: the weight of a teacher's lists in the draft loss, in batches that have
            them. The true next item has the rest.
        n_prefixes: of the training catalogue, the prefixes of each level; `from_preset` and
            `from_backbone` set them where they are needed.
        most_children: the most of them with the same parent.
        max_rows: above so many prefixes, several share an embedding.

    Raises:
        ValueError: for a setting outside its range.
    """

    model_type = "nezha_lite"

    backbone: dict[str, Any] | None = None
    radices: Sequence[int] = ()
    token_offset: CountOrZero = 0
    max_items: Count = 20
    transition: str = "rnn"
    dropout: BelowOne = 0.0
    placeholders: Flag = True
    draft_weight: Weight = 1.0
    next_code_weight: Weight = 1.0
    label_smoothing: BelowOne = 0.0
    item_memory: Flag = False
    memory_dropout: BelowOne = 0.0
    candidate_embeddings: CountOrZero = 0
    list_weight: Share = 0.6
    n_prefixes: Sequence[int] = ()
    most_children: Sequence[int] = ()
    max_rows: Count = 1 << 24
    tie_word_embeddings: bool = False  # the backbone ties its own

    def __post_init__(self, **kwargs: Any) -> None:
        for name in ("radices", "n_prefixes", "most_children"):
            setattr(self, name, list(getattr(self, name)))
        self.candidate_embeddings = int(self.candidate_embeddings)
        Checked.__post_init__(self)
        levels, most = self.candidate_embeddings, max(0, len(self.radices) - 1)
        check(levels <= most or not self.radices, "candidate_embeddings", levels, f"at most {most}")
        for level, radix in enumerate(self.radices):
            whole = type(radix) is int and 1 <= radix < 2**63
            check(whole, f"radices[{level}]", radix, "a whole number of at least 1")
        if self.draft_weight == self.next_code_weight == 0:
            raise ValueError("draft_weight and next_code_weight are both 0: nothing is trained.")
        PreTrainedConfig.__post_init__(self, **kwargs)

    @classmethod
    def for_backbone(cls, backbone: PreTrainedConfig, **settings: Any) -> NezhaConfig:
        """The configuration around this backbone; TypeError names a misspelt setting."""
        fields = set(cls.__annotations__) - {"backbone", "tie_word_embeddings"}
        for name in sorted(settings.keys() - fields):
            raise TypeError(f"Unknown setting {name!r}; NezhaConfig has {sorted(fields)}.")
        return cls(backbone=backbone.to_dict(), **settings)

    @property
    def remembers_ids(self) -> bool:
        """Whether a part of the model has embeddings of the training catalogue's IDs."""
        return self.item_memory or self.candidate_embeddings > 0

    @property
    def vocabulary(self) -> Vocabulary:
        """The token layout that follows from radices and offset."""
        return Vocabulary(tuple(self.radices), self.token_offset)


AutoConfig.register(NezhaConfig.model_type, NezhaConfig, exist_ok=True)
