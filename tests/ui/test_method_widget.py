"""The whole method on one screen: played by keyboard and mouse, in both themes, wide and narrow."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.ui.lab import Lab, Notebook
from tests.ui.toy_notebooks import (
    SHOP,
    assert_titles_stayed_text,
    eventually,
    shoot,
    slide,
    toy_notebooks,
    value_of,
    widget_in,
)

SETUP = SHOP + "from nezha_lite.widgets import MethodExplorer"
CALLS = {"method.ipynb": "MethodExplorer(model, ids, dataset)"}
GROUND = "element => getComputedStyle(element).filter"
BROKEN = """heads => heads.filter(head => {
    const range = document.createRange();
    range.selectNodeContents(head);
    const words = head.textContent.trim().split(/[\\s-]+/).length;  // a hyphen may end a line
    return new Set([...range.getClientRects()].map(box => box.top)).size > words;
}).map(head => head.textContent)"""


@pytest.fixture(scope="module")
def toy_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("toy")
    yield from toy_notebooks(browser, folder, SETUP, CALLS)


def corner(box: Locator) -> tuple[float, float, float]:
    """Left, right and top in pixels."""
    found = box.bounding_box()
    assert found is not None
    return found["x"], found["x"] + found["width"], found["y"]


def test_the_method_is_played(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("method.ipynb")
    notebook.run_all()
    box, page = widget_in(notebook, "Step"), notebook.page
    marks = box.locator(".scatterlayer .points path")
    expect(box.get_by_text("The list is ready. NEZHA called the backbone once")).to_be_visible()
    shoot(box, "toy-method-list")
    whole = marks.count()

    # With the keyboard: the slider to the prompt, and on to the first level.
    slide(box, "Step", "Home")
    expect(box.get_by_text(re.compile(r"^The prompt has \d+ tokens"))).to_be_visible()
    eventually(page, lambda: 0 < marks.count() < whole)
    assert value_of(box, "Step") == "prompt"
    slide(box, "Step", "ArrowRight", 2)
    expect(box.get_by_text(re.compile(r"^Level 1: the head adds the state s1"))).to_be_visible()
    expect(box.get_by_role("columnheader", name="p(prefix)")).to_be_visible()
    shoot(box, "toy-method-level")

    # With the buttons.
    box.get_by_role("button", name="Next step").press("Enter")
    expect(box.get_by_text(re.compile(r"^Level 2: "))).to_be_visible()
    box.get_by_role("button", name="Step back").click()
    expect(box.get_by_text(re.compile(r"^Level 1: "))).to_be_visible()

    # The player goes on by itself, to the list.
    box.locator(".widget-play button").first.press("Enter")
    expect(box.get_by_text(re.compile(r"^Level 3: "))).to_be_visible(timeout=15_000)
    expect(box.get_by_text("The list is ready.")).to_be_visible(timeout=15_000)
    eventually(page, lambda: marks.count() == whole)

    # A menu takes the arrow keys, and keeps them.
    before = value_of(box, "User")
    slide(box, "User", "ArrowDown")
    assert value_of(box, "User") != before
    expect(box.get_by_text("The list is ready.")).to_be_visible()
    assert_titles_stayed_text(page)


def test_wide_and_narrow_light_and_dark(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("method.ipynb")
    notebook.run_all()
    box, page = widget_in(notebook, "Step"), notebook.page
    figure, table = box.locator(".nezha-figure"), box.locator("table").first
    page.set_viewport_size({"width": 1600, "height": 1700})
    eventually(page, lambda: corner(table)[0] >= corner(figure)[1])
    assert box.locator("th").evaluate_all(BROKEN) == []
    assert figure.evaluate(GROUND) == "none"
    page.set_viewport_size({"width": 700, "height": 1700})
    eventually(page, lambda: corner(table)[2] > corner(figure)[2] + 300)
    assert box.locator("th").evaluate_all(BROKEN) == []
    assert corner(table)[1] <= corner(box)[1] + 1
    shoot(box, "toy-method-narrow")

    page.evaluate("document.body.setAttribute('data-jp-theme-light', 'false')")
    expect(figure).to_have_css("filter", re.compile("invert"))
