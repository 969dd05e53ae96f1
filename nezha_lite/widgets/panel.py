"""The base of the widgets: controls linked to traits, live figures, and a form for static pages."""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import anywidget
import ipywidgets as widgets
import plotly.graph_objects as go
import traitlets

from nezha_lite.plots.static_svg import WIDTH, page_svg
from nezha_lite.plots.style import CONFIG

DESCRIPTION = {"description_width": "120px"}
WIDE = {"width": "560px"}
WRAPPED = {"flex_flow": "row wrap"}
PARAGRAPH = "margin:4px 0;max-width:90ch;line-height:1.4;overflow-wrap:anywhere"
REDRAWN_TRACE = ("x", "y", "text", "hovertext", "name", "line")
REDRAWN_LAYOUT = ("title", "height", "margin", "xaxis", "yaxis")
CLASS = "nezha-panel"
# Jupyter Notebook 7 receives keys before the control does, and moves between cells with the arrow
# keys, unless the focused element itself has this attribute.
_KEEP_KEYS = f"""
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
NO_OPTION: tuple[str, Any] = ("none", "")  # the value of a selection must not be None
Options = Sequence[tuple[str, Any]]
"""Labels and values of a selection."""


class KeyKeeper(anywidget.AnyWidget):
    """Invisible: controls inside elements of class `CLASS` receive their keys."""

    _esm = _KEEP_KEYS


class Panel(widgets.VBox):
    """A widget with controls for its traits and a static form for pages without a kernel.

    A subclass works out its state in `compute`, makes its controls and figures in `build`, and
    describes the state in `sentences` and, for the static form, in `blocks`. In every notebook the
    controls can be moved with the keyboard.

    Attributes:
        refreshed_by: names of the traits whose change makes a new state.

    Raises:
        TypeError: for a first value of a trait that the panel does not have.
    """

    refreshed_by: tuple[str, ...] = ()

    def __init__(self, **traits: Any) -> None:
        if unknown := traits.keys() - self.traits().keys():
            own = ", ".join(self.refreshed_by)
            raise TypeError(f"{type(self).__name__} has no trait {min(unknown)!r}, but {own}.")
        self._keys = KeyKeeper()
        self._figures: list[tuple[go.FigureWidget, Callable[[], go.Figure]]] = []
        self.summary, self.table = widgets.HTML(), widgets.HTML()
        super().__init__(**traits)
        self.add_class(CLASS)
        self.compute()
        self.children = self.build()
        self.tell()
        self.observe(self.refresh, self.refreshed_by)

    @traitlets.validate("children")
    def _with_keys(self, proposal: Any) -> tuple[widgets.Widget, ...]:
        return (*(child for child in proposal.value if child is not self._keys), self._keys)

    # ---- the state --------------------------------------------------------------------------

    def compute(self, change: Any = None) -> None:
        """Work out the state from the traits, at first and after a change."""

    def build(self) -> Sequence[widgets.Widget]:
        """Controls, figures and outputs in their order; observe what does not make a new state."""
        return [self.summary]

    def tell(self) -> None:
        """Show everything but the figures."""
        self.summary.value = paragraphs(self.sentences())
        self.table.value = self.table_html()

    def refresh(self, change: Any = None) -> None:
        """Show the state after a change."""
        self.compute(change)
        self.redraw()
        self.tell()

    # ---- controls ---------------------------------------------------------------------------

    def control(
        self, trait: str, description: str, options: Options | None = None, unit: str = ""
    ) -> widgets.DOMWidget:
        """A slider that is linked to a trait, by default over all values of the trait.

        Args:
            trait: without `options` an Enum of numbers, or an Int with min and max.
            description: stands before the slider.
            options: labels and values.
            unit: stands after each number of an Enum.
        """
        kind: Any = self.traits()[trait]
        if options is None and isinstance(kind, traitlets.Enum):
            options = [(f"{number:,g}{unit}", number) for number in kind.values or ()]
        if options is not None:
            return self.link(trait, slider(description, options))
        limits = {"min": kind.min, "max": kind.max, "description": description}
        return self.link(trait, widgets.IntSlider(**limits, style=DESCRIPTION, layout=WIDE))

    def link(self, trait: str, control: widgets.DOMWidget) -> widgets.DOMWidget:
        """Keep the control's value equal to the trait, starting from the trait."""
        traitlets.link((self, trait), (control, "value"))
        return control

    def checkboxes(
        self, trait: str, labels: Mapping[str, str], layout: Mapping[str, str]
    ) -> dict[str, widgets.Checkbox]:
        """A checkbox for each value that a tuple trait may hold, linked to the trait.

        Args:
            trait: its validator brings the values into their order.
            labels: value to description.
            layout: of each box.
        """
        boxes = {
            value: widgets.Checkbox(description=label, indent=False, layout=layout)
            for value, label in labels.items()
        }

        def show(change: Any = None) -> None:
            values = getattr(self, trait)
            for value, box in boxes.items():
                box.value = value in values

        def toggle(value: str, change: Any) -> None:
            others = tuple(other for other in getattr(self, trait) if other != value)
            setattr(self, trait, (*others, value) if change.new else others)

        show()
        for value, box in boxes.items():
            box.observe(partial(toggle, value), "value")
        self.observe(show, trait)
        return boxes

    # ---- what is shown ----------------------------------------------------------------------

    def live(self, draw: Callable[[], go.Figure]) -> go.FigureWidget:
        """A live figure, as `draw` draws it now and at each `redraw`.

        It must be drawn in its first state: a page that is still loading may miss a redrawing.
        """
        figure = figure_widget(draw())
        self._figures.append((figure, draw))
        return figure

    def redraw(self) -> None:
        """Draw all live figures again."""
        for figure, draw in self._figures:
            redraw(figure, draw())

    def sentences(self) -> list[str]:
        """The state on show, in plain text."""
        return []

    def table_html(self) -> str:
        """The table on show, if there is one."""
        return ""

    def blocks(self) -> list[Any]:
        """The state on show without controls: figures, and lists of plain-text lines."""
        return [self.sentences()]

    def static_svg(self) -> str:
        """The state on show without controls, as one SVG."""
        return page_svg(self.blocks())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        live = super()._repr_mimebundle_(**kwargs)
        words = " ".join(self.sentences())
        return {**live, "image/svg+xml": self.static_svg(), "text/plain": words}


