"""A slider whose options change, with the buttons that act on what it stands at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets as widgets

from nezha_lite.widgets.panel import discard, slider

NONE: tuple[str, Any] = ("none", "")  # a selection's value must not be None


class ChoiceBox(widgets.HBox):
    """A slider and its buttons; without options it says "none", and cannot be used.

    Args:
        name: what the slider is called.
        actions: names of buttons, and what each does.
        chosen: told of every value that is chosen; "" where there is none.
    """

    def __init__(
        self,
        name: str,
        actions: dict[str, Callable[[], None]] | None = None,
        chosen: Callable[[Any], None] = lambda value: None,
    ) -> None:
        self.name, self.chosen = name, chosen
        # The slider's own box changes, so that a pressed button keeps the keyboard's focus.
        self.place = widgets.Box([self._slider([NONE])])
        self.buttons = [widgets.Button(description=text) for text in actions or {}]
        for button, action in zip(self.buttons, (actions or {}).values(), strict=True):
            button.on_click(partial(self._pressed, action))
        super().__init__([self.place, *self.buttons])

    def _pressed(self, action: Callable[[], None], button: widgets.Button) -> None:
        if not button.disabled:  # a second click may come before the page hears of it
            action()

    @property
    def slider(self) -> widgets.SelectionSlider:
        """The slider as it is now."""
        return self.place.children[0]

    def offer(self, options: list[tuple[str, Any]]) -> None:
        """Replace the options; the slider stays at its place among them, as far as it can."""
        for button in self.buttons:
            button.disabled = not options
        options, old = options or [NONE], self.slider
        if list(old.options) != options:
            # A new slider: one whose options are replaced keeps its old end for the key End.
            self.place.children = [self._slider(options, old.index)]
            discard(old)

    def choose(self, value: Any) -> None:
        """Move to a value, if it is on offer."""
        if value in [option for _, option in self.slider.options]:
            self.slider.value = value

    def _slider(self, options: list[tuple[str, Any]], index: int = 0) -> widgets.SelectionSlider:
        choice = slider(self.name, options)
        choice.index = min(index, len(options) - 1)
        choice.disabled = options == [NONE]
        choice.observe(lambda change: self.chosen(change.new), "value")
        return choice
