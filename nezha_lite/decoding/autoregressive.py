"""The decoder that NEZHA replaces: beam search through the backbone, one pass per code."""

from __future__ import annotations

import torch
from torch import Tensor

from nezha_lite.decoding.base import DecodeResult, Verification
from nezha_lite.decoding.beam import BeamSearchDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.prompts import Prompts
from nezha_lite.verifiers import Verifier


class AutoregressiveDecoder(BeamSearchDecoder):
    """KV-cached beam search over the same weights, by the backbone's next-code probabilities.

    The prompt (without placeholders) is read once and its cache copied to the beams; each further
    code costs one pass over B · K tokens, so the backbone runs L times.

    Raises:
        ValueError: also if the model was trained with next_code_weight 0, which taught its backbone
            nothing about next codes.
    """

    def __init__(
        self,
        model: NezhaModel,
        verifier: Verifier | None = None,
        verification: Verification = "prefix",
    ) -> None:
        if model.config.next_code_weight == 0:
            raise ValueError(
                "next_code_weight is 0: this model's backbone was not trained to write codes, so "
                "only its draft head can decode."
            )
        super().__init__(model, verifier, verification)

    @torch.inference_mode()
    def decode(self, prompts: Prompts, beam: int, trace: bool = False) -> DecodeResult:
        """See `Decoder.decode`."""
        vocabulary = self.model.vocabulary
        search = self.search(len(prompts), beam, trace)
        history = prompts.without_placeholders()
        output = self.model.hidden_states(
            history.input_ids,
            attention_mask=history.attention_mask,
            position_ids=history.position_ids,
            use_cache=True,
        )
        log_probs = self._next_code(output.last_hidden_state[:, -1:], level=0)  # (B, 1, T_1)
        cache, width = output.past_key_values, 1
        for level in range(1, vocabulary.levels):
            step = search.step(log_probs)
            batch, beams = step.parents.shape
            # The cache has a row per beam, prompt by prompt; survivors take their parent's row.
            prompt = torch.arange(batch, device=step.parents.device).unsqueeze(1)  # (B, 1)
            cache.reorder_cache((prompt * width + step.parents).flatten())  # (B·K)
            width = beams
            output = self.model.hidden_states(
                (step.codes + vocabulary.level_offsets[level - 1]).view(-1, 1),  # (B·K, 1)
                attention_mask=_lengthened(history.attention_mask, level, width),
                position_ids=(history.position_ids[:, -1:] + level).repeat_interleave(width, dim=0),
                past_key_values=cache,
                use_cache=True,
            )
            hidden = output.last_hidden_state.view(batch, width, -1)  # (B, K, D)
            log_probs = self._next_code(hidden, level)  # (B, K, T_l)
        search.step(log_probs)
        return search.result(backbone_calls=vocabulary.levels)

    def _next_code(self, hidden: Tensor, level: int) -> Tensor:
        """log p of this level's codes under the whole vocabulary: (B, K, D) → (B, K, T_l)."""
        logits = self.model.backbone.get_output_embeddings()(hidden).float()
        first = self.model.vocabulary.level_offsets[level]
        last = first + self.model.vocabulary.radices[level]
        return torch.log_softmax(logits, dim=-1)[..., first:last]


def _lengthened(mask: Tensor, tokens: int, beams: int) -> Tensor:
    """(B, T) prompt mask → (B·K, T + tokens): a row per beam, new tokens visible."""
    return torch.nn.functional.pad(mask, (0, tokens), value=1).repeat_interleave(beams, dim=0)
