"""Speculative decoding: the head drafts a tree, the backbone verifies it in one pass."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from nezha_lite.common.checks import check
from nezha_lite.decoding.autoregressive import AutoregressiveDecoder, next_code_log_probs
from nezha_lite.decoding.base import Verification
from nezha_lite.decoding.beam_search import BeamSearch, gather_rows
from nezha_lite.decoding.nezha import next_log_probs
from nezha_lite.decoding.prompt_tree import PromptTree, extend
from nezha_lite.model import Prompts
from nezha_lite.verifiers import Verifier

if TYPE_CHECKING:
    from nezha_lite.model import NezhaModel


@dataclass(frozen=True, eq=False)
class _Nodes:
    """Prefixes of one length that the backbone has read.

    Attributes:
        keys: (B, W) int64, padded with -1.
        ancestors: (B, W, l) int64, see `PromptTree`.
        log_probs: (B, W, C) float32 or wider, of the next code after each.
    """

    keys: Tensor
    ancestors: Tensor
    log_probs: Tensor

    def positions_of(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of these keys (B, K), and which of them are missing; -1 never is."""
        same = keys.unsqueeze(-1) == self.keys.unsqueeze(1)  # (B, K, W)
        return same.byte().argmax(dim=-1), (keys >= 0) & ~same.any(dim=-1)

    def select(self, keys: Tensor) -> _Nodes | None:
        """The nodes of these keys (B, K), or None if one is missing; -1 gets any node."""
        positions, missing = self.positions_of(keys)
        if missing.any():
            return None
        ancestors = gather_rows(self.ancestors, positions)
        return _Nodes(keys, ancestors, gather_rows(self.log_probs, positions))

    def share_of(self, keys: Tensor) -> Tensor:
        """The share of the keys (B, K) that is contained: (B,) float32; 1 for padding alone."""
        missing = self.positions_of(keys)[1].sum(dim=-1)
        return 1 - missing / (keys >= 0).sum(dim=-1).clamp_min(1)


class SpeculativeDecoder(AutoregressiveDecoder):
    """The autoregressive beam search in fewer passes: the head drafts, the backbone verifies.

    The pass over the prompt gives the head its states and the backbone's first code. The head
    drafts the codes between first and last, and one pass reads the whole tree: the backbone's next
    code after every node. The autoregressive search then descends the tree while all its beams are
    nodes of it; where a beam is missing, a new draft starts from the true beams. Only the
    backbone's probabilities rank, so the lists *are* `AutoregressiveDecoder`'s ("strict" in
    AtSpeed, arXiv 2410.05165), after 2 to L passes instead of L.

    A single beam that the draft missed costs a pass, and every level waits for the device to report
    missing beams, so this decoder cannot be captured. A batch takes as many passes as its hardest
    prompt. `DecodeResult.accepted` reports the quality of the first draft per prompt; after level
    1, which needs no draft, it is 1.

    Args:
        model: as for `AutoregressiveDecoder`; the better its head agrees with its backbone, the
            fewer passes.
        verifier: bounds drafts and beams alike.
        verification: likewise.
        draft_beam: drafts to read at every level; None for twice the beam. The draft must contain
            *all* beams, so one no wider than the beam seldom saves a pass; a wider one costs more
            tokens.

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
        valid = draft_beam is None or draft_beam >= 1
        check(valid, "draft_beam", draft_beam, "at least 1, or None for twice the beam")
        super().__init__(model, verifier, verification)
        self.draft_beam = draft_beam

    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """See `BeamSearchDecoder.run`; also sets `search.accepted`."""
        head = self.model.head
        tree = PromptTree(self.model, prompts)
        self.on_phase("forward")
        state, ancestors = tree.prompt_states[:, :1], tree.root()  # (B, 1, D), (B, 1, 0)
        log_probs = next_code_log_probs(self.model, 0, state)  # (B, 1, C), from h_0
        self.on_phase("head")
        first_draft: list[_Nodes] = []  # level by level
        draft: list[_Nodes] = []  # the latest one, from the beams' level on
        accepted = []
        for level in range(1, head.levels):
            step = search.step(log_probs)
            state = head.advance(level - 1, step.codes, gather_rows(state, step.parents))
            beams = draft[0].select(search.keys) if draft else None
            if beams is None:
                ancestors = extend(ancestors, step.parents, tree.size)
                draft = self._draft(tree, search, step.codes, ancestors, state)
                beams = draft[0]
            first_draft = first_draft or draft
            accepted.append(first_draft[level - 1].share_of(search.keys))
            ancestors, log_probs, draft = beams.ancestors, beams.log_probs, draft[1:]
        search.step(log_probs)
        shares = torch.stack(accepted, dim=1) if accepted else state.new_zeros(len(prompts), 0)
        search.accepted = shares.float()  # (B, L−1)
        return tree.calls

    def _draft(
        self, tree: PromptTree, search: BeamSearch, codes: Tensor, ancestors: Tensor, state: Tensor
    ) -> list[_Nodes]:
        """Draft below the search's beams, and read the beams and the drafts in one pass.

        Args:
            tree: receives the nodes.
            search: is not changed.
            codes: (B, K) int64, the beams' last codes.
            ancestors: (B, K, level), with the numbers that the beams will have.
            state: (B, K, D), the head's, after the beams.

        Returns:
            The nodes of every level from the beams' to L − 1.
        """
        head, hidden = self.model.head, tree.prompt_states
        offsets = self.model.vocabulary.level_offsets
        draft = copy.copy(search)  # a step replaces its tensors and does not change them
        draft.beam, draft.levels = self.draft_beam or 2 * search.beam, None
        keys, paths = [draft.keys], [ancestors]
        tokens = [codes + offsets[draft.level - 1]]
        size = tree.size + codes.shape[1]
        for level in range(search.level, head.levels - 1):
            log_probs = next_log_probs(self.model, level, hidden, state, draft)  # (B, W, C)
            self.on_phase("head")
            step = draft.step(log_probs)
            state = head.advance(level, step.codes, gather_rows(state, step.parents))
            keys.append(draft.keys)
            tokens.append(step.codes + offsets[level])
            paths.append(extend(paths[-1], step.parents, size))  # (B, W, level + 1)
            size += step.codes.shape[1]
        deepest = paths[-1].shape[-1]
        padded = [pad(path, (0, deepest - path.shape[-1]), value=-1) for path in paths]
        states = tree.read(torch.cat(tokens, dim=1), torch.cat(padded, dim=1))  # (B, M, D)
        self.on_phase("forward")
        first, parts = search.level, states.split([row.shape[1] for row in keys], dim=1)
        nodes = [
            _Nodes(keys[depth], paths[depth], next_code_log_probs(self.model, first + depth, part))
            for depth, part in enumerate(parts)
        ]
        self.on_phase("head")
        return nodes
