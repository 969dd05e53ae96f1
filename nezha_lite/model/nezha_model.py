"""NezhaModel: any decoder-only language model of Hugging Face, with a draft head inside.

It is a `PreTrainedModel`: `save_pretrained`, `from_pretrained`, safetensors and the Trainer work as
for every model. The joint loss trains the draft head on the placeholders. With a `next_code_weight`
it also trains the backbone's own prediction of the next code for the same targets, so that the same
weights decode autoregressively. Weight 0 is the paper's recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen3Config

from nezha_lite.common.checks import check
from nezha_lite.model.backbone import make_backbone, pretrained_backbone, residual_outputs
from nezha_lite.model.code_losses import code_losses, draft_loss
from nezha_lite.model.config import PRESETS, NezhaConfig
from nezha_lite.model.draft_head import DraftHead
from nezha_lite.model.prefix_embedding import PrefixEmbedding, catalogue_shape
from nezha_lite.model.prompts import Prompts, Vocabulary, build_prompts
from nezha_lite.model.tree_attention import causal_mask
from nezha_lite.semantic_ids import SemanticIds


class NezhaModel(PreTrainedModel):
    """Backbone and draft head.

    >>> catalogue = SemanticIds.from_codes([[0, 1], [2, 3]], radices=(3, 4))
    >>> model = NezhaModel.from_preset("tiny", catalogue, max_items=5)
    >>> prompts = model.build_prompts([[0, 1], [1]], catalogue)
    >>> model.draft_states(prompts).shape  # (B, L+1, D)
    torch.Size([2, 3, 64])

    Raises:
        ValueError: if the configuration has no backbone, or one with too few tokens or positions,
            or `dropout` for a backbone whose residual branches have unknown names.
    """

    config_class = NezhaConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: NezhaConfig) -> None:
        super().__init__(config)
        self.backbone = make_backbone(config)
        width = self.backbone.config.hidden_size
        levels = len(config.radices)
        candidate_levels = range(levels - config.candidate_embeddings + 1, levels + 1)
        self.head = DraftHead(
            config.radices,
            width,
            config.transition,
            config.dropout,
            config.placeholders,
            [self._prefix_embedding(level) for level in candidate_levels],
        )
        self.memory = self._prefix_embedding(levels, bias=False) if config.item_memory else None
        self.embedding_dropout = nn.Dropout(config.dropout)
        if config.dropout:
            for module in residual_outputs(self.backbone, config.dropout):
                module.register_forward_hook(self._drop_residual)
        if self.backbone.config.tie_word_embeddings:
            # A checkpoint does not hold the tied copy, and the Trainer would warn that it is gone.
            self._keys_to_ignore_on_save = ["backbone.lm_head.weight"]
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The backbone's; transformers and Accelerate (FSDP) look here for tied weights."""
        return self.backbone.get_output_embeddings()

    def _prefix_embedding(self, level: int, bias: bool = True) -> PrefixEmbedding:
        """The embeddings of the prefixes of level 1 … L."""
        config, width = self.config, self.backbone.config.hidden_size
        per_level = (config.radices, config.n_prefixes, config.most_children)
        complete = all(len(sizes) == len(config.radices) for sizes in per_level)
        check(complete, "n_prefixes", config.n_prefixes, "one number for each level")
        radix, n_prefixes, most_children = (field[level - 1] for field in per_level)
        return PrefixEmbedding(
            level, radix, n_prefixes, most_children, width, config.max_rows, bias
        )

    def _drop_residual(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, self.config.dropout, training=self.training)

    # ---- ways to get one --------------------------------------------------------------------

    @classmethod
    def from_preset(
        cls,
        preset: str,
        semantic_ids: SemanticIds,
        attention_dropout: float = 0.0,
        tied: bool = True,
        seed: int = 0,
        **settings: Any,
    ) -> NezhaModel:
        """A Qwen3-shaped model for this catalogue with random weights, in training mode.

        Args:
            preset: one of `PRESETS`.
            semantic_ids: the catalogue, for its radices.
            attention_dropout: the backbone's own dropout on attention weights.
            tied: whether the backbone's output layer shares the input embeddings' weights. The
                draft head has classifiers of its own either way.
            seed: of the initial weights; the global random state is left as it was.
            settings: further fields of `NezhaConfig`.

        Raises:
            ValueError: for an unknown preset or a setting outside its range.
            TypeError: for an unknown setting.
        """
        check(preset in PRESETS, "preset", preset, f"one of {sorted(PRESETS)}")
        vocabulary = Vocabulary(semantic_ids.radices)
        backbone = Qwen3Config(
            **PRESETS[preset],
            vocab_size=vocabulary.size,
            pad_token_id=vocabulary.pad,
            bos_token_id=vocabulary.bos,
            eos_token_id=None,
            max_position_embeddings=8192,
            tie_word_embeddings=tied,
            attention_dropout=attention_dropout,
        )
        config = _config_for(backbone, semantic_ids, **settings)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # CUDA's stay as they are
            model = cls(config)
        model.set_catalogue(semantic_ids)
        return model

    @classmethod
    def from_backbone(
        cls, name_or_folder: str | Path, semantic_ids: SemanticIds, seed: int = 0, **settings: Any
    ) -> NezhaModel:
        """A pretrained decoder-only model (Qwen3, Llama, GPT-2 …) with a new draft head.

        Its embeddings are enlarged: the semantic IDs' tokens follow its own vocabulary. The model
        is in training mode. Arguments as `from_preset`.

        Raises:
            ValueError: if nothing can be loaded from `name_or_folder`, or the model is not
                decoder-only. Code of its own is not run, and weights must be safetensors, not
                pickles.
            TypeError: for an unknown setting.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # CUDA's stay as they are
            backbone = pretrained_backbone(name_or_folder)
            offset = int(backbone.config.vocab_size)
            vocabulary = Vocabulary(semantic_ids.radices, offset)
            backbone.resize_token_embeddings(vocabulary.size, mean_resizing=False)
            config = _config_for(backbone.config, semantic_ids, token_offset=offset, **settings)
            model = cls(config)
        model.set_catalogue(semantic_ids)
        model.backbone.load_state_dict(backbone.state_dict())
        model.check_causal()
        return model

    @torch.no_grad()
    def check_causal(self) -> None:
        """Raise ValueError if a token's state depends on later tokens, as in BERT."""
        pad, bos = self.vocabulary.pad, self.vocabulary.bos
        tokens = torch.tensor([[bos, bos, bos, bos], [bos, bos, pad, pad]], device=self.device)
        with self.evaluating():
            positions = torch.arange(4, device=self.device).expand(2, 4)
            output = self.hidden_states(tokens, position_ids=positions, use_cache=False)
        one, other = output.last_hidden_state[:, :2].double()  # states before the difference
        tolerance = 32 * torch.finfo(self.dtype).eps * float(one.abs().max())
        if (one - other).abs().max() > tolerance:
            raise ValueError(
                f"The backbone, of type {self.backbone.config.model_type!r}, is bidirectional: its "
                "states depend on later tokens, but only a decoder-only model can decode."
            )

    @property
    def prefix_embeddings(self) -> list[PrefixEmbedding]:
        """Every part of the model that knows the training catalogue's IDs."""
        return [module for module in self.modules() if isinstance(module, PrefixEmbedding)]

    def set_catalogue(self, semantic_ids: SemanticIds) -> None:
        """Take these as the IDs that exist in training, for memory and candidate embeddings."""
        for embedding in self.prefix_embeddings:
            embedding.set_catalogue(semantic_ids)

    # ---- reading ----------------------------------------------------------------------------

    @property
    def reads_placeholders(self) -> bool:
        """Whether training rows need placeholders: a head that reads them is trained."""
        return bool(self.config.placeholders and self.config.draft_weight)

    @property
    def vocabulary(self) -> Vocabulary:
        """The token layout."""
        return self.config.vocabulary

    def describe(self) -> dict[str, Any]:
        """The model's sizes and settings, for a result row or a log."""
        backbone = self.backbone.config
        sizes = backbone.to_dict().items()
        settings: tuple[str, ...] = ("max_items", "transition", "dropout", "placeholders")
        weights = ("draft_weight", "next_code_weight")
        if self.config.remembers_ids:
            settings = (*settings, "item_memory", "candidate_embeddings")
        return {
            "preset": next((name for name in PRESETS if PRESETS[name].items() <= sizes), None),
            "backbone": backbone.model_type,
            "hidden_size": backbone.hidden_size,
            "layers": backbone.num_hidden_layers,
            "tied": bool(backbone.tie_word_embeddings),
            "parameters": sum(parameter.numel() for parameter in self.parameters()),
            "radices": list(self.config.radices),
        } | {name: getattr(self.config, name) for name in (*settings, *weights)}

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
        embedded = self.embed(input_ids, with_memory="ancestors" not in inputs)  # (B, T, D)
        if attention_mask is None:
            attention_mask = causal_mask(input_ids)
        return self.backbone.base_model(
            inputs_embeds=self.embedding_dropout(embedded), attention_mask=attention_mask, **inputs
        )

    def embed(self, input_ids: Tensor, with_memory: bool = True) -> Tensor:
        """Input embeddings, (B, T) int64 → (B, T, D): of tokens, and of the items they complete.

        Args:
            input_ids: rows in which an item's codes follow each other.
            with_memory: False for codes of answers, which are not items of the history.
        """
        embedded: Tensor = self.backbone.get_input_embeddings()(input_ids)
        if self.memory is None or not with_memory:
            return embedded
        rows = self.memory.rows(self._item_numbers(input_ids))  # (B, T), 0 where no item ends
        if self.training and self.config.memory_dropout:
            kept = torch.rand(rows.shape, device=rows.device) >= self.config.memory_dropout
            rows = rows * kept
        remembered: Tensor = self.memory.vectors(rows)
        return embedded + remembered

    def _item_numbers(self, input_ids: Tensor) -> Tensor:
        """The items whose last code is at each position, as `PrefixEmbedding` numbers; else -1."""
        vocabulary, levels = self.vocabulary, self.head.levels
        ranges = zip(vocabulary.level_offsets, vocabulary.radices, strict=True)
        parent, stride = torch.zeros_like(input_ids), 1
        complete = torch.ones_like(input_ids, dtype=torch.bool)
        for level, (offset, radix) in enumerate(ranges):
            code = input_ids.roll(levels - 1 - level, dims=1) - offset
            complete &= (code >= 0) & (code < radix)
            if level + 1 < levels:
                parent, stride = parent + code * stride, stride * radix
        return (parent * radix + code).masked_fill(~complete, -1)

    def read_prompts(self, prompts: Prompts, use_cache: bool) -> Any:
        """One pass of the backbone over prompts: transformers' model output."""
        return self.hidden_states(
            prompts.input_ids,
            attention_mask=prompts.visible(),
            position_ids=prompts.position_ids,
            use_cache=use_cache,
        )

    def draft_states(self, prompts: Prompts) -> Tensor:
        """The one forward pass of NEZHA: h_0 … h_L, (B, L+1, D).

        Raises:
            ValueError: if draft_weight is 0, because the head was not trained then.
        """
        if self.config.draft_weight == 0:
            raise ValueError(
                "draft_weight is 0: this model's draft head was not trained, so only its backbone "
                "can decode."
            )
        output = self.read_prompts(prompts, use_cache=False)
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
        list_codes: Tensor | None = None,
        list_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Joint loss of a `packing.TrainingBatch` (shapes there).

        With a teacher's lists the draft loss is (1 − w) · CE(true item) + w · Σ_j p_j · CE(item j),
        w the config's `list_weight` and p_j the lists' weights.

        Returns:
            loss = draft_weight · draft_loss + next_code_weight · next_code_loss, all scalars, and
            the two parts without gradient. Each part is the mean cross-entropy over targets and
            levels, of the draft head over a level's T_l codes, of the next code over the whole
            vocabulary. A part of weight 0 is neither computed nor returned.
        """
        output = self.hidden_states(
            input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
        )
        hidden = output.last_hidden_state.flatten(0, 1)  # (B·T, D)
        smoothing = self.config.label_smoothing if self.training else 0.0
        losses: dict[str, Tensor] = {}
        if self.config.draft_weight:
            states = hidden[draft_slots]  # (M, L+1, D)
            losses["draft"] = draft_loss(self.head, states, codes, smoothing)
            if list_codes is not None and list_weights is not None and self.config.list_weight:
                of_items = code_losses(self.head, states, list_codes).mean(dim=-1)  # (M, J)
                of_lists = (of_items * list_weights).sum(dim=1).mean()
                losses["draft"] = torch.lerp(losses["draft"], of_lists, self.config.list_weight)
        if self.config.next_code_weight:
            states = self.head.dropout(hidden[next_code_slots])  # (M, L, D)
            logits = self.backbone.get_output_embeddings()(states)  # (M, L, V)
            tokens = self.vocabulary.tokens_of(codes)  # (M, L)
            losses["next_code"] = F.cross_entropy(
                logits.flatten(0, 1), tokens.flatten(), label_smoothing=smoothing
            )
        weighted = [getattr(self.config, f"{part}_weight") * losses[part] for part in losses]
        parts = {f"{part}_loss": loss.detach() for part, loss in losses.items()}
        return {"loss": torch.stack(weighted).sum()} | parts


def _config_for(backbone: Any, semantic_ids: SemanticIds, **settings: Any) -> NezhaConfig:
    """The configuration for this catalogue, whose sizes it holds if a part of the model needs them.

    Raises:
        TypeError: for a misspelt setting.
    """
    config = NezhaConfig.for_backbone(backbone, radices=semantic_ids.radices, **settings)
    if config.remembers_ids:
        vars(config).update(catalogue_shape(semantic_ids))
    return config