class ChoiceBox(widgets.HBox):
    """A slider whose options change, and its buttons; disabled without options.

    Args:
        name: description of the slider.
        actions: description of each button, and what it does.
        on_choice: receives every new value of the slider.
        empty: the only option, label and value, where there are none.
    """

    def __init__(
        self,
        name: str,
        actions: dict[str, Callable[[], None]] | None = None,
        on_choice: Callable[[Any], None] = lambda value: None,
        empty: tuple[str, Any] = NO_OPTION,
    ) -> None:
        self.name, self.on_choice, self.empty = name, on_choice, empty
        # Only the slider's own box changes, so that a pressed button keeps the keyboard's focus.
        self.holder = widgets.Box([self._slider([empty])])
        self.buttons = [widgets.Button(description=text) for text in actions or {}]
        for button, action in zip(self.buttons, (actions or {}).values(), strict=True):
            button.on_click(partial(self._press, action))
        super().__init__([self.holder, *self.buttons])
        self._name_choice()

    def _name_choice(self) -> None:
        """Say in the buttons' tooltips what they act on, by the label of the slider's option."""
        for button in self.buttons:
            button.tooltip = f"{button.description}: {self.slider.label}"

    def _press(self, action: Callable[[], None], button: widgets.Button) -> None:
        if not button.disabled:  # a second click may arrive before the page shows it disabled
            action()

    @property
    def slider(self) -> widgets.SelectionSlider:
        """The current slider."""
        return self.holder.children[0]

    def offer(self, options: list[tuple[str, Any]]) -> None:
        """Replace the options; the slider keeps its index as far as there are enough options."""
        for button in self.buttons:
            button.disabled = not options
        options, old = options or [self.empty], self.slider
        if list(old.options) != options:
            # A new slider: one whose options are replaced keeps its old end for the key End.
            self.holder.children = [self._slider(options, old.index)]
            # Closed with its style and layout, which would stay.
            for part in (old, old.style, old.layout):
                part.close()
            self._name_choice()

    def choose(self, value: Any) -> None:
        """Move to a value, if it is an option."""
        if value in [option for _, option in self.slider.options]:
            self.slider.value = value

    def _slider(self, options: list[tuple[str, Any]], index: int = 0) -> widgets.SelectionSlider:
        new = slider(self.name, options)
        new.index = min(index, len(options) - 1)
        new.disabled = options == [self.empty]
        new.observe(lambda change: self.on_choice(change.new), "value")
        new.observe(lambda _: self._name_choice(), "index")
        return new


