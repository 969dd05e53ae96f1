"""The widgets as a reader meets them: in JupyterLab, with the keyboard and the mouse.

First on a throwaway notebook whose item titles are hostile, then in the course's own notebooks.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.ui.chromium import ROOT
from tests.ui.lab import Lab, Notebook
from tests.ui.toy_notebooks import (
    SHOP,
    assert_titles_stayed_text,
    click_until,
    control_of,
    eventually,
    shoot,
    slide,
    toy_notebooks,
    value_of,
    widget_in,
)

SETUP = SHOP + "from nezha_lite.widgets import DecodeExplorer, VerifierLab"
CALLS = {
    "04_verifiers.ipynb": "VerifierLab(model, ids, dataset)",
    "05_decoding.ipynb": "DecodeExplorer(model, ids, dataset)",
}
OUTLINES = "elements => elements.map(element => element.getAttribute('d'))"


@pytest.fixture(scope="module")
def toy_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from toy_notebooks(browser, tmp_path_factory.mktemp("toy"), SETUP, CALLS)


def lesson(number: int) -> str:
    found = sorted(path.name for path in (ROOT / "notebooks").glob(f"{number:02}_*.ipynb"))
    assert len(found) == 1
    return found[0]


def drive_verifier_lab(notebook: Notebook, name: str) -> None:
    box = widget_in(notebook, "Beam width")
    table = box.locator("table")
    places = table.locator("caption")
    expect(places).to_contain_text("places are filled")
    shoot(box, f"{name}-first")
    before = int(value_of(box, "Beam width"))
    expect(places).to_contain_text(f"of {before} places")
    bars = box.locator(".barlayer .point path")
    before_bars = bars.evaluate_all(OUTLINES)

    slide(box, "Beam width", "ArrowLeft", 2)
    width = int(value_of(box, "Beam width"))
    assert width < before
    expect(places).to_contain_text(f"of {width} places")
    expect(box.get_by_text(re.compile(rf"Level 2: \d+ of {width} drafts exist"))).to_be_visible()
    eventually(notebook.page, lambda: bars.evaluate_all(OUTLINES) != before_bars)

    box.get_by_role("button", name="prefix", exact=True).press("Enter")
    expect(box.get_by_text("Verification prefix:")).to_be_visible()
    expect(table.get_by_text("✕ does not exist")).to_have_count(0)
    expect(places).to_contain_text("; 0 of them name no item")
    slide(box, "Beam width", "ArrowRight", 3)
    shoot(box, f"{name}-prefix")


def marks_of(box: Locator) -> int:
    return box.locator(".scatterlayer .points path").count()


def drive_decode_explorer(notebook: Notebook, name: str) -> None:
    box = widget_in(notebook, "Step")
    expect(box.locator("table caption")).to_contain_text("places are filled")
    expect(box.get_by_text("Backbone calls: 1.")).to_be_visible()
    shoot(box, f"{name}-first")
    all_marks = marks_of(box)
    rows = box.locator("table tbody tr")
    before = rows.count()

    slide(box, "Beam width", "ArrowLeft", 4)
    expect(rows).to_have_count(before - 4)
    eventually(notebook.page, lambda: 0 < marks_of(box) < all_marks)

    slide(box, "Step", "Home", 1)
    expect(box.get_by_text("No code is drafted yet.")).to_be_visible()
    expect(rows).to_have_count(0)
    slide(box, "Step", "ArrowRight", 2)
    expect(box.get_by_text(re.compile(r"Level 2: \d+ drafts kept"))).to_be_visible()

    slide(box, "Explain draft", "ArrowRight", 1)
    expect(box.get_by_text(re.compile(r"Draft \d+: kept. Probability"))).to_be_visible()
    shoot(box, f"{name}-keyboard")

    # Other drafts are on offer than at first: the key End leads to the last of these.
    slide(box, "Explain draft", "End", 1)
    expect(box.get_by_text(re.compile(r"Draft \d+-\d+: "))).to_be_visible()
    last = value_of(box, "Explain draft")
    slide(box, "Explain draft", "ArrowRight", 1)
    assert value_of(box, "Explain draft") == last, "there is none after the last"
    slide(box, "Explain draft", "Home", 1)
    expect(box.get_by_text("Click a mark of the tree")).to_be_visible()

    kept = box.locator(".scatterlayer .trace").nth(3)  # after edges, labels and the prompt
    explained = box.get_by_text(re.compile(r"Draft \d+-\d+: kept"))
    click_until(kept.locator(".points path").last, explained)
    chosen = control_of(box, "Explain draft").locator("select")
    expect(chosen).to_have_value(re.compile(r"level 2: \d+-\d+"))
    shoot(box, f"{name}-click")


def test_verifier_lab_with_hostile_titles(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("04_verifiers.ipynb")
    notebook.run_all()
    drive_verifier_lab(notebook, "toy-04")
    assert_titles_stayed_text(notebook.page)


def test_decode_explorer_with_hostile_titles(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("05_decoding.ipynb")
    notebook.run_all()
    drive_decode_explorer(notebook, "toy-05")
    assert_titles_stayed_text(notebook.page)


def test_lesson_04(open_notebook: Callable[[str], Notebook]) -> None:
    notebook = open_notebook(lesson(4))
    notebook.run_all()
    drive_verifier_lab(notebook, "lesson-04")


def test_lesson_05(open_notebook: Callable[[str], Notebook]) -> None:
    notebook = open_notebook(lesson(5))
    notebook.run_all()
    drive_decode_explorer(notebook, "lesson-05")
