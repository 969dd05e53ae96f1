"""NEZHA: one pass of the backbone, then a beam search over the draft head alone."""

from __future__ import annotations

from nezha_lite.decoding.beam import BeamSearch, BeamSearchDecoder
from nezha_lite.prompts import Prompts


class NezhaDecoder(BeamSearchDecoder):
    """Drafts with the head, verifies without a model. The backbone runs once, for any beam.

    This is the readable reference. `CapturedDecoder(NezhaDecoder(...))` runs the same program
    compiled, and on CUDA as one graph.
    """

    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """See `BeamSearchDecoder.run`."""
        head = self.model.head
        hidden = self.model.draft_states(prompts)  # (B, L+1, D)
        self.mark("forward")
        state = hidden[:, :1]  # (B, 1, D): s_1 = h_0
        for level in range(head.levels):
            log_probs = head.log_probs(level, hidden[:, level + 1, None], state)  # (B, K, C)
            self.mark("head")
            step = search.step(log_probs)
            if level + 1 < head.levels:
                index = step.parents.unsqueeze(-1).expand(-1, -1, state.shape[-1])
                state = head.advance(level, step.codes, state.gather(1, index))  # (B, W, D)
        return 1