# ---- single controls and figures ----------------------------------------------------------------


def slider(description: str, options: Options) -> widgets.SelectionSlider:
    """A choice among labelled values.

    Not a Dropdown: JupyterLab uses the arrow keys in it to move between cells.
    """
    return widgets.SelectionSlider(
        options=options, description=description, style=DESCRIPTION, layout=WIDE
    )


def toggle_buttons(
    description: str, options: Sequence[Any], width: str = "auto", tooltips: Sequence[str] = ()
) -> widgets.ToggleButtons:
    """A choice among a few values, all in sight."""
    buttons = widgets.ToggleButtons(
        options=options,
        tooltips=tooltips,
        description=description,
        style={**DESCRIPTION, "button_width": width},
        layout=WIDE,
    )
    # Sliders have this class by themselves. Without it, the label stands above the buttons.
    buttons.add_class("widget-inline-hbox")
    return buttons


def figure_widget(figure: go.Figure) -> go.FigureWidget:
    """The live form of a figure, as wide as its static form."""
    live = go.FigureWidget(figure.data, {**figure.to_dict()["layout"], "width": WIDTH})
    live._config = {**live._config, **CONFIG}
    return live


def redraw(live: go.FigureWidget, figure: go.Figure) -> None:
    """Let a live figure show another one with the same kinds of traces in the same order."""
    old, new = live.data, figure.data
    for index, trace in enumerate(new):
        trace.uid = old[index].uid  # which makes them equal if they show the same
    changed = [index for index, trace in enumerate(new) if trace != old[index]]
    updates = [dict(_leaves(new[index].to_plotly_json(), REDRAWN_TRACE)) for index in changed]
    # One message, so that the page draws once. It has a value for each trace, even for one that
    # does not change: plotly's own batches say "undefined" there, and the page loses the old value.
    live.plotly_update(
        {path: [update.get(path) for update in updates] for path in set().union(*updates)},
        dict(_leaves(figure.layout.to_plotly_json(), REDRAWN_LAYOUT)),
        changed,
    )


def _leaves(tree: Any, keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The values below these keys: ("xaxis.range", [0, 1]), …"""
    for key in tree.keys() & set(keys):
        if isinstance(tree[key], dict):
            yield from ((f"{key}.{path}", value) for path, value in _leaves(tree[key], tree[key]))
        else:
            yield key, tree[key]


def paragraph(text: str) -> str:
    """Plain text as HTML for an `ipywidgets.HTML`."""
    return f'<p style="{PARAGRAPH}">{html.escape(text)}</p>'


def paragraphs(texts: Iterable[str]) -> str:
    """Plain texts as HTML, one paragraph each."""
    return "".join(map(paragraph, texts))


def times(count: int) -> str:
    """How often: "once", "3 times"."""
    return "once" if count == 1 else f"{count} times"


# ---- checks of traits ---------------------------------------------------------------------------


def check_trait(proposal: Any, valid: bool, rule: str) -> Any:
    """The value proposed for a trait, or a TraitError that states the rule."""
    if not valid:
        raise traitlets.TraitError(
            f"{proposal.trait.name} is {proposal.value!r}, but must be {rule}."
        )
    return proposal.value


def at_most(proposal: Any, limit: int) -> Any:
    """The number proposed for a trait, or a TraitError if it is above the limit."""
    return check_trait(proposal, proposal.value <= limit, f"at most {limit}")


def one_of(proposal: Any, values: Collection[Any]) -> Any:
    """The value proposed for a trait, or a TraitError if it is not among these."""
    return check_trait(proposal, proposal.value in values, f"one of {', '.join(map(str, values))}")


def some_of(proposal: Any, values: Collection[str]) -> tuple[str, ...]:
    """The tuple proposed for a trait, in the order of these values; a TraitError for others."""
    check_trait(proposal, {*proposal.value} <= {*values}, f"some of {', '.join(values)}")
    return tuple(value for value in values if value in proposal.value)
