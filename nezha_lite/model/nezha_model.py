"""NezhaModel: any Hugging Face causal language model with a draft head inside.

It is a `PreTrainedModel`, so `save_pretrained`, `from_pretrained`, safetensors and the Trainer work
as everywhere else. The joint loss trains the draft head on the placeholders and, with a weight,
the backbone's own next-token prediction on the same targets, so that the same weights also decode
autoregressively. Weight 0 is the paper's recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, Qwen3Config

from nezha_lite.model.config import PRESETS, NezhaConfig
from nezha_lite.model.draft_head import DraftHead
from nezha_lite.model.prompts import Prompts, Vocabulary, build_prompts
from nezha_lite.model.tree_attention import causal_mask, use_tree_attention
from nezha_lite.semantic_ids import SemanticIds


class NezhaModel(PreTrainedModel):
    """Backbone and draft head."""

    config_class = NezhaConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config)
        if config.backbone is None:
            raise ValueError(
                "config.backbone is empty: use NezhaModel.from_preset or from_backbone."
            )
        fields = dict(config.backbone)
        backbone_config = AutoConfig.for_model(fields.pop("model_type"), **fields)
        if backbone_config.vocab_size < config.vocabulary.size:
            raise ValueError(
                f"The backbone has {backbone_config.vocab_size} tokens, but radices and "
                f"token_offset need {config.vocabulary.size}."
            )
        # Packed prefixes bring their own (B, 1, T, T) boolean mask, which sdpa takes as it is.
        self.backbone = AutoModelForCausalLM.from_config(
            backbone_config, attn_implementation="sdpa"
        )
        use_tree_attention(self.backbone)
        self.head = DraftHead(
            config.radices,
            backbone_config.hidden_size,
            config.transition,
            config.dropout,
            config.placeholders,
        )
        self.embedding_dropout = nn.Dropout(config.dropout)
        self._register_residual_dropout()
        if backbone_config.tie_word_embeddings:
            # A checkpoint does not hold the tied copy, and the Trainer would warn that it is gone.
            self._keys_to_ignore_on_save = ["backbone.lm_head.weight"]
        self.post_init()

    # ---- ways to get one --------------------------------------------------------------------

    @classmethod
    def from_preset(
        cls,
        preset: str,
        semantic_ids: SemanticIds,
        attention_dropout: float = 0.0,
        seed: int = 0,
        **settings: Any,
    ) -> NezhaModel:
        """A fresh Qwen3-shaped model for this catalogue.

        Args:
            preset: one of `PRESETS`.
            semantic_ids: the catalogue, for its radices.
            attention_dropout: the backbone's own dropout on attention weights.
            seed: of the initial weights; the global random state is left as it was.
            settings: further fields of `NezhaConfig` (an unknown one is an error).
        """
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}, but must be one of {sorted(PRESETS)}.")
        vocabulary = Vocabulary(semantic_ids.radices)
        backbone = Qwen3Config(
            **PRESETS[preset],
            vocab_size=vocabulary.size,
            pad_token_id=vocabulary.pad,
            bos_token_id=vocabulary.bos,
            eos_token_id=None,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
            attention_dropout=attention_dropout,
        )
        config = NezhaConfig.for_backbone(backbone, radices=semantic_ids.radices, **settings)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # CUDA's stay as they are
            return cls(config)

    @classmethod
    def from_backbone(
        cls,
        name_or_folder: str | Path,
        semantic_ids: SemanticIds,
        seed: int = 0,
        **settings: Any,
    ) -> NezhaModel:
        """A pretrained causal language model (Qwen3, Llama, GPT-2 …), given a fresh draft head.

        Its embeddings are enlarged: the semantic IDs' tokens follow its own vocabulary.

        Raises:
            ValueError: if nothing can be loaded from `name_or_folder`. Code of its own is not run,
                and weights must be safetensors, not pickles.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # CUDA's stay as they are
            backbone = _pretrained(name_or_folder)
            offset = int(backbone.config.vocab_size)
            vocabulary = Vocabulary(semantic_ids.radices, offset)
            backbone.resize_token_embeddings(vocabulary.size, mean_resizing=False)
            config = NezhaConfig.for_backbone(
                backbone.config, radices=semantic_ids.radices, token_offset=offset, **settings
            )
            model = cls(config)
        model.backbone.load_state_dict(backbone.state_dict())
        return model

    # ---- reading ----------------------------------------------------------------------------

    @property
    def reads_placeholders(self) -> bool:
        """Whether training rows need placeholder blocks: a head is trained that reads them."""
        return bool(self.config.placeholders and self.config.draft_weight)

    @property
    def vocabulary(self) -> Vocabulary:
        """The token layout."""
        return self.config.vocabulary

    def describe(self) -> dict[str, Any]:
        """The model's sizes in words and numbers, for a result row or a log."""
        backbone = self.backbone.config
        preset = next(
            (
                name
                for name, shape in PRESETS.items()
                if all(getattr(backbone, field, None) == size for field, size in shape.items())
            ),
            None,
        )
        return {
            "preset": preset,
            "backbone": backbone.model_type,
            "hidden_size": backbone.hidden_size,
            "layers": backbone.num_hidden_layers,
            "parameters": sum(parameter.numel() for parameter in self.parameters()),
            "radices": list(self.config.radices),
            "max_items": self.config.max_items,
            "transition": self.config.transition,
            "dropout": self.config.dropout,
            "placeholders": self.config.placeholders,
            "draft_weight": self.config.draft_weight,
            "next_code_weight": self.config.next_code_weight,
        }

    def build_prompts(
        self, histories: Sequence[Sequence[int]], semantic_ids: SemanticIds
    ) -> Prompts:
        """Histories of item indices → prompts on the model's device, cut to its `max_items`."""
        prompts = build_prompts(histories, semantic_ids, self.vocabulary, self.config.max_items)
        return prompts.to(self.device)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch all dropout off for a block of code, then restore every module's mode.

        A new model is in training mode, as every PyTorch module; decoding it so would draw other
        lists in every call. The mode is restored after an error too.

        >>> model = NezhaModel.from_preset("tiny", SemanticIds.from_codes([[0, 1]], (2, 2)))
        >>> with model.evaluating():
        ...     model.training
        False
        >>> model.training
        True
        """
        training = [module for module in self.modules() if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True

    def hidden_states(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **inputs: Any
    ) -> Any:
        """Run the backbone without its output layer; returns transformers' model output.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, 1, T, T) bool, True where a query may look; None is causal.
            inputs: further arguments of the backbone: position_ids, past_key_values, use_cache.
        """
        embedded = self.backbone.get_input_embeddings()(input_ids)  # (B, T, D)
        if attention_mask is None:
            attention_mask = causal_mask(input_ids)
        return self.backbone.base_model(
            inputs_embeds=self.embedding_dropout(embedded), attention_mask=attention_mask, **inputs
        )

    def level_logits(self, hidden: Tensor, level: int) -> Tensor:
        """The backbone's logits of the codes of level 0 … L−1: (..., D) → (..., T_l).

        Only the level's rows of the output embeddings are multiplied, not a whole vocabulary.
        """
        output = self.backbone.get_output_embeddings()
        first = self.vocabulary.level_offsets[level]
        rows = slice(first, first + self.config.radices[level])
        bias = None if output.bias is None else output.bias[rows]
        return F.linear(hidden, output.weight[rows], bias)

    def draft_states(self, prompts: Prompts) -> Tensor:
        """The one forward pass of NEZHA: h_0 … h_L, (B, L+1, D).

        Raises:
            ValueError: if draft_weight is 0, so that there is no trained head to read them.
        """
        if self.config.draft_weight == 0:
            raise ValueError(
                "draft_weight is 0: this model's draft head was not trained, so only its backbone "
                "can decode."
            )
        output = self.hidden_states(
            prompts.input_ids,
            attention_mask=prompts.visible(),
            position_ids=prompts.position_ids,
            use_cache=False,
        )
        return output.last_hidden_state[:, -(self.head.levels + 1) :]

    # ---- training ---------------------------------------------------------------------------

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        draft_slots: Tensor,
        next_code_slots: Tensor,
        codes: Tensor,
    ) -> dict[str, Tensor]:
        """Joint loss of a `packing.TrainingBatch` (shapes there).

        Returns:
            loss = draft_weight · draft_loss + next_code_weight · next_code_loss, each a scalar, the
            mean over targets and levels of the cross-entropy; over a level's T_l codes for the
            draft head, over the whole vocabulary for the next code. A part of weight 0 is not
            computed and is missing here.
        """
        output = self.hidden_states(
            input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
        )
        hidden = output.last_hidden_state.flatten(0, 1)  # (B·T, D)
        smoothing = self.config.label_smoothing if self.training else 0.0
        parts: dict[str, Tensor] = {}
        if self.config.draft_weight:
            level_losses = [
                F.cross_entropy(logits, codes[:, level], label_smoothing=smoothing)
                for level, logits in enumerate(self.head(hidden[draft_slots], codes))
            ]
            parts["draft_loss"] = torch.stack(level_losses).mean()
        if self.config.next_code_weight:
            logits = self.backbone.get_output_embeddings()(
                self.head.dropout(hidden[next_code_slots])
            )  # (M, L, V)
            parts["next_code_loss"] = F.cross_entropy(
                logits.flatten(0, 1),
                self.vocabulary.tokens_of(codes).flatten(),
                label_smoothing=smoothing,
            )
        weights = {
            "draft_loss": self.config.draft_weight,
            "next_code_loss": self.config.next_code_weight,
        }
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def _register_residual_dropout(self) -> None:
        # Qwen3 and Llama have no dropout on their residual branches, which small data needs. A hook
        # on the branches' last layers adds it without renaming a single weight.
        if self.config.dropout == 0:
            return
        for name, module in self.backbone.named_modules():
            if name.endswith((".o_proj", ".down_proj")):
                module.register_forward_hook(self._drop_residual)

    def _drop_residual(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, self.config.dropout, training=self.training)


def _pretrained(name_or_folder: str | Path) -> Any:
    try:
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
            f"backbone {str(name_or_folder)!r} cannot be loaded: a Hugging Face name, or a folder "
            f"with config and weights in safetensors, is needed ({reason})"
        ) from error
