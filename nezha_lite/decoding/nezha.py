"""NEZHA: one pass of the backbone, then a beam search over the draft head alone."""

from __future__ import annotations

import math

from nezha_lite.decoding.base import Verification
from nezha_lite.decoding.beam_search import BeamSearch, BeamSearchDecoder
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.verifiers import Verifier


class NezhaDecoder(BeamSearchDecoder):
    """Drafts with the head, verifies without a model. The backbone runs once, for any beam.

    This is the readable reference. `CapturedDecoder(NezhaDecoder(...))` runs the same program
    compiled, and on CUDA as one graph.

    Args:
        temperature: τ > 0; every code's probability becomes p^(1/τ), normalized again. Within one
            level nothing changes order; between prefixes a small τ favours a likely first code,
            a large one lets the beam spread. 1 is the method's.

    The other arguments, and what they raise, are `BeamSearchDecoder`'s.
    """

    def __init__(
        self,
        model: NezhaModel,
        verifier: Verifier | None = None,
        verification: Verification = "prefix",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(model, verifier, verification)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {temperature}, but must be above 0 and finite.")
        self.temperature = temperature

    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """See `BeamSearchDecoder.run`."""
        head = self.model.head
        hidden = self.model.draft_states(prompts)  # (B, L+1, D)
        self.mark("forward")
        state = hidden[:, :1]  # (B, 1, D): s_1 = h_0
        for level in range(head.levels):
            log_probs = head.log_probs(level, hidden[:, level + 1, None], state)  # (B, K, C)
            if self.temperature != 1:
                log_probs = (log_probs / self.temperature).log_softmax(-1)
            self.mark("head")
            step = search.step(log_probs)
            if level + 1 < head.levels:
                index = step.parents.unsqueeze(-1).expand(-1, -1, state.shape[-1])
                state = head.advance(level, step.codes, state.gather(1, index))  # (B, W, D)
        return 1


class ParallelHeadsDecoder(BeamSearchDecoder):
    """Drafts every code on its own, as if none had been chosen before it. The backbone runs once.

        p_l = softmax(W_l (h_l + h_0))        for every beam the same

    What is left of NEZHA when s_l never moves: the head no longer knows which beam it continues,
    and what the transition is worth is the difference between the two decoders' lists. A model
    trained with transition "none" is decoded exactly as by `NezhaDecoder`. The idea of independent
    heads is Medusa's (arXiv 2401.10774).
    """

    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """See `BeamSearchDecoder.run`."""
        head = self.model.head
        hidden = self.model.draft_states(prompts)  # (B, L+1, D)
        self.mark("forward")
        state = hidden[:, :1]  # (B, 1, D): h_0, at every level
        for level in range(head.levels):
            log_probs = head.log_probs(level, hidden[:, level + 1, None], state)  # (B, 1, C)
            self.mark("head")
            search.step(log_probs)
        return 1
