"""The base of the widgets: controls linked to traits, live figures, and a form for static pages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import plotly.graph_objects as go
import traitlets

from nezha_lite.plots.static_svg import WIDTH, page_svg
from nezha_lite.plots.style import CONFIG
from nezha_lite.widgets.tables import Table, paragraphs

HERE = Path(__file__).parent
STYLE = {"description_width": "initial"}
SLIDER, MENU = {"width": "330px"}, {"width": "auto", "max_width": "340px"}
REDRAWN_TRACE = ("x", "y", "text", "hovertext", "name", "line")
REDRAWN_LAYOUT = ("title", "height", "margin", "xaxis", "yaxis")
NO_OPTION: tuple[str, Any] = ("none", "")  # the value of a selection must not be None
Drawings = Sequence[Callable[[], go.Figure]]
Options = Sequence[tuple[str, Any]]
"""Labels and values of a selection."""


class PageStyle(anywidget.AnyWidget):
    """Invisible: brings the style sheet, and lets the controls of panels receive their keys."""

    _esm = (HERE / "panel.js").read_text(encoding="utf-8")
    _css = (HERE / "panel.css").read_text(encoding="utf-8")


class Panel(widgets.VBox):
    """A widget with controls for its traits and a static form for pages without a kernel.

    A subclass works out its state in `compute`, offers `controls`, draws `drawings`, and describes
    the state in `sentences` and `tables`. All else is optional. In every notebook the controls can
    be moved with the keyboard.

    Attributes:
        refreshed_by: names of the traits whose change makes a new state.
        figures: the live figures, one for each of `drawings`.

    Raises:
        TypeError: for a first value of a trait that the panel does not have.
    """

    refreshed_by: tuple[str, ...] = ()

    def __init__(self, **traits: Any) -> None:
        if unknown := traits.keys() - self.traits().keys():
            own = ", ".join(self.refreshed_by)
            raise TypeError(f"{type(self).__name__} has no trait {min(unknown)!r}, but {own}.")
        self._style = PageStyle()
        self.summary, self.table = widgets.HTML(), widgets.HTML()
        super().__init__(**traits)
        self.add_class("nezha-panel")
        self.compute()
        # Drawn in their first state: a page that is still loading may miss a redrawing.
        self.figures = [figure_widget(draw()) for draw in self.drawings()]
        self.children = (*self.build(), self._style)
        self.tell()
        self.observe(self.refresh, self.refreshed_by)

    # ---- the state --------------------------------------------------------------------------

    def compute(self, change: Any = None) -> None:
        """Work out the state from the traits, at first and after a change."""

    def controls(self) -> Sequence[widgets.Widget]:
        """The controls of the row above everything."""
        return []

    def drawings(self) -> Drawings:
        """What draws each figure; its traces are always of the same kinds in the same order."""
        return []

    def build(self) -> Sequence[widgets.Widget]:
        """Everything in its order; observe here what does not make a new state."""
        return [row(*self.controls()), columns(self.figures, [self.summary, self.table])]

    @property
    def figure(self) -> go.FigureWidget:
        """The first live figure."""
        return self.figures[0]

    def redraw(self) -> None:
        """Draw all live figures again."""
        for figure, draw in zip(self.figures, self.drawings(), strict=True):
            redraw(figure, draw())

    def tell(self) -> None:
        """Show everything but the figures."""
        self.summary.value = paragraphs(self.sentences())
        self.table.value = "".join(table.html() for table in self.tables())

    def refresh(self, change: Any = None) -> None:
        """Show the state after a change."""
        self.compute(change)
        self.redraw()
        self.tell()

    # ---- controls ---------------------------------------------------------------------------

    def slider(
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
        shape = {"description": description, "style": STYLE, "layout": SLIDER}
        if options is None:
            return self.link(trait, widgets.IntSlider(min=kind.min, max=kind.max, **shape))
        return self.link(trait, widgets.SelectionSlider(options=options, **shape))

    def menu(self, trait: str, description: str, options: Options) -> widgets.DOMWidget:
        """A choice among names that is linked to a trait."""
        return self.link(trait, menu(description, options))

    def buttons(
        self, trait: str, description: str, options: Sequence[Any], tooltips: Sequence[str] = ()
    ) -> widgets.DOMWidget:
        """A choice among a few values, all in sight, that is linked to a trait."""
        shape = {"options": options, "tooltips": tooltips, "description": description}
        toggles = widgets.ToggleButtons(**shape, style={**STYLE, "button_width": "auto"})
        # Sliders have this class by themselves. Without it, the label stands above the buttons.
        return self.link(trait, toggles.add_class("widget-inline-hbox"))

    def link(self, trait: str, control: widgets.DOMWidget) -> widgets.DOMWidget:
        """Keep the control's value equal to the trait, starting from the trait."""
        traitlets.link((self, trait), (control, "value"))
        return control

    def checkboxes(self, trait: str, labels: Mapping[str, str]) -> dict[str, widgets.Checkbox]:
        """A checkbox for each value that a tuple trait may hold, linked to the trait.

        Args:
            trait: its validator brings the values into their order.
            labels: value to description.
        """
        boxes = {
            value: widgets.Checkbox(description=label, indent=False, layout={"width": "auto"})
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

    def sentences(self) -> list[str]:
        """The state on show, in plain text."""
        return []

    def tables(self) -> Sequence[Table]:
        """The tables on show."""
        return []

    def blocks(self) -> list[Any]:
        """The state on show without controls: figures, and lists of plain-text lines."""
        figures, tables = [draw() for draw in self.drawings()], self.tables()
        return [self.sentences(), *figures, *(table.lines() for table in tables)]

    def static_svg(self) -> str:
        """The state on show without controls, as one SVG."""
        return page_svg(self.blocks())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        live = super()._repr_mimebundle_(**kwargs)
        words = " ".join(self.sentences())
        return {**live, "image/svg+xml": self.static_svg(), "text/plain": words}


class ChoiceBox(widgets.HBox):
    """A menu whose options change, and its buttons; disabled without options.

    Args:
        name: description of the menu.
        actions: description of each button, and what it does.
        on_choice: receives every value that is chosen from the menu.
        empty: the only option, label and value, where there are none.
    """

    def __init__(
        self,
        name: str,
        actions: dict[str, Callable[[], None]] | None = None,
        on_choice: Callable[[Any], None] = lambda value: None,
        empty: tuple[str, Any] = NO_OPTION,
    ) -> None:
        self.on_choice, self.empty, self._offering = on_choice, empty, False
        self.menu = menu(name, [empty])
        self.menu.disabled = True
        self.buttons = [
            widgets.Button(description=text, layout={"width": "auto"}) for text in actions or {}
        ]
        for button, action in zip(self.buttons, (actions or {}).values(), strict=True):
            button.on_click(partial(self._press, action))
        super().__init__([self.menu, *self.buttons])
        self.menu.observe(self._chosen, "value")
        self._name_choice()

    def offer(self, options: list[tuple[str, Any]]) -> None:
        """Replace the options; the menu keeps its index as far as there are enough options."""
        self.menu.disabled = not options
        for button in self.buttons:
            button.disabled = not options
        options, index = options or [self.empty], self.menu.index
        if list(self.menu.options) != options:
            self._offering = True  # which moves the menu to its first option for a moment
            self.menu.options = options
            self.menu.index = min(index, len(options) - 1)
            self._offering = False
        self._name_choice()

    def choose(self, value: Any) -> None:
        """Move to a value, if it is an option."""
        if value in [option for _, option in self.menu.options]:
            self.menu.value = value

    def _chosen(self, change: Any) -> None:
        if not self._offering:
            self._name_choice()
            self.on_choice(change.new)

    def _name_choice(self) -> None:
        """Say in the buttons' tooltips what they act on, by the label of the menu's option."""
        for button in self.buttons:
            button.tooltip = f"{button.description}: {self.menu.label}"

    def _press(self, action: Callable[[], None], button: widgets.Button) -> None:
        if not button.disabled:  # a second click may arrive before the page shows it disabled
            action()


# ---- layout, single controls and figures ---------------------------------------------------------


def row(*children: widgets.Widget) -> widgets.Box:
    """Controls beside each other, in further rows where one is too short."""
    return widgets.Box(children).add_class("nezha-row")


def columns(left: Sequence[widgets.Widget], right: Sequence[widgets.Widget]) -> widgets.Box:
    """Two columns where the page is wide enough, else the left one above the right one."""
    boxes = [widgets.VBox(list(left)), widgets.VBox(list(right))]
    return widgets.Box(boxes).add_class("nezha-columns")


def menu(description: str, options: Options) -> widgets.Dropdown:
    """A choice among names."""
    return widgets.Dropdown(options=options, description=description, style=STYLE, layout=MENU)


def figure_widget(figure: go.Figure) -> go.FigureWidget:
    """The live form of a figure, as wide as its static form."""
    live = go.FigureWidget(figure.data, {**figure.to_dict()["layout"], "width": WIDTH})
    live._config = {**live._config, **CONFIG}
    return live.add_class("nezha-figure")


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
