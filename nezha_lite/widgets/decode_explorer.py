"""One decode, step by step: the history, the beams of each level, and the outcome of each draft."""

from __future__ import annotations

import html
from functools import partial
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go
import traitlets

from nezha_lite.plots.beam_figures import (
    OUTCOMES,
    Node,
    Outcome,
    TreeNode,
    beam_nodes,
    tree_figure,
    tree_nodes,
)
from nezha_lite.plots.numbers import code_text, probability
from nezha_lite.plots.prefix_figures import items_below
from nezha_lite.plots.style import Figure
from nezha_lite.widgets.panel import NO_OPTION, ChoiceBox, Drawings, columns, row
from nezha_lite.widgets.subject import StepPanel, verification_sentence
from nezha_lite.widgets.tables import Table, paragraphs, some_titles

SHOWN_HISTORY, SHOWN_LIST, SHOWN_TITLES = 10, 20, 3  # items
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)
HISTORY = f"The last items of the history (at most {SHOWN_HISTORY}), oldest first:"
NO_DRAFT: tuple[str, tuple[int, ...]] = (NO_OPTION[0], ())
HOW_TO_ASK = (
    "Click a mark of the tree, or choose a draft from the menu, to read why it was kept or not."
)
FIRST_OUTCOME = 3  # traces before it: edges, labels, root
RING = go.Scatter(
    {"x": [], "y": [], "mode": "markers", "hoverinfo": "skip", "showlegend": False},
    marker={"symbol": "circle-open", "size": 20, "color": "#000000", "line": {"width": 2.5}},
)


