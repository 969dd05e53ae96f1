"""The harness itself: what it must notice, on a small course made for the purpose."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.ui.lab import Lab

SLIDER = """
import ipywidgets as widgets
slider = widgets.IntSlider(value=3, max=9, description="n")
square = widgets.HTML("square: 9")
slider.observe(lambda change: setattr(square, "value", f"square: {change.new**2}"), "value")
widgets.VBox([slider, square])
"""


def code(source: str, *tags: str) -> dict[str, object]:
    return {
        "cell_type": "code",
        "execution_count": 1,  # as in a stored notebook: a run must clear it
        "id": f"cell-{abs(hash(source)) % 10**8}",
        "metadata": {"tags": list(tags)},
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "stale output"}],
        "source": source.strip(),
    }


def write(path: Path, *cells: dict[str, object]) -> None:
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = {
        "cells": cells,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(notebook), encoding="utf-8")


@pytest.fixture(scope="module")
def small_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("small")
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    (folder / "data").mkdir()
    (folder / "data" / "note.txt").write_text("beside the notebooks", encoding="utf-8")
    write(
        notebooks / "good.ipynb",
        code("gpu_only()", "skip-execution"),
        code("1 / 0", "raises-exception"),
        code("print(open('../data/note.txt').read())"),
        code(SLIDER),
    )
    write(notebooks / "bad.ipynb", code("x = 1"), code("y = x + unknown"), code("z = 1"))
    write(
        notebooks / "outside.ipynb",
        code("from IPython.display import HTML\nHTML('<img src=\"http://127.0.0.2:9/x.png\">')"),
    )
    with Lab(browser, notebooks, folder / "workspace", folder / "screenshots") as running:
        yield running


def test_a_slider_moves_by_keyboard_and_the_kernel_answers(small_lab: Lab) -> None:
    notebook = small_lab.open("good.ipynb")
    assert "stale output" in json.dumps(notebook.code_cells())
    notebook.run_all()
    assert "stale output" not in json.dumps(notebook.code_cells())
    assert "beside the notebooks" in json.dumps(notebook.code_cells())
    expect(notebook.page.get_by_text("square: 9", exact=True)).to_be_visible()
    slider = notebook.page.get_by_role("slider")
    slider.focus()
    for _ in range(4):
        notebook.page.keyboard.press("ArrowRight")
    expect(notebook.page.get_by_text("square: 49", exact=True)).to_be_visible()
    expect(slider).to_have_attribute("aria-valuenow", "7.0")
    assert notebook.screenshot("good").stat().st_size > 10_000
    notebook.close()


def test_a_cell_that_raises_is_named(small_lab: Lab) -> None:
    notebook = small_lab.open("bad.ipynb")
    with pytest.raises(AssertionError, match=r"bad\.ipynb, code cell 2: NameError: .*unknown"):
        notebook.run_all()
    notebook.close()


def test_errors_in_the_page_and_requests_to_elsewhere_are_noticed(small_lab: Lab) -> None:
    notebook = small_lab.open("outside.ipynb")
    notebook.run_all()
    notebook.page.wait_for_selector("img[src*='127.0.0.2']", state="attached")
    notebook.page.evaluate("() => { setTimeout(() => { throw new Error('by design') }, 0) }")
    notebook.page.wait_for_timeout(300)
    with pytest.raises(AssertionError, match=r"outside\.ipynb: .*") as caught:
        notebook.close()
    assert "request to http://127.0.0.2:9/x.png" in str(caught.value)
    assert "by design" in str(caught.value)
