"""Throwaway notebooks around one widget each, and how a reader's hands get to a widget."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from conftest import SCREENSHOTS
from lab import Lab, Notebook
from playwright.sync_api import Browser, Locator, expect


def toy_notebooks(
    browser: Browser, folder: Path, setup: str, calls: Mapping[str, str]
) -> Iterator[Lab]:
    """A lab with one notebook for each of `calls` (file name to expression), after `setup`."""
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    for name, call in calls.items():
        notebook = {
            "cells": [_cell(setup), _cell(call)],
            "metadata": {"kernelspec": kernel},
            "nbformat": 4,
            "nbformat_minor": 4,
        }
        (notebooks / name).write_text(json.dumps(notebook), encoding="utf-8")
    with Lab(browser, notebooks, folder / "workspace", SCREENSHOTS) as running:
        yield running


def widget_in(notebook: Notebook, control: str) -> Locator:
    """The widget that holds a control of this description, scrolled to."""
    label = notebook.page.locator(".widget-label", has_text=re.compile(f"^{control}$"))
    box = notebook.page.locator(".jp-OutputArea-output", has=label).first
    expect(box).to_be_visible(timeout=60_000)
    expect(box.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=60_000)
    notebook.page.set_viewport_size({"width": 1280, "height": 1700})  # room for a whole widget
    box.scroll_into_view_if_needed()
    return box


def slide(box: Locator, control: str, key: str, times: int = 1) -> None:
    """Move a slider with the keyboard."""
    handle = box.locator(".widget-slider", has_text=control).get_by_role("slider")
    handle.focus()
    for _ in range(times):
        handle.press(key)


def _cell(source: str) -> dict[str, object]:
    code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return {**code, "source": source.strip()}
