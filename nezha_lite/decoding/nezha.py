"""NEZHA: one pass of the backbone, then a beam search over the draft head alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.decoding.base import Verification
from nezha_lite.decoding.beam_search import BeamSearch, BeamSearchDecoder, gather_rows
from nezha_lite.model import Prompts
from nezha_lite.verifiers import Verifier

if TYPE_CHECKING:
    from nezha_lite.model import NezhaModel


class NezhaDecoder(BeamSearchDecoder):
    """Drafts with the head and verifies without a model (paper, section 3).

    The backbone runs once, whatever the beam width. This is the readable reference;
    `CapturedDecoder(NezhaDecoder(...))` runs the same program compiled, and on CUDA as one graph.

    >>> from nezha_lite.model import NezhaModel
    >>> from nezha_lite.semantic_ids import SemanticIds
    >>> from nezha_lite.verifiers import HashSetVerifier
    >>> ids = SemanticIds.from_codes([[0, 1], [1, 2], [1, 0]], radices=(2, 3))
    >>> model = NezhaModel.from_preset("tiny", ids)
    >>> decoder = NezhaDecoder(model, HashSetVerifier(ids))
    >>> result = decoder.decode(model.build_prompts([[0, 2]], ids), beam=4)
    >>> sorted(result.keys[0].tolist()), ids.keys.tolist()  # all that exists, and one padding
    ([-1, 1, 2, 5], [2, 5, 1])

    Args:
        temperature: τ > 0: every code's probability becomes p^(1/τ), normalised again. Within one
            level the order stays; between prefixes a small τ favours likely first codes, and a
            large τ lets the beam spread. The paper uses 1.

    The other arguments and errors are `BeamSearchDecoder`'s.
    """

    has_transition: ClassVar[bool] = True

    def __init__(
        self,
        model: NezhaModel,
        verifier: Verifier | None = None,
        verification: Verification = "prefix",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(model, verifier, verification)
        check(0 < temperature < math.inf, "temperature", temperature, "above 0 and finite")
        self.temperature = temperature

    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """See `BeamSearchDecoder.run`."""
        head = self.model.head
        hidden = self.model.draft_states(prompts)  # (B, L+1, D)
        self.on_phase("forward")
        state, tables = hidden[:, :1], head.lookup_tables()  # (B, 1, D): s_1 = h_0
        for level in range(head.levels):
            log_probs = next_log_probs(self.model, level, hidden, state, search)  # (B, K, C)
            if self.temperature != 1:
                log_probs = (log_probs / self.temperature).log_softmax(-1)
            self.on_phase("head")
            step = search.step(log_probs)
            if self.has_transition and level + 1 < head.levels:
                parents = gather_rows(state, step.parents) if level else state
                state = head.advance(level, step.codes, parents, tables)  # (B, W, D)
        return 1


class ParallelHeadsDecoder(NezhaDecoder):
    """Drafts every code independently of the codes before it. The backbone runs once.

        p_l = softmax(W_l (h_l + h_0))        the same for every beam

    This is NEZHA without the transition: the state stays s_1 = h_0. The difference between the two
    decoders' lists is what the transition contributes. For a model trained with transition "none"
    both return the same lists. Independent heads are Medusa's idea (arXiv 2401.10774).
    """

    has_transition: ClassVar[bool] = False


def next_log_probs(
    model: NezhaModel, level: int, hidden: Tensor, state: Tensor, search: BeamSearch
) -> Tensor:
    """The head's log p of the codes after a search's beams: (B, K, T_l) or (B, 1, T_l).

    Args:
        model: whose head it is.
        level: 0 … L−1, of the codes.
        hidden: (B, L+1, D), h_0 … h_L.
        state: (B, K, D) or (B, 1, D), s_l.
        search: before its step at this level. With candidate embeddings the softmax is over the
            continuations that its verifier knows.
    """
    hidden = hidden[:, level + 1, None]
    if model.head.candidates_of(level) is None:
        return model.head.log_probs(level, hidden, state)
    return model.head.log_probs(level, hidden, state, search.keys, search.existing())
