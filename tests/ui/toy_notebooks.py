"""Throwaway notebooks around one widget each, and a reader's hands and eyes.

Their items have hostile titles: `HOSTILE` is the first lines of a notebook's set-up.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from tests.ui.chromium import SCREENSHOTS
from tests.ui.lab import Lab, Notebook

HOSTILE = r"""
image = '<img src=x onerror="hacked = 1">'
hostile = ["<script>hacked = 1</script>", image, "Salt & <b>Pepper</b>"]
hostile += ["</table></div><h1>gone</h1>", "\u202egnp.exe", "=1+1", "long" * 250_000, "$x^2$"]
"""

# A model of such a shop: `model, ids, dataset` are what most widgets are made of.
SHOP = (
    HOSTILE
    + """
import torch
from nezha_lite import InteractionDataset, NezhaModel, SemanticIds
from nezha_lite.datasets import ItemText

draw = torch.Generator().manual_seed(1)
ids = SemanticIds.from_codes(torch.randint(0, 8, (90, 3), generator=draw), (8, 8, 8))
sequences = tuple(map(tuple, torch.randint(0, 90, (12, 15), generator=draw).tolist()))
texts = tuple(ItemText(f"Thing {item} {hostile[item % len(hostile)]}") for item in range(90))
dataset = InteractionDataset("toy", ids.items, tuple(map(str, range(12))), sequences, texts)
model = NezhaModel.from_preset("tiny", ids)
"""
)


def toy_notebooks(
    browser: Browser, folder: Path, setup: str, calls: Mapping[str, str]
) -> Iterator[Lab]:
    """A lab with one notebook for each of `calls` (file name to expression), after `setup`."""
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    for name, call in calls.items():
        write_notebook(notebooks / name, setup, call)
    with Lab(browser, notebooks, folder / "workspace", SCREENSHOTS) as running:
        yield running


def write_notebook(path: Path, *sources: str) -> None:
    """A notebook with these cells of code, not run."""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = {
        "cells": [_cell(source) for source in sources],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    path.write_text(json.dumps(notebook), encoding="utf-8")


def widget_in(notebook: Notebook, control: str) -> Locator:
    """The widget that holds a control of this description, scrolled to."""
    label = notebook.page.locator(".widget-label", has_text=re.compile(f"^{control}$"))
    box = notebook.page.locator(".jp-OutputArea-output", has=label).first
    expect(box).to_be_visible(timeout=60_000)
    expect(box.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=60_000)
    notebook.page.set_viewport_size({"width": 1280, "height": 1700})  # room for a whole widget
    box.scroll_into_view_if_needed()
    return box


def control_of(box: Locator, name: str) -> Locator:
    """The slider or menu of this description."""
    label = box.page.locator(".widget-label", has_text=re.compile(f"^{re.escape(name)}$"))
    return box.locator(".widget-inline-hbox", has=label)


def value_of(box: Locator, name: str) -> str:
    """What a slider or menu says; the page knows at once, the kernel a moment later."""
    control = control_of(box, name)
    menu = control.locator("select")
    return menu.input_value() if menu.count() else control.locator(".widget-readout").inner_text()


def slide(box: Locator, control: str, key: str, times: int = 1) -> None:
    """Move a slider or a menu with the keyboard."""
    handle = control_of(box, control).locator("[role=slider], select")
    handle.focus()
    for _ in range(times):
        handle.press(key)


def expect_ready(box: Locator, control: str, button: Locator) -> None:
    """Wait until the kernel knows the choice: a click may overtake a menu's last change."""
    shown = value_of(box, control)
    expect(button).to_have_attribute("title", re.compile(re.escape(f": {shown}") + "$"))


def shoot(box: Locator, name: str) -> Path:
    """Keep a picture of it among the screenshots."""
    path = SCREENSHOTS / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    box.screenshot(path=path)
    return path


def eventually(page: Page, holds: Callable[[], bool]) -> None:
    """Wait until it holds: figures are redrawn a moment after texts have changed."""
    for _ in range(50):
        if holds():
            return
        page.wait_for_timeout(200)
    raise AssertionError("it did not come to hold within 10 seconds")


def click_until(mark: Locator, told: Locator) -> None:
    """Click a mark until the page tells of it: it may be redrawn under the mouse."""

    def told_on_click() -> bool:
        mark.click(force=True)
        mark.page.wait_for_timeout(500)
        return told.is_visible()

    eventually(mark.page, told_on_click)


def assert_titles_stayed_text(page: Page) -> None:
    """What `HOSTILE` would have done to the page, it did not do."""
    shown = page.get_by_text(re.compile("<script>hacked = 1</script>|<b>Pepper</b>"))
    expect(shown.first).to_be_attached()  # the options of a closed menu are hidden
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("b", has_text="Pepper").count() == 0
    assert page.get_by_role("heading", name="gone").count() == 0
    assert "\u202e" not in page.inner_text("body")
    assert page.locator(".MathJax, mjx-container").count() == 0


def _cell(source: str) -> dict[str, object]:
    code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return {**code, "source": source.strip()}
