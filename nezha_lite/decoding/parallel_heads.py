"""Medusa-style parallel heads: the draft head without its transition."""

from __future__ import annotations

from nezha_lite.decoding.beam import BeamSearch, BeamSearchDecoder
from nezha_lite.prompts import Prompts


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
