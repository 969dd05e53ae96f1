"""The race of decoders and the head beside the model, in JupyterLab, with keyboard and mouse.

On throwaway notebooks whose item titles are hostile.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.ui.lab import Lab, Notebook
from tests.ui.toy_notebooks import (
    SHOP,
    assert_titles_stayed_text,
    click_until,
    eventually,
    shoot,
    slide,
    toy_notebooks,
    value_of,
    widget_in,
)

SETUP = SHOP + "from nezha_lite.widgets import DecoderRace, DraftAgainstModel"
CALLS = {
    "race.ipynb": "DecoderRace(model, ids, dataset)",
    "agreement.ipynb": "DraftAgainstModel(model, ids, dataset)",
}
PENDING = "What is chosen above differs from this race"


@pytest.fixture(scope="module")
def toy_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from toy_notebooks(browser, tmp_path_factory.mktemp("toy"), SETUP, CALLS)


def bars(box: Locator) -> int:
    return box.locator(".barlayer .point path").count()


def test_the_race(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("race.ipynb")
    notebook.run_all()
    box = widget_in(notebook, "Beam width")
    page = notebook.page
    # A first race was run already.
    expect(box.get_by_text("NEZHA called the backbone once")).to_be_visible()
    expect(box.locator(".gtitle")).to_contain_text("One list at beam 10")
    eventually(page, lambda: bars(box) == 4)
    expect(box.get_by_text(PENDING)).to_be_visible()
    shoot(box, "toy-race-first")

    # With the keyboard: another decoder, and the start.
    tick = box.get_by_role("checkbox", name="parallel heads")
    tick.focus()
    tick.press("Space")
    expect(tick).to_be_checked()
    box.get_by_role("button", name="Start the race").press("Enter")
    expect(box.get_by_text("Done.")).to_be_visible(timeout=60_000)
    expect(box.get_by_text(PENDING)).to_have_count(0)
    eventually(page, lambda: bars(box) == 6)
    expect(box.locator("svg").get_by_text("backbone calls").first).to_be_visible()
    heads = box.locator("table thead th")
    expect(
        heads.filter(has_text="autoregressive; speculative; generate, constrained")
    ).to_have_count(1)
    lists = box.locator("table").last
    expect(lists.locator("tbody tr")).to_have_count(10)
    unchecked = box.get_by_role("row").filter(has_text="NEZHA, unchecked")
    expect(unchecked.locator("td").nth(2)).to_have_text(re.compile("^[1-9]"))
    shoot(box, "toy-race-done")

    # With the mouse: everything at a wide beam, and cancelled on the way.
    for name in ("generate", "exact, draft head", "exact, backbone"):
        box.get_by_role("checkbox", name=name, exact=True).check()
    slide(box, "Beam width", "End")
    expect(box.get_by_text(PENDING)).to_be_visible()
    table = lists.inner_text()
    box.get_by_role("button", name="Start the race").click()
    cancel = box.get_by_role("button", name="Cancel")
    expect(cancel).to_be_enabled()
    expect(box.get_by_text(re.compile(r"Timing|Warming up"))).to_be_visible()
    expect(box.locator(".widget-hprogress")).to_be_visible()
    shoot(box, "toy-race-running")
    cancel.click()
    expect(box.get_by_text("Cancelled; what is shown is as it was.")).to_be_visible(timeout=30_000)
    expect(cancel).to_be_disabled()
    assert lists.inner_text() == table
    expect(box.locator(".gtitle")).to_contain_text("One list at beam 10")
    assert bars(box) == 6

    # The figure grows with what is raced.
    slide(box, "Beam width", "PageDown", 2)
    box.get_by_role("button", name="Start the race").press("Enter")
    expect(box.get_by_text("Done.")).to_be_visible(timeout=120_000)
    eventually(page, lambda: bars(box) == 9)
    shoot(box, "toy-race-all")
    assert_titles_stayed_text(notebook.page)


def marks(box: Locator) -> int:
    return box.locator(".scatterlayer .points path").count()


def test_the_head_beside_the_model(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("agreement.ipynb")
    notebook.run_all()
    box = widget_in(notebook, "Prefix")
    page = notebook.page
    expect(
        box.get_by_text("Of the prefixes in the model's beam, the head's beam holds")
    ).to_be_visible()
    expect(box.get_by_text("Speculative decoding drafts twice as wide")).to_be_visible()
    shoot(box, "toy-agreement-first")
    before = marks(box)

    slide(box, "Beam width", "ArrowRight", 5)
    eventually(page, lambda: marks(box) > before)
    expect(box.get_by_text(re.compile(r"level 3: \d+ of 15"))).to_be_visible()

    slide(box, "Prefix", "ArrowDown", 2)
    chosen = value_of(box, "Prefix").split(": ")[1]
    eventually(page, lambda: box.get_by_text(f"Prefix {chosen}:").count() == 1)
    expect(box.get_by_text(re.compile(r"rank 3 by the model"))).to_be_visible()
    shoot(box, "toy-agreement-prefix")

    alone = box.locator(".js-plotly-plot").first.locator(".scatterlayer .trace").nth(3)
    lost = box.locator("p", has_text=re.compile(r"Prefix \d-\d-\d: .*not kept by the"))
    click_until(alone.locator(".points path").last, lost)
    shoot(box, "toy-agreement-click")

    box.get_by_role("button", name="off", exact=True).press("Enter")
    expect(box.get_by_text("Verification off:")).to_be_visible()
    slide(box, "Beam width", "End")
    expect(box.get_by_text(re.compile(r"level 3: \d+ of 64"))).to_be_visible()
    shoot(box, "toy-agreement-wide")
    assert_titles_stayed_text(notebook.page)
