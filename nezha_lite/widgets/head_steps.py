"""What the draft head says after any beginning of an ID, and what it says on average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nezha_lite.draft_head import at_least_float32
from nezha_lite.model import NezhaModel
from nezha_lite.prompts import Prompts

BEGINNINGS = 1000  # which an average is over: the width of the beam that looks for them


class HeadSteps:
    """One prompt's h_0 … h_L, and the head that goes on from them.

    Attributes:
        averages: L tensors (T_l,), the probabilities of level l's codes when nothing is known of
            the codes before: a mean over likely beginnings, weighted by their probability. Where
            there are no more than `BEGINNINGS`, they are all of them.
        covered: for each level the probability of all those beginnings together.

    Raises:
        ValueError: if the head was not trained.
    """

    @torch.inference_mode()
    def __init__(self, model: NezhaModel, prompts: Prompts) -> None:
        self.head = model.head
        self.hidden = model.draft_states(prompts)[0]  # (L+1, D)
        self.averages: list[Tensor] = []
        self.covered: list[float] = []
        state = self.hidden[:1]  # (W, D), of W beginnings
        precision = at_least_float32(state.dtype)
        log_probs = torch.zeros(1, dtype=precision, device=state.device)  # (W,)
        for level, radix in enumerate(self.head.radices):
            following = self.head.log_probs(level, self.hidden[level + 1], state)  # (W, T)
            self.averages.append(log_probs.softmax(0) @ following.exp())
            self.covered.append(float(log_probs.exp().sum()))
            together = (log_probs.unsqueeze(1) + following).flatten()
            log_probs, places = together.topk(min(BEGINNINGS, len(together)))
            if level + 1 < self.head.levels:
                state = self.head.advance(level, places % radix, state[places // radix])

    @torch.inference_mode()
    def after(self, codes: Sequence[int]) -> tuple[float, Tensor]:
        """A beginning's log-probability, and log p (T_l,) of the code after it.

        Args:
            codes: the beginning's 0 to L − 1 codes, level 1 first.
        """
        state, log_prob = self.hidden[:1], 0.0
        for level, code in enumerate(codes):
            log_prob += float(self.head.log_probs(level, self.hidden[level + 1], state)[0, code])
            state = self.head.advance(level, torch.tensor([code], device=state.device), state)
        return log_prob, self.head.log_probs(len(codes), self.hidden[len(codes) + 1], state)[0]
