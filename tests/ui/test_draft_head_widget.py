"""The draft head's explorer: codes taken by keyboard and by mouse."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.ui.lab import Lab, Notebook
from tests.ui.toy_notebooks import (
    SHOP,
    assert_titles_stayed_text,
    click_until,
    eventually,
    expect_ready,
    shoot,
    slide,
    toy_notebooks,
    widget_in,
)

SETUP = SHOP + "from nezha_lite.widgets import DraftHeadExplorer"
CALLS = {"head.ipynb": "DraftHeadExplorer(model, ids, dataset)"}


@pytest.fixture(scope="module")
def toy_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from toy_notebooks(browser, tmp_path_factory.mktemp("toy"), SETUP, CALLS)


def test_codes_are_taken_one_by_one(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("head.ipynb")
    notebook.run_all()
    box = widget_in(notebook, "Next code")
    page = notebook.page
    take = box.get_by_role("button", name="Take this code")
    back = box.get_by_role("button", name="One code back")
    title = box.locator(".gtitle")
    expect(title).to_contain_text("Code 1, from the history alone")
    expect(back).to_be_disabled()
    bars = box.locator(".barlayer .point path")
    shoot(box, "toy-head-first")
    alone = bars.count()

    # With the keyboard: the third likeliest code, and what it changes.
    slide(box, "Next code", "ArrowRight", 2)
    third = box.locator(".xaxislayer-above text").nth(2).text_content().removesuffix(" ×")
    expect_ready(box, "Next code", take)
    take.press("Enter")
    expect(title).to_contain_text(f"Code 2, after {third}")
    expect(box.get_by_text(re.compile(rf"^{third} has probability"))).to_be_visible()
    expect(box.get_by_text("on average over what might have been taken")).to_be_visible()
    eventually(page, lambda: bars.count() == 2 * alone)
    shoot(box, "toy-head-second")

    # With the mouse: a bar, until the ID is complete.
    click_until(bars.nth(0), box.get_by_text(re.compile(rf"^{third}-\d+.* has probability")))
    whole = box.get_by_text(re.compile(r"^\d+-\d+-\d+ has probability .* and names"))
    while not whole.is_visible():
        take.click()
        page.wait_for_timeout(500)
    expect(take).to_be_disabled()
    shoot(box, "toy-head-whole")

    # An ID that some item has: its title is text.
    for _ in range(3):
        back.press("Enter")
    expect(title).to_contain_text("Code 1, from the history alone")
    eventually(page, lambda: bars.count() == alone)
    expect(back).to_be_disabled()
    take.press("Enter")
    expect(box.get_by_text(re.compile(r"items? begins? so: "))).to_be_visible()
    assert_titles_stayed_text(page)
