"""What the widgets are made of: controls, a static form, and users with a decode for them."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import anywidget
import ipywidgets as widgets
import plotly.graph_objects as go
import traitlets

from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding import VERIFICATIONS, DecodeResult, NezhaDecoder, Verification
from nezha_lite.model import NezhaModel
from nezha_lite.plots.static_svg import WIDTH, page_svg
from nezha_lite.plots.style import CONFIG
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import SortedVerifier

DESCRIPTION = {"description_width": "120px"}
WIDE = {"width": "560px"}
NAME_LENGTH = 20
PARAGRAPH = "margin:4px 0;max-width:90ch;line-height:1.4;overflow-wrap:anywhere"
REDRAWN_TRACE = ("x", "y", "text", "hovertext", "name", "line")
REDRAWN_LAYOUT = ("title", "height", "margin", "xaxis", "yaxis")
MODES = {
    "off": "nothing is checked, so the list may hold items that do not exist",
    "final": "finished drafts are checked, and those that do not exist leave the list shorter",
    "prefix": "every level is checked, and a prefix that no item has is never followed",
}


class Panel(widgets.VBox):
    """A widget that is stored with a static form too, for pages without a kernel.

    Each says what it shows in `sentences` and, for the static form, in `blocks`. In every notebook
    its controls can be moved with the keyboard.
    """

    def __init__(self, children: Sequence[widgets.Widget] = (), **traits: Any) -> None:
        self._keys = OwnKeys()
        super().__init__(children, **traits)
        self.add_class(CLASS)

    @traitlets.validate("children")
    def _with_its_keys(self, proposal: Any) -> tuple[widgets.Widget, ...]:
        return (*(child for child in proposal.value if child is not self._keys), self._keys)

    def sentences(self) -> list[str]:
        """What is to be seen, in plain text."""
        return []

    def blocks(self) -> list[Any]:
        """What is on show without the controls: figures, and lists of plain-text lines."""
        return [self.sentences()]

    def static_svg(self) -> str:
        """The state on show, without its controls, as one SVG."""
        return page_svg(self.blocks())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return static_form(super()._repr_mimebundle_(**kwargs), self.sentences(), self.static_svg())


class Subject:
    """A model on a catalogue, and users of the test split to decode for.

    Args:
        model: trained for `semantic_ids`.
        semantic_ids: the catalogue.
        dataset: for users and titles; its items are those of `semantic_ids`, row by row.
        users: indices of users; by default some of the test split, always the same.

    Raises:
        ValueError: if the parts do not fit together, or a user has no test item.
    """

    def __init__(
        self,
        model: NezhaModel,
        semantic_ids: SemanticIds,
        dataset: InteractionDataset,
        users: Sequence[int] | None = None,
    ) -> None:
        if dataset.n_items != semantic_ids.n_items:
            raise ValueError(
                f"Data set {dataset.name!r} has {dataset.n_items} items, but the semantic IDs name "
                f"{semantic_ids.n_items}: load the two that belong together."
            )
        split = dataset.split("test")
        places = {user: place for place, user in enumerate(split.users)}
        if users is None:
            users = split.sample(min(8, len(split)), seed=0).users
        for user in users:
            if user not in places:
                raise ValueError(
                    f"User {user} is not in the test split of {dataset.name!r}: it has "
                    f"{len(split)} users with at least three interactions, out of "
                    f"{dataset.n_users}."
                )
        if not users:
            raise ValueError(f"No user of {dataset.name!r} has three interactions or more.")
        self.model, self.semantic_ids, self.dataset = model.eval(), semantic_ids, dataset
        self.verifier = SortedVerifier(semantic_ids, model.device)
        self.popularity = dataset.popularity()
        self.users = tuple(users)
        self.histories = {user: split.histories[places[user]] for user in users}
        self.targets = {user: split.targets[places[user]] for user in users}

    def decode(
        self, user: int, beam: int, verification: Verification, temperature: float = 1.0
    ) -> DecodeResult:
        """One user's list, with its trace."""
        decoder = NezhaDecoder(self.model, self.verifier, verification, temperature)
        prompts = self.model.build_prompts([self.histories[user]], self.semantic_ids)
        return decoder.decode(prompts, beam, trace=True)

    def introduction(self, user: int) -> str:
        """A user in a sentence: name, and the item chosen last."""
        last = self.dataset.title(self.histories[user][-1])
        return f"User {self.dataset.user_name(user)} last chose {last}."


class SubjectPanel(Panel):
    """A panel about a subject, which is set before the panel is made, and one of its users.

    Setting `user` to one that is not on offer is a TraitError, and changes nothing.
    """

    subject: Subject
    user = traitlets.Int()

    @traitlets.validate("user")
    def _on_offer(self, proposal: Any) -> int:
        if proposal.value not in self.subject.users:
            raise traitlets.TraitError(
                f"user is {proposal.value}, but must be one of those on offer: "
                f"{', '.join(map(str, self.subject.users))}."
            )
        return int(proposal.value)