class DecodeExplorer(StepPanel):
    """Step through a decode, and read of any draft why it was kept or not.

    The arguments are `SubjectPanel`'s: a trained model, its catalogue, the data set, the users on
    offer, and first values of the traits.

    These traits may be given, set and observed: `user`; `beam`, 1 to 64; `verification`, "off",
    "final" or "prefix"; `temperature` of the drafts, 0.25, 0.5, 1, 2 or 4; `step`, which is 0 after
    the prompt was read, l after level l, and L + 1 when the list is ready; and `node`, the
    (level, candidate) being explained, or (). `max_pruned` is how many existing candidates below
    the beam are shown at each level. `result` is the `DecodeResult` on show, or None where decoding
    failed; the widget then says why.
    """

    temperature = traitlets.Enum(TEMPERATURES, 1.0)
    max_pruned = traitlets.Int(3, min=0)
    node: Any = traitlets.Tuple()
    refreshed_by = ("user", "beam", "verification", "temperature", "step")

    # ---- reactions --------------------------------------------------------------------------

    def compute(self, change: Any = None) -> None:
        """Decode, unless only the step changed, and arrange the drafts."""
        if change is not None and change.name == "step":
            return
        trace = self.decode(self.temperature)
        nodes = [] if trace is None else beam_nodes(trace, 0, self.max_pruned)
        self.tree: list[TreeNode] = tree_nodes(nodes)

    def controls(self) -> list[widgets.Widget]:
        """What is decoded and how, and the step on show."""
        return [*super().controls(), self.slider("temperature", "Temperature")]

    def drawings(self) -> Drawings:
        """The tree, with a ring around the draft being explained."""
        return [lambda: self._tree_figure().add_trace(go.Scatter(RING).update(self._ring()))]

    def build(self) -> list[widgets.Widget]:
        """Controls; beside the tree and its explanation, the history, the step and the list."""
        self.history, self.explanation = widgets.HTML(), widgets.HTML()
        self.node_choice = ChoiceBox("Explain draft", on_choice=partial(setattr, self, "node"))
        for trace in self.figure.data[FIRST_OUTCOME:-1]:
            trace.on_click(self._clicked)
        self.observe(self._explain, "node")
        left = [self.figure, self.node_choice, self.explanation]
        return [row(*self.controls()), columns(left, [self.history, self.summary, self.table])]

    def tell(self) -> None:
        """Show everything but the figure."""
        self.history.value = self._history_html()
        nodes = [node for node in self._nodes() if node.level <= self.step]
        options = [NO_DRAFT, *((_label(node), _name(node)) for node in nodes)]
        if self.node not in [name for _, name in options]:
            self.node = ()
        self.node_choice.offer(options)
        self._explain()
        super().tell()

    def tables(self) -> list[Table]:
        """The finished list."""
        if self.result is None or self.step < self.last_step:
            return []
        rows = self.subject.list_rows(self.result)
        return [self.item_table(rows, rows[:SHOWN_LIST])]

    def _clicked(self, trace: Any, points: Any, state: Any) -> None:
        for index in points.point_inds:
            outcome = list(OUTCOMES)[points.trace_index - FIRST_OUTCOME]
            self.node = _name([node for node in self._nodes() if node.outcome is outcome][index])

    def _explain(self, change: Any = None) -> None:
        self.node_choice.choose(self.node)
        self.figure.data[-1].update(self._ring())
        node = next((node for node in self._nodes() if _name(node) == self.node), None)
        self.explanation.value = paragraphs([self.explain(node) if node else HOW_TO_ASK])

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """The step on show, or what went wrong, in plain text."""
        if self.result is None:
            return [self.problem]
        lines = [verification_sentence(self.verification)]
        if self.temperature != 1:
            effect = "the beam spreads" if self.temperature > 1 else "likely first codes win"
            lines.append(f"Temperature {self.temperature:g}: {effect}.")
        return [*lines, self._step_sentence()]

    def _step_sentence(self) -> str:
        assert self.result is not None
        if self.step == 0:
            return "The backbone has read the prompt, once. No code is drafted yet."
        if self.step < self.last_step:
            counts = {outcome: self._count(self.step, outcome) for outcome in Outcome}
            kept, unchecked = counts[Outcome.KEPT], counts[Outcome.UNCHECKED]
            return (
                f"Level {self.step}: {kept + unchecked} drafts kept"
                + (f", {unchecked} of them although no item has such a prefix" if unchecked else "")
                + f"; {counts[Outcome.REJECTED]} rejected because no item has such a prefix."
            )
        lost = [self._count(level, Outcome.REJECTED) for level in range(1, self.last_step)]
        by_level = ", ".join(f"level {n}: {count}" for n, count in enumerate(lost, 1) if count)
        calls = f"Backbone calls: {self.result.backbone_calls}."
        return f"{calls} Hallucinations rejected: {sum(lost)}{f' ({by_level})' * bool(by_level)}."

    def _count(self, level: int, outcome: Outcome) -> int:
        return sum(node.level == level and node.outcome is outcome for node in self._nodes())

    def explain(self, node: Node) -> str:
        """Why a draft lived or fell, in plain text."""
        subject = self.subject
        items = items_below(subject.semantic_ids, node.codes).nonzero()[:, 0].tolist()
        text = f"Draft {code_text(node.codes)}: {node.outcome.value}"
        if node.outcome is Outcome.PRUNED:
            same_level = (other for other in self._nodes() if other.level == node.level)
            beam = [other.log_prob for other in same_level if other.position >= 0]
            text += f" ({min(beam):.2f})" if beam else ""
        text += (
            f". Probability {probability(node.log_prob)} (log-probability {node.log_prob:.2f}). "
        )
        text += f"{len(items)} item{' begins' if len(items) == 1 else 's begin'} with these codes"
        titles = some_titles(subject.dataset, items, SHOWN_TITLES)
        text += f": {titles}" if titles else ""
        return text if text.endswith("…") else f"{text}."

    def _nodes(self) -> list[Node]:
        return [row.node for row in self.tree]

    # ---- what is drawn ----------------------------------------------------------------------

    def _tree_figure(self) -> Figure:
        ids = self.subject.semantic_ids
        return tree_figure(self.tree, ids.levels, self.step, ids, self.subject.dataset)

    def _ring(self) -> dict[str, list[float]]:
        """The position of the draft being explained."""
        rows = [row for row in self.tree if _name(row.node) == self.node]
        return {"x": [row.node.level for row in rows], "y": [row.y for row in rows]}

    def _recent(self) -> list[str]:
        history = self.subject.histories[self.user][-SHOWN_HISTORY:]
        return [self.subject.dataset.title(item) for item in history]

    def _history_html(self) -> str:
        cards = "".join(f"<li>{html.escape(title)}</li>" for title in self._recent())
        return f'{paragraphs([HISTORY])}<ol class="nezha-cards">{cards}</ol>'

    def blocks(self) -> list[Any]:
        """The step on show: settings, history, tree, and the finished list."""
        sentences, tree, *table = super().blocks()
        who = self.subject.introduction(self.user)
        return [[who, *sentences], [HISTORY, *self._recent()], tree, *table]


def _name(node: Node) -> tuple[int, int]:
    return node.level, node.candidate


def _label(node: Node) -> str:
    return f"level {node.level}: {code_text(node.codes)}"
