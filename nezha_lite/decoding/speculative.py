"""Speculative decoding: the head drafts a tree, the backbone verifies it in one pass."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from nezha_lite.decoding.autoregressive import AutoregressiveDecoder
from nezha_lite.decoding.base import DecodeResult, Verification
from nezha_lite.decoding.beam_search import BeamSearch
from nezha_lite.decoding.prompt_tree import PromptTree, descend, take
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.verifiers import RequestFilter, Verifier


@dataclass(frozen=True, eq=False)
class _Nodes:
    """Some prefixes of one length, as the backbone read them.

    Attributes:
        keys: (B, W) int64; -1 where there is none.
        lineage: (B, W, l) int64, see `PromptTree`.
        log_probs: (B, W, C) float32 or wider, of the next code after each.
    """

    keys: Tensor
    lineage: Tensor
    log_probs: Tensor

    def place_of(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Where these keys (B, K) are and whether they are missing, which -1 never is."""
        same = keys.unsqueeze(-1) == self.keys.unsqueeze(1)  # (B, K, W)
        return same.byte().argmax(dim=-1), (keys >= 0) & ~same.any(dim=-1)

    def select(self, keys: Tensor) -> _Nodes | None:
        """The nodes of these keys (B, K), or None if one is missing; -1 gets any node."""
        place, missing = self.place_of(keys)
        if missing.any():
            return None
        return _Nodes(keys, take(self.lineage, place), take(self.log_probs, place))

    def share_of(self, keys: Tensor) -> Tensor:
        """Which share of the keys (B, K) is here: (B,) float32; 1 of none."""
        missing = self.place_of(keys)[1].sum(dim=-1)
        return 1 - missing / (keys >= 0).sum(dim=-1).clamp_min(1)


class SpeculativeDecoder(AutoregressiveDecoder):
    """The autoregressive beam search in fewer passes: the head drafts, the backbone verifies.

    The pass over the prompt gives the head what it needs, and already the backbone's choice of the
    first code. From there the head drafts the codes between, and one pass reads the whole tree: the
    backbone's next code after every node. The autoregressive search then walks down the tree while
    all its beams are nodes of it; where one is missing, a new draft starts from the true beams.
    Only the backbone's probabilities ever choose, so the lists *are* `AutoregressiveDecoder`'s
    ("strict" in AtSpeed, arXiv 2410.05165), after 2 to L passes instead of L.

    That is the price of verifying by the model: a single beam that the draft missed costs a pass,
    and every level waits for the device to say whether one is missing, so this cannot be captured.
    A batch takes as many passes as its hardest prompt. `DecodeResult.accepted` says how good the
    first draft was, prompt by prompt; after level 1, which needs no draft, it is 1.

    Args:
        model: as for `AutoregressiveDecoder`; the better its head agrees with its backbone, the
            fewer passes.
        verifier: bounds drafts and beams alike.
        verification: likewise.
        draft_beam: drafts to read at every level; None: twice the beam. The draft must hold *all*
            beams, so one no wider than the beam seldom saves a pass; a wider one costs more tokens.

    Raises:
        ValueError: also if `draft_beam` is below 1.
    """

    static: ClassVar[bool] = False

    def __init__(
        self,
        model: NezhaModel,
        verifier: Verifier | None = None,
        verification: Verification = "prefix",
        draft_beam: int | None = None,
    ) -> None:
        if draft_beam is not None and draft_beam < 1:
            raise ValueError(
                f"draft_beam is {draft_beam}, but must be at least 1, or None for twice the beam."
            )
        super().__init__(model, verifier, verification)
        self.draft_beam = draft_beam

    @torch.inference_mode()
    def decode(
        self,
        prompts: Prompts,
        beam: int,
        trace: bool = False,
        requests: RequestFilter | None = None,
    ) -> DecodeResult:
        """See `Decoder.decode`."""
        search = self.search(prompts, beam, trace, requests)
        calls, accepted = self._verify(prompts, search)
        return replace(search.result(calls), accepted=accepted)

    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """See `BeamSearchDecoder.run`."""
        return self._verify(prompts, search)[0]

    def _verify(self, prompts: Prompts, search: BeamSearch) -> tuple[int, Tensor]:
        """Step the search to its end; the backbone's passes and the first draft's acceptance."""
        head = self.model.head
        tree = PromptTree(self.model, prompts)
        self.mark("forward")
        hidden = tree.prompt_states  # (B, L+1, D)
        state, lineage = hidden[:, :1], tree.root()  # of the beams: (B, K, D), (B, K, level)
        log_probs = self.next_code(0, state)  # (B, 1, C); h_0 is the last history token's state
        self.mark("head")
        foreseen: list[_Nodes] = []  # what the first draft held, level by level
        drafted: list[_Nodes] = []  # what is left of the latest draft, from this level on
        accepted = []
        for level in range(1, head.levels):
            step = search.step(log_probs)
            state = head.advance(level - 1, step.codes, take(state, step.parents))  # (B, K, D)
            beams = drafted[0].select(search.keys) if drafted else None
            if beams is None:
                lineage = descend(lineage, step.parents, tree.size)
                drafted = self._draft(tree, search, step.codes, lineage, state)
                beams = drafted[0]
            foreseen = foreseen or drafted
            accepted.append(foreseen[level - 1].share_of(search.keys))
            lineage, log_probs, drafted = beams.lineage, beams.log_probs, drafted[1:]
        search.step(log_probs)
        shares = torch.stack(accepted, dim=1) if accepted else hidden.new_zeros(len(prompts), 0)
        return tree.calls, shares.float()

    def _draft(
        self, tree: PromptTree, search: BeamSearch, codes: Tensor, lineage: Tensor, state: Tensor
    ) -> list[_Nodes]:
        """Draft from where the search is, and read the beams and the drafts below them.

        Args:
            tree: gains the nodes, in one pass.
            search: left as it is.
            codes: (B, K) int64, the beams' last codes.
            lineage: (B, K, level), with the numbers that the beams will have.
            state: (B, K, D), the head's, after the beams.

        Returns:
            The nodes of every level from the beams' to L − 1.
        """
        head, hidden = self.model.head, tree.prompt_states
        draft = copy.copy(search)  # a step changes none of what the two share
        draft.beam, draft.levels = self.draft_beam or 2 * search.beam, None
        keys, lineages = [draft.keys], [lineage]
        tokens = [codes + self.first_tokens[draft.level - 1]]
        size = tree.size + codes.shape[1]
        for level in range(search.level, head.levels - 1):
            log_probs = head.log_probs(level, hidden[:, level + 1, None], state)  # (B, W, C)
            self.mark("head")
            step = draft.step(log_probs)
            state = head.advance(level, step.codes, take(state, step.parents))
            keys.append(draft.keys)
            tokens.append(step.codes + self.first_tokens[level])
            lineages.append(descend(lineages[-1], step.parents, size))  # (B, W, level + 1)
            size += step.codes.shape[1]
        deepest = lineages[-1].shape[-1]
        padded = [pad(one, (0, deepest - one.shape[-1]), value=-1) for one in lineages]
        states = tree.read(torch.cat(tokens, dim=1), torch.cat(padded, dim=1))  # (B, M, D)
        self.mark("forward")
        levels = states.split([one.shape[1] for one in keys], dim=1)
        nodes = [
            _Nodes(keys[depth], lineages[depth], self.next_code(search.level + depth, states))
            for depth, states in enumerate(levels)
        ]
        self.mark("head")
        return nodes
