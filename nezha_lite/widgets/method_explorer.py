"""The whole method for one user on one screen, step by step, beside the autoregressive way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import traitlets

from nezha_lite.decoding import AutoregressiveDecoder
from nezha_lite.plots.beam_figures import Node, Outcome, TreeNode, beam_nodes, tree_nodes
from nezha_lite.plots.numbers import code_text, counted, probability
from nezha_lite.plots.overview_figure import overview_figure
from nezha_lite.widgets.panel import Drawings, times
from nezha_lite.widgets.subject import StepPanel
from nezha_lite.widgets.tables import Table

SHOWN_HISTORY, SHOWN_PRUNED = 8, 2  # items; candidates below the beam, at each level


class MethodExplorer(StepPanel):
    """Play one decode from the prompt to the list, and count the passes that it saves.

    The arguments are `SubjectPanel`'s: a trained model, its catalogue, the data set, the users on
    offer, and first values of the traits.

    These traits may be given, set and observed: `user`; `beam`, 1 to 20; `verification`, "off",
    "final" or "prefix"; and `step`: 0 is the prompt, 1 the backbone's pass, l + 1 level l, and
    L + 2 the list. `result` and `rival` are the results of NEZHA and of the autoregressive decoder;
    `result` is None where decoding failed, and the widget then says why.

    Raises:
        ValueError: if the backbone was not trained to predict the next code.
    """

    beam = traitlets.Int(10, min=1, max=20)
    refreshed_by = ("user", "beam", "verification", "step")

    @property
    def step_names(self) -> list[str]:
        """What is on show at each step."""
        prompt, *others = super().step_names
        return [prompt, "backbone", *others]

    def compute(self, change: Any = None) -> None:
        """Decode with both decoders, unless only the step changed."""
        if change is not None and change.name == "step":
            return
        subject, ids = self.subject, self.subject.semantic_ids
        self.history = list(subject.histories[self.user][-subject.model.config.max_items :])
        codes = [str(code) for code in ids.codes[self.history].flatten().tolist()]
        self.tokens = ["BOS", *codes, *(f"SP{level}" for level in range(1, ids.levels + 1))]
        self.tree: list[TreeNode] = []
        self.passes: list[int] = []  # tokens that each pass of the autoregressive decoder reads
        trace = self.decode()
        if trace is not None:
            rival = AutoregressiveDecoder(subject.model, subject.verifier, self.verification)
            self.rival = rival.decode(subject.prompts(self.user), self.beam, trace=True)
            assert self.rival.trace is not None  # trace=True
            kept = [int((level.kept[0] >= 0).sum()) for level in self.rival.trace.levels]
            self.tree = tree_nodes(beam_nodes(trace, 0, SHOWN_PRUNED))
            self.passes = [len(self.tokens) - ids.levels, *kept[:-1]]

    def drawings(self) -> Drawings:
        """The method up to the step."""
        parts = self.subject.semantic_ids, self.subject.dataset
        return [lambda: overview_figure(self.tokens, self.tree, self.passes, self.step, *parts)]

    def sentences(self) -> list[str]:
        """The step on show, or what went wrong, in plain text."""
        if self.result is None:
            return [self.problem]
        levels, level = self.subject.semantic_ids.levels, self.step - 1
        if self.step == 0:
            return [
                f"The prompt has {len(self.tokens)} tokens: BOS, {counted(levels, 'code')} for "
                f"each of {counted(len(self.history), 'item')}, and {levels} placeholders. The "
                "placeholders stand where the codes of the answer will be."
            ]
        if self.step == 1:
            return [
                f"The backbone reads the {len(self.tokens)} tokens in one pass. It leaves h0 at "
                f"the last code of the history, and h1 to h{levels} at the placeholders."
            ]
        if level > levels:
            return [
                f"The list is ready. NEZHA called the backbone {times(self.result.backbone_calls)},"
                f" the autoregressive decoder {times(self.rival.backbone_calls)}."
            ]
        counts = Counter(node.outcome for node in self._drafts(level))
        state = "which is h0" if level == 1 else f"made from s{level - 1} and the code before"
        lines = [
            f"Level {level}: the head adds the state s{level}, {state}, to h{level}, and scores "
            "the next code of every beam.",
            f"The beam keeps {counted(counts[Outcome.KEPT], 'draft')} that the trie knows; the "
            f"verifier rejects {counts[Outcome.REJECTED]}.",
        ]
        if unchecked := counts[Outcome.UNCHECKED]:
            lines.append(f"{unchecked} more stay in it, although no ID begins so.")
        return lines

    def tables(self) -> list[Table]:
        """The numbers of the step, and what both decoders have read so far."""
        if self.result is None:
            return []
        if self.step == self.last_step:
            rows = self.subject.list_rows(self.result)
            return [self.item_table(rows, rows), self._work()]
        return [self._level() if self.step > 1 else self._prompt(), self._work()]

    def _drafts(self, level: int) -> list[Node]:
        """The drafts of a level, best first."""
        nodes = [row.node for row in self.tree if row.node.level == level]
        drafts = [node for node in nodes if node.outcome is not Outcome.PRUNED]
        return sorted(drafts, key=lambda node: -node.log_prob)

    def _prompt(self) -> Table:
        title, codes = self.subject.dataset.title, self.subject.semantic_ids.codes.tolist()
        rows = [(title(item), code_text(codes[item])) for item in self.history[-SHOWN_HISTORY:]]
        caption = f"The history, oldest first (at most {SHOWN_HISTORY} items)"
        return Table(caption, ("item", "semantic ID"), rows)

    def _level(self) -> Table:
        level = self.step - 1
        before = {node.position: node.log_prob for node in self._drafts(level - 1)}
        rows = [
            (
                code_text(node.codes),
                probability(node.log_prob - before.get(node.parent, 0.0)),
                probability(node.log_prob),
                "✕ rejected" if node.outcome is Outcome.REJECTED else node.outcome.value,
            )
            for node in self._drafts(level)
        ]
        heads = ("prefix", "p(code)", "p(prefix)", "outcome")
        return Table(f"The drafts of level {level}, likeliest first", heads, rows, numbers=(1, 2))

    def _work(self) -> Table:
        once = min(self.step, 1)
        passes = self.passes[: max(once, self.step - 1)]
        rows = [
            ("NEZHA", str(once), str(once * len(self.tokens))),
            ("autoregressive", str(len(passes)), str(sum(passes))),
        ]
        heads = ("backbone so far", "passes", "tokens read")
        return Table("", heads, rows, numbers=(1, 2), row_heads=True)
