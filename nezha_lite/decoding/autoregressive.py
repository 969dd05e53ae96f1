"""The decoder that NEZHA replaces: beam search through the backbone, one pass per code."""

from __future__ import annotations

from torch import Tensor

from nezha_lite.decoding.base import Verification, check_writes_codes
from nezha_lite.decoding.beam_search import BeamSearch, BeamSearchDecoder
from nezha_lite.decoding.prompt_tree import PromptTree, descend
from nezha_lite.model import NezhaModel
from nezha_lite.model.draft_head import at_least_float32
from nezha_lite.model.prompts import Prompts
from nezha_lite.verifiers import Verifier


class AutoregressiveDecoder(BeamSearchDecoder):
    """Beam search over the same weights, by the backbone's next-code probabilities.

    The prompt (without placeholders) is read once, and all its beams share its keys and values;
    each further code costs one pass over B · K tokens, so the backbone runs L times. Shapes are
    static and nothing waits for the device: it is compiled and captured as NEZHA is.

    Raises:
        ValueError: also if the model was trained with next_code_weight 0, which taught its backbone
            nothing about next codes.
    """

    def __init__(
        self,
        model: NezhaModel,
        verifier: Verifier | None = None,
        verification: Verification = "prefix",
    ) -> None:
        check_writes_codes(model.config)
        super().__init__(model, verifier, verification)

    @property
    def first_tokens(self) -> tuple[int, ...]:
        """Token number of code 0 of each level."""
        return self.model.vocabulary.level_offsets

    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """See `BeamSearchDecoder.run`."""
        levels = self.model.head.levels
        tree = PromptTree(self.model, prompts.without_placeholders())
        hidden = tree.prompt_states  # (B, 1, D)
        lineage = tree.root()
        for level in range(levels):
            self.mark("forward")
            log_probs = self.next_code(level, hidden)  # (B, K, C)
            self.mark("head")
            step = search.step(log_probs)
            if level + 1 < levels:
                lineage = descend(lineage, step.parents, tree.size)  # (B, W, level + 1)
                hidden = tree.read(step.codes + self.first_tokens[level], lineage)  # (B, W, D)
        return tree.calls

    def next_code(self, level: int, hidden: Tensor) -> Tensor:
        """log p of the codes of level 0 … L−1 under the backbone: (B, K, D) → (B, K, T_l).

        In fp32 at least, and over the whole vocabulary, which the backbone was trained to choose
        from: what it gives to tokens of other levels is missing here.
        """
        logits = self.model.backbone.get_output_embeddings()(hidden)
        logits = logits.to(at_least_float32(logits.dtype))  # (B, K, V)
        first = self.first_tokens[level]
        codes = logits[..., first : first + self.model.head.radices[level]]
        return codes - logits.logsumexp(dim=-1, keepdim=True)
