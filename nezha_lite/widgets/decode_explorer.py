"""One decode, step by step: the history, the beams of each level, and why a draft fell."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go
import traitlets

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import VERIFICATIONS, DecodeResult, Verification
from nezha_lite.model import NezhaModel
from nezha_lite.plots import Node, beam_nodes
from nezha_lite.plots.beam_figures import FATES, PlacedNode, place_nodes, tree_parts
from nezha_lite.plots.style import Figure
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.widgets.choice_box import ChoiceBox
from nezha_lite.widgets.decode_explanations import step_sentence, why
from nezha_lite.widgets.item_list import list_html, list_lines, list_rows
from nezha_lite.widgets.panel import (
    DESCRIPTION,
    MODES,
    WIDE,
    Subject,
    SubjectPanel,
    at_most,
    figure_widget,
    link,
    paragraph,
    redraw,
    slider,
    user_control,
    verification_control,
)

MAX_BEAM, SHOWN_HISTORY, SHOWN_PLACES = 64, 10, 20
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)
HISTORY = f"The last items of the history (at most {SHOWN_HISTORY}), oldest first:"
NO_DRAFT: tuple[str, tuple[int, ...]] = ("none", ())
HOW_TO_ASK = (
    "Click on a mark of the tree, or choose a draft with the slider, to read why it lived or fell."
)
FIRST_FATE = 3  # traces before it: edges, labels, root
RING = go.Scatter(
    x=[],
    y=[],
    mode="markers",
    marker={"symbol": "circle-open", "size": 20, "color": "#000000", "line": {"width": 2.5}},
    hoverinfo="skip",
    showlegend=False,
)
CARD = (
    "display:inline-block;border:1px solid #999;border-radius:4px;padding:4px 8px;margin:2px;"
    "max-width:24ch;line-height:1.3;vertical-align:top;overflow-wrap:anywhere"
)


class DecodeExplorer(SubjectPanel):
    """Step through a decode, and ask any draft why it lived or fell.

    Args:
        model: a trained model.
        semantic_ids: the catalogue it was trained for.
        dataset: for users and titles.
        users: indices of the users on offer; by default eight of the test split.
        beam: beam width at first, 1 to 64.
        verification: "off", "final" or "prefix" at first.
        temperature: of the drafts at first: 0.25, 0.5, 1, 2 or 4.
        max_pruned: existing candidates shown at each level that the beam had no room for.

    The traits `user`, `beam`, `verification`, `temperature`, `step` and `node` may be set and
    observed. `step` is 0 after the prompt was read, l after level l, and L + 1 when the list is
    ready; `node` is the (level, candidate) being explained, or (). `result` is the `DecodeResult`
    on show, or None where decoding failed; the widget then says why.
    """

    beam = traitlets.Int(min=1, max=MAX_BEAM)
    verification = traitlets.Enum(VERIFICATIONS)
    temperature = traitlets.Enum(TEMPERATURES)
    step = traitlets.Int(min=0)
    node: Any = traitlets.Tuple()

    def __init__(
        self,
        model: NezhaModel,
        semantic_ids: SemanticIds,
        dataset: InteractionDataset,
        users: Sequence[int] | None = None,
        beam: int = 10,
        verification: Verification = "prefix",
        temperature: float = 1.0,
        max_pruned: int = 3,
    ) -> None:
        self.subject = Subject(model, semantic_ids, dataset, users)
        self.max_pruned = max_pruned
        self.result: DecodeResult | None = None
        self.problem = ""
        self.placed: list[PlacedNode] = []
        self.history, self.summary = widgets.HTML(), widgets.HTML()
        self.explanation, self.table = widgets.HTML(), widgets.HTML()
        user_choice, verification_choice = user_control(self.subject), verification_control()
        beam_choice = widgets.IntSlider(
            min=1, max=MAX_BEAM, description="Beam width", style=DESCRIPTION, layout=WIDE
        )
        warmth = slider("Temperature", [(f"{value:g}", value) for value in TEMPERATURES])
        finished = semantic_ids.levels + 1
        steps = ["prompt", *(f"level {n}" for n in range(1, finished)), "list"]
        step_choice = slider("Step", [(name, number) for number, name in enumerate(steps)])
        onward = widgets.Button(
            description="Next step",
            tooltip="Go on to the next step, and after the list back to the prompt",
            layout={"width": "120px", "margin": "2px 2px 2px 126px"},
        )
        onward.on_click(lambda _: self.next_step())
        self.node_choice = ChoiceBox("Explain draft", chosen=self._ask)
        super().__init__(
            user=self.subject.users[0],
            beam=beam,
            verification=verification,
            temperature=temperature,
            step=finished,
        )
        self._decode()
        # Drawn at once as it is to be: a page that is still loading may miss a redrawing.
        self.figure = figure_widget(self._figure())
        for trace in self.figure.data[FIRST_FATE:-1]:
            trace.on_click(self._clicked)
        self._tell()
        self._explain()
        controls = [user_choice, beam_choice, verification_choice, warmth, step_choice, onward]
        outputs = [self.figure, self.node_choice, self.explanation, self.table]
        self.children = [*controls, self.history, self.summary, *outputs]
        link(self, "user", user_choice)
        link(self, "beam", beam_choice)
        link(self, "verification", verification_choice)
        link(self, "temperature", warmth)
        link(self, "step", step_choice)
        self.observe(self._refresh, ["user", "beam", "verification", "temperature"])
        self.observe(self._draw, "step")
        self.observe(self._explain, "node")

    @traitlets.validate("step")
    def _a_step(self, proposal: Any) -> int:
        return at_most(proposal, self.subject.semantic_ids.levels + 1)

    # ---- reactions --------------------------------------------------------------------------

    def next_step(self) -> None:
        """Go on by one step; after the list the prompt comes again."""
        self.step = (self.step + 1) % (self.subject.semantic_ids.levels + 2)

    def _decode(self) -> None:
        try:
            self.result = self.subject.decode(
                self.user, self.beam, self.verification, self.temperature
            )
        except ValueError as error:
            self.result, self.problem, self.placed = None, str(error), []
        else:
            assert self.result.trace is not None  # asked for
            self.problem = ""
            self.placed = place_nodes(beam_nodes(self.result.trace, 0, self.max_pruned))

    def _refresh(self, change: Any = None) -> None:
        self._decode()
        self._draw()

    def _draw(self, change: Any = None) -> None:
        redraw(self.figure, self._figure())
        self._tell()

    def _tell(self) -> None:
        """Everything but the figure."""
        self.history.value = self._history_html()
        shown = [node for node in self._nodes() if node.level <= self.step]
        options = [NO_DRAFT, *((_option(node), _name(node)) for node in shown)]
        keep = self.node if self.node in [value for _, value in options] else ()
        self.node = keep
        self.node_choice.offer(options)
        self.node_choice.choose(keep)
        self.summary.value = "".join(map(paragraph, self.sentences()))
        finished = self.result is not None and self.step > self.subject.semantic_ids.levels
        self.table.value = list_html(*self._list()) if finished else ""

    def _clicked(self, trace: Any, points: Any, state: Any) -> None:
        for index in points.point_inds:
            fate = list(FATES)[points.trace_index - FIRST_FATE]
            nodes = [row.node for row in self.placed if row.node.fate is fate]
            self.node = _name(nodes[index])

    def _ask(self, name: Any) -> None:
        self.node = name

    def _explain(self, change: Any = None) -> None:
        self.node_choice.choose(self.node)
        self.figure.data[-1].update(self._spot())
        chosen = next((node for node in self._nodes() if _name(node) == self.node), None)
        self.explanation.value = paragraph(self.explain(chosen) if chosen else HOW_TO_ASK)

    # ---- what is said -----------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """What is to be seen at this step, or what went wrong, in plain text."""
        if self.result is None:
            return [self.problem]
        lines = [f"Verification {self.verification}: {MODES[self.verification]}."]
        if self.temperature != 1:
            effect = "the beam spreads" if self.temperature > 1 else "likely first codes win"
            lines.append(f"Temperature {self.temperature:g}: {effect}.")
        levels = self.subject.semantic_ids.levels
        return [*lines, step_sentence(self.result, self._nodes(), self.step, levels)]

    def explain(self, node: Node) -> str:
        """Why a draft lived or fell, in plain text."""
        return why(node, self._nodes(), self.subject.semantic_ids, self.subject.dataset)

    def _nodes(self) -> list[Node]:
        return [row.node for row in self.placed]

    # ---- what is drawn ----------------------------------------------------------------------

    def _tree(self, upto: int) -> tuple[Any, Any]:
        ids = self.subject.semantic_ids
        return tree_parts(self.placed, ids.levels, upto, ids, self.subject.dataset, "The beam tree")

    def _figure(self) -> Figure:
        traces, layout = self._tree(upto=self.step)
        return Figure([*traces, go.Scatter(RING).update(self._spot())], layout)

    def _spot(self) -> dict[str, list[float]]:
        """Where the draft that is being explained stands."""
        placed = next((row for row in self.placed if _name(row.node) == self.node), None)
        return {"x": [placed.node.level], "y": [placed.y]} if placed else {"x": [], "y": []}

    def _recent(self) -> list[str]:
        history = self.subject.histories[self.user][-SHOWN_HISTORY:]
        return [self.subject.dataset.title(item) for item in history]

    def _history_html(self) -> str:
        cards = "".join(f'<li style="{CARD}">{html.escape(title)}</li>' for title in self._recent())
        return (
            f"{paragraph(HISTORY)}"
            f'<ol style="list-style:none;margin:0;padding:0;max-width:760px">{cards}</ol>'
        )

    def _list(self) -> tuple[Any, ...]:
        assert self.result is not None
        subject = self.subject
        rows = list_rows(self.result, 0, subject.semantic_ids, subject.popularity)
        missing = sum(not row.items for row in rows)
        caption = f"{len(rows)} of {self.beam} places are filled; {missing} of them name no item."
        target = self.subject.targets[self.user]
        return rows[:SHOWN_PLACES], self.subject.dataset, caption, target

    def blocks(self) -> list[Any]:
        """The step on show: settings, history, tree, and the finished list."""
        settings = f"{self.subject.introduction(self.user)} Beam width {self.beam}."
        history = [HISTORY, *self._recent()]
        blocks: list[Any] = [[settings, *self.sentences()], history, Figure(*self._tree(self.step))]
        if self.result is not None and self.step > self.subject.semantic_ids.levels:
            blocks.append(list_lines(*self._list()))
        return blocks


def _name(node: Node) -> tuple[int, int]:
    return node.level, node.candidate


def _option(node: Node) -> str:
    return f"level {node.level}: {'-'.join(map(str, node.codes))}"
