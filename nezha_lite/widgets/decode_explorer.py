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
from nezha_lite.widgets.panel import NO_OPTION, ChoiceBox, at_most, paragraph
from nezha_lite.widgets.subject import DecodePanel, verification_sentence
from nezha_lite.widgets.tables import ItemList, some_titles

SHOWN_HISTORY, SHOWN_LIST, SHOWN_TITLES = 10, 20, 3  # items
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)
HISTORY = f"The last items of the history (at most {SHOWN_HISTORY}), oldest first:"
NO_DRAFT: tuple[str, tuple[int, ...]] = (NO_OPTION[0], ())
HOW_TO_ASK = (
    "Click on a mark of the tree, or choose a draft with the slider, to read why it lived or fell."
)
FIRST_OUTCOME = 3  # traces before it: edges, labels, root
RING = go.Scatter(
    {"x": [], "y": [], "mode": "markers", "hoverinfo": "skip", "showlegend": False},
    marker={"symbol": "circle-open", "size": 20, "color": "#000000", "line": {"width": 2.5}},
)
CARD = (
    "display:inline-block;border:1px solid #999;border-radius:4px;padding:4px 8px;margin:2px;"
    "max-width:24ch;line-height:1.3;vertical-align:top;overflow-wrap:anywhere"
)


class DecodeExplorer(DecodePanel):
    """Step through a decode, and ask any draft why it lived or fell.

    Args:
        model: a trained model.
        semantic_ids: the catalogue it was trained for.
        dataset: for users and titles.
        users: indices of the users on offer; by default eight of the test split.
        traits: first values of the traits.

    These traits may be given, set and observed: `user`; `beam`, 1 to 64; `verification`, "off",
    "final" or "prefix"; `temperature` of the drafts, 0.25, 0.5, 1, 2 or 4; `step`, which is 0 after
    the prompt was read, l after level l, and L + 1 when the list is ready; and `node`, the
    (level, candidate) being explained, or (). `max_pruned` is how many existing candidates below
    the beam are shown at each level. `result` is the `DecodeResult` on show, or None where decoding
    failed; the widget then says why.
    """

    temperature = traitlets.Enum(TEMPERATURES, 1.0)
    max_pruned = traitlets.Int(3, min=0)
    step = traitlets.Int(min=0)
    node: Any = traitlets.Tuple()
    refreshed_by = ("user", "beam", "verification", "temperature", "step")

    @property
    def last_step(self) -> int:
        """The step of the finished list."""
        return self.subject.semantic_ids.levels + 1

    @traitlets.default("step")
    def _finished(self) -> int:
        return self.last_step

    @traitlets.validate("step")
    def _a_step(self, proposal: Any) -> int:
        return at_most(proposal, self.last_step)

    # ---- reactions --------------------------------------------------------------------------

    def next_step(self) -> None:
        """Go on by one step; the prompt follows the list."""
        self.step = (self.step + 1) % (self.last_step + 1)

    def compute(self, change: Any = None) -> None:
        """Decode, unless only the step changed, and arrange the drafts."""
        if change is not None and change.name == "step":
            return
        trace = self.decode(self.temperature)
        nodes = [] if trace is None else beam_nodes(trace, 0, self.max_pruned)
        self.tree: list[TreeNode] = tree_nodes(nodes)

    def build(self) -> list[widgets.Widget]:
        """Controls, history, tree, explanation and list."""
        self.history, self.explanation = widgets.HTML(), widgets.HTML()
        self.node_choice = ChoiceBox("Explain draft", on_choice=partial(setattr, self, "node"))
        self.figure = self.live(self._figure)
        for trace in self.figure.data[FIRST_OUTCOME:-1]:
            trace.on_click(self._clicked)
        onward = widgets.Button(
            description="Next step",
            tooltip="Go on to the next step, and after the list back to the prompt",
            layout={"width": "120px", "margin": "2px 2px 2px 126px"},
        )
        onward.on_click(lambda _: self.next_step())
        steps = ["prompt", *(f"level {n}" for n in range(1, self.last_step)), "list"]
        self.observe(self._explain, "node")
        return [
            *self.decode_controls(),
            self.control("temperature", "Temperature"),
            self.control("step", "Step", [(name, number) for number, name in enumerate(steps)]),
            *(onward, self.history, self.summary, self.figure),
            *(self.node_choice, self.explanation, self.table),
        ]

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

    def table_html(self) -> str:
        """The finished list."""
        return self._list().html() if self._list_is_ready() else ""

    def _clicked(self, trace: Any, points: Any, state: Any) -> None:
        for index in points.point_inds:
            outcome = list(OUTCOMES)[points.trace_index - FIRST_OUTCOME]
            self.node = _name([node for node in self._nodes() if node.outcome is outcome][index])

    def _explain(self, change: Any = None) -> None:
        self.node_choice.choose(self.node)
        self.figure.data[-1].update(self._ring())
        node = next((node for node in self._nodes() if _name(node) == self.node), None)
        self.explanation.value = paragraph(self.explain(node) if node else HOW_TO_ASK)

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
        return f"{text}: {titles}." if titles else f"{text}."

    def _nodes(self) -> list[Node]:
        return [row.node for row in self.tree]

    # ---- what is drawn ----------------------------------------------------------------------

    def _tree_figure(self) -> Figure:
        ids = self.subject.semantic_ids
        return tree_figure(self.tree, ids.levels, self.step, ids, self.subject.dataset)

    def _figure(self) -> Figure:
        return self._tree_figure().add_trace(go.Scatter(RING).update(self._ring()))

    def _ring(self) -> dict[str, list[float]]:
        """The position of the draft being explained."""
        rows = [row for row in self.tree if _name(row.node) == self.node]
        return {"x": [row.node.level for row in rows], "y": [row.y for row in rows]}

    def _recent(self) -> list[str]:
        history = self.subject.histories[self.user][-SHOWN_HISTORY:]
        return [self.subject.dataset.title(item) for item in history]

    def _history_html(self) -> str:
        cards = "".join(f'<li style="{CARD}">{html.escape(title)}</li>' for title in self._recent())
        style = "list-style:none;margin:0;padding:0;max-width:760px"
        return f'{paragraph(HISTORY)}<ol style="{style}">{cards}</ol>'

    def _list_is_ready(self) -> bool:
        return self.result is not None and self.step == self.last_step

    def _list(self) -> ItemList:
        assert self.result is not None
        rows = self.subject.list_rows(self.result)
        return self.item_list(rows, rows[:SHOWN_LIST])

    def blocks(self) -> list[Any]:
        """The step on show: settings, history, tree, and the finished list."""
        settings = f"{self.subject.introduction(self.user)} Beam width {self.beam}."
        history = [HISTORY, *self._recent()]
        blocks: list[Any] = [[settings, *self.sentences()], history, self._tree_figure()]
        return [*blocks, self._list().lines()] if self._list_is_ready() else blocks


def _name(node: Node) -> tuple[int, int]:
    return node.level, node.candidate


def _label(node: Node) -> str:
    return f"level {node.level}: {code_text(node.codes)}"