def slider(description: str, options: Sequence[tuple[str, Any]]) -> widgets.SelectionSlider:
    """A choice among labelled values.

    Not a Dropdown: JupyterLab takes its arrow keys to move between cells.
    """
    return widgets.SelectionSlider(
        options=options, description=description, style=DESCRIPTION, layout=WIDE
    )


def at_most(proposal: Any, most: int) -> int:
    """A number that is proposed for a trait, or a TraitError if it is too large."""
    if proposal.value > most:
        raise traitlets.TraitError(
            f"{proposal.trait.name} is {proposal.value}, but must be at most {most}."
        )
    return int(proposal.value)


def discard(control: widgets.DOMWidget) -> None:
    """Close a control that is shown no more, with what it is made of, which would stay else."""
    for part in (control, control.style, control.layout):
        part.close()


def user_control(subject: Subject) -> widgets.SelectionSlider:
    """A choice among the subject's users."""
    name = subject.dataset.user_name
    return slider("User", [(name(user)[:NAME_LENGTH], user) for user in subject.users])


def verification_control() -> widgets.ToggleButtons:
    """off, final or prefix."""
    buttons = widgets.ToggleButtons(
        options=VERIFICATIONS,
        tooltips=[MODES[mode] for mode in VERIFICATIONS],
        description="Verification",
        style={**DESCRIPTION, "button_width": "80px"},
        layout=WIDE,
    )
    # Without this class, which sliders have of themselves, the label would stand above the buttons.
    buttons.add_class("widget-inline-hbox")
    return buttons


def figure_widget(figure: go.Figure) -> go.FigureWidget:
    """The live form of a figure, as wide as its static form."""
    live = go.FigureWidget(figure.data, {**figure.to_dict()["layout"], "width": WIDTH})
    live._config = {**live._config, **CONFIG}
    return live


def redraw(live: go.FigureWidget, fresh: go.Figure) -> None:
    """Let a live figure show another one made of the same kinds of traces, in the same order."""
    old, new = live.data, fresh.data
    for place, trace in enumerate(new):
        trace.uid = old[place].uid  # which makes them equal if they show the same
    changed = [place for place, trace in enumerate(new) if trace != old[place]]
    parts = [dict(_leaves(new[place].to_plotly_json(), REDRAWN_TRACE)) for place in changed]
    # One message, so that the page draws once. It has a value for each trace, even where that stays
    # as it is: plotly's own batches say "undefined" there, and the page forgets what it had.
    live.plotly_update(
        {path: [part.get(path) for part in parts] for path in set().union(*parts)},
        dict(_leaves(fresh.layout.to_plotly_json(), REDRAWN_LAYOUT)),
        changed,
    )


def _leaves(tree: Any, chosen: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The values below the chosen keys: ("xaxis.range", [0, 1]), …"""
    for key in tree.keys() & set(chosen):
        if isinstance(tree[key], dict):
            inner = _leaves(tree[key], list(tree[key]))
            yield from ((f"{key}.{path}", value) for path, value in inner)
        else:
            yield key, tree[key]


def paragraph(text: str) -> str:
    """Plain text as HTML for an `ipywidgets.HTML`."""
    return f'<p style="{PARAGRAPH}">{html.escape(text)}</p>'


def static_form(bundle: dict[str, Any], sentences: list[str], svg: str) -> dict[str, Any]:
    """A widget's MIME bundle with what a page without a kernel can show."""
    return {**bundle, "image/svg+xml": svg, "text/plain": " ".join(sentences)}


def link(owner: traitlets.HasTraits, trait: str, control: widgets.Widget) -> None:
    """Keep a trait and its control's value equal, starting from the trait."""
    traitlets.link((owner, trait), (control, "value"))


CLASS = "nezha-panel"
# Jupyter Notebook 7 hears a key before the control does, and moves between cells with the arrows,
# unless the very element in focus has this attribute.
_MARK_WHAT_IS_IN_FOCUS = f"""
export default {{
  initialize() {{
    const mark = (event) => {{
      if (event.target.closest(".{CLASS}"))
        event.target.setAttribute("data-lm-suppress-shortcuts", "true");
    }};
    document.addEventListener("focusin", mark);
    return () => document.removeEventListener("focusin", mark);
  }},
  render({{ el }}) {{
    el.hidden = true;
  }},
}};
"""


class OwnKeys(anywidget.AnyWidget):
    """Invisible: controls inside elements of class `CLASS` keep their keys."""

    _esm = _MARK_WHAT_IS_IN_FOCUS
