"""NEZHA: one pass of the backbone, then a beam search over the draft head alone."""

from __future__ import annotations

import torch

from nezha_lite.decoding.base import DecodeResult
from nezha_lite.decoding.beam import BeamSearchDecoder
from nezha_lite.prompts import Prompts


class NezhaDecoder(BeamSearchDecoder):
    """Drafts with the head, verifies without a model. The backbone runs once, for any beam."""

    @torch.inference_mode()
    def decode(self, prompts: Prompts, beam: int, trace: bool = False) -> DecodeResult:
        """See `Decoder.decode`."""
        head = self.model.head
        search = self.search(len(prompts), beam, trace)
        hidden = self.model.draft_states(prompts)  # (B, L+1, D)
        state = hidden[:, :1]  # (B, 1, D): s_1 = h_0
        for level in range(head.levels):
            step = search.step(head.log_probs(level, hidden[:, level + 1, None], state))
            if level + 1 < head.levels:
                index = step.parents.unsqueeze(-1).expand(-1, -1, state.shape[-1])
                state = head.advance(level, step.codes, state.gather(1, index))  # (B, K, D)
        return search.result(backbone_calls=1)
