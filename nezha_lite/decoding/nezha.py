"""NEZHA: one pass of the backbone, then a beam search over the draft head alone."""

from __future__ import annotations

import torch

from nezha_lite.decoding.base import DecodeResult, Verification, check_beam
from nezha_lite.decoding.beam import BeamSearch, check_verification
from nezha_lite.model import NezhaModel
from nezha_lite.prompts import Prompts
from nezha_lite.verifiers import Verifier


class NezhaDecoder:
    """Drafts with the head, verifies without a model.

    Args:
        model: a trained `NezhaModel` in eval mode.
        verifier: the catalogue; may be None with verification "off".
        verification: "off" trusts the drafts, "final" rejects finished drafts that do not exist
            (the list gets shorter), "prefix" never follows a prefix that no item has.
    """

    def __init__(
        self,
        model: NezhaModel,
        verifier: Verifier | None = None,
        verification: Verification = "prefix",
    ) -> None:
        check_verification(verification, verifier, model.head.radices)
        self.model, self.verifier, self.verification = model, verifier, verification

    @torch.inference_mode()
    def decode(self, prompts: Prompts, beam: int, trace: bool = False) -> DecodeResult:
        """See `Decoder.decode`. The backbone runs once, whatever the beam width."""
        check_beam(beam)
        head = self.model.head
        hidden = self.model.draft_states(prompts)  # (B, L+1, D)
        search = BeamSearch(
            len(prompts), beam, head.radices, self.verifier, self.verification, trace, hidden.device
        )
        state = hidden[:, :1]  # (B, 1, D): s_1 = h_0
        for level in range(head.levels):
            step = search.step(head.log_probs(level, hidden[:, level + 1, None], state))
            if level + 1 < head.levels:
                index = step.parents.unsqueeze(-1).expand(-1, -1, state.shape[-1])
                state = head.advance(level, step.codes, state.gather(1, index))  # (B, K, D)
        return search.result(backbone_calls=1)
