"""The decoder that NEZHA replaces: beam search through the backbone, one pass per code."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from nezha_lite.decoding.beam_search import BeamSearch, BeamSearchDecoder
from nezha_lite.decoding.prompt_tree import PromptTree, extend
from nezha_lite.model import Prompts
from nezha_lite.model.draft_head import at_least_float32

if TYPE_CHECKING:
    from nezha_lite.model import NezhaModel


class AutoregressiveDecoder(BeamSearchDecoder):
    """Beam search over the same weights, by the backbone's next-code probabilities.

    The prompt, without placeholders, is prefilled once, and all its beams share its keys and
    values. Each further code costs one pass over B · K tokens, so the backbone runs L times. Shapes
    are static and nothing waits for the device: it can be compiled and captured like NEZHA.

    >>> from nezha_lite.model import NezhaModel
    >>> from nezha_lite.semantic_ids import SemanticIds
    >>> ids = SemanticIds.from_codes([[0, 1], [1, 2], [1, 0]], radices=(2, 3))
    >>> model = NezhaModel.from_preset("tiny", ids)
    >>> decoder = AutoregressiveDecoder(model, verification="off")
    >>> decoder.decode(model.build_prompts([[0, 2]], ids), beam=4).backbone_calls
    2
    """

    backbone_predicts: ClassVar[bool] = True

    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """See `BeamSearchDecoder.run`."""
        levels = self.model.head.levels
        tree = PromptTree(self.model, prompts.without_placeholders())
        hidden = tree.prompt_states  # (B, 1, D)
        ancestors = tree.root()  # (B, 1, 0)
        for level in range(levels):
            self.on_phase("forward")
            log_probs = next_code_log_probs(self.model, level, hidden)  # (B, K, C)
            self.on_phase("head")
            step = search.step(log_probs)
            if level + 1 < levels:
                ancestors = extend(ancestors, step.parents, tree.size)  # (B, W, level + 1)
                tokens = step.codes + self.model.vocabulary.level_offsets[level]
                hidden = tree.read(tokens, ancestors)  # (B, W, D)
        return tree.calls


def next_code_log_probs(model: NezhaModel, level: int, hidden: Tensor) -> Tensor:
    """log p of the codes of level 0 … L−1 under the backbone: (B, K, D) → (B, K, T_l).

    In float32 at least. Normalised over the whole vocabulary, as in training: the probability of
    tokens of other levels is missing here.
    """
    logits = model.backbone.get_output_embeddings()(hidden)
    logits = logits.to(at_least_float32(logits.dtype))  # (B, K, V)
    tokens = model.vocabulary.level_tokens(level)
    return logits[..., tokens.start : tokens.stop] - logits.logsumexp(dim=-1, keepdim=True)
