"""The widgets of the lessons on semantic IDs, driven with the keyboard in JupyterLab.

First on a throwaway notebook whose item titles are hostile, then in the lessons themselves.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.ui.lab import Lab, Notebook
from tests.ui.toy_notebooks import (
    HOSTILE,
    assert_titles_stayed_text,
    control_of,
    shoot,
    slide,
    toy_notebooks,
    value_of,
    widget_in,
)

SETUP = (
    HOSTILE
    + """
import torch
from nezha_lite import InteractionDataset, SemanticIds
from nezha_lite.datasets import ItemText
from nezha_lite.widgets import CodebookExplorer, CollisionSimulator

draw = torch.Generator().manual_seed(1)
ids = SemanticIds.from_codes(torch.randint(0, 4, (90, 3), generator=draw), (4, 4, 4))
vectors = torch.randn(90, 8, generator=draw)
texts = tuple(ItemText(f"Thing {item} {hostile[item % len(hostile)]}", "", (image,))
              for item in range(90))
dataset = InteractionDataset("toy", ids.items, ("u",), ((0, 1, 2),), texts)
"""
)
CALLS = {
    "explorer.ipynb": "CodebookExplorer(dataset, ids, vectors)",
    "simulator.ipynb": "CollisionSimulator(vectors.repeat(3, 1), codes=16)",
}


@pytest.fixture(scope="module")
def toy_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from toy_notebooks(browser, tmp_path_factory.mktemp("toy"), SETUP, CALLS)


def drive_explorer(notebook: Notebook, name: str) -> None:
    box = widget_in(notebook, "Code 1")
    title = box.locator(".gtitle")
    summary = box.locator("p", has_text="items (")
    slide(box, "Code 1", "Home")
    expect(title).to_contain_text("The whole catalogue")
    expect(summary).to_contain_text("The empty prefix")
    expect(box.get_by_text("Choose a first code to see the prefixes nearest")).to_be_visible()
    shoot(box, f"{name}-whole")

    slide(box, "Code 1", "ArrowRight", 2)
    code, count = value_of(box, "Code 1").split(": ")
    expect(title).to_contain_text(f"Prefix {code}")
    expect(summary).to_contain_text(f"Prefix {code}: {count.split()[0]} of")
    expect(box.get_by_text(f"{count} with this prefix")).to_be_visible()
    expect(box.get_by_text("The nearest prefixes of this length")).to_be_visible()
    expect(control_of(box, "Code 2").locator("select")).to_have_value("any")

    slide(box, "Code 2", "ArrowRight")
    second, count = value_of(box, "Code 2").split(": ")
    expect(title).to_contain_text(f"Prefix {code}-{second}")
    # The rows are the prefix's items: as many as the control said (or twelve), all of that prefix.
    rows = box.locator("table", has_text="with this prefix").locator("tbody tr")
    expect(rows).to_have_count(min(12, int(count.split()[0])))
    for text in rows.all_inner_texts():
        assert text.startswith(f"{code}-{second}-")
    shoot(box, f"{name}-prefix")

    slide(box, "Code 3", "End")
    third = value_of(box, "Code 3").split(": ")[0]
    expect(summary).to_contain_text(f"Prefix {code}-{second}-{third}: ")
    expect(box.get_by_text("The ID is complete")).to_be_visible()

    slide(box, "Code 2", "Home")  # back to any
    expect(summary).to_contain_text(f"Prefix {code}: ")
    expect(control_of(box, "Code 3").locator("select")).to_have_value("any")


def marks(box: Locator) -> int:
    """Marks of the first figure, the ring included."""
    figure = box.locator(".js-plotly-plot").first
    return figure.locator(".scatterlayer .points path").count()


def drive_simulator(notebook: Notebook, name: str) -> None:
    box = widget_in(notebook, "Levels")
    title = box.locator(".gtitle")
    levels, codes = (value_of(box, c) for c in ("Levels", "Codes per level"))
    expect(title.first).to_contain_text(f"{levels} × {codes}: ")
    expect(box.get_by_text(f"{levels} × {codes} codes for")).to_be_visible()
    shoot(box, f"{name}-first")

    slide(box, "Levels", "Home")
    expect(box.get_by_text(f"1 × {codes} codes for")).to_be_visible()
    expect(title.first).to_contain_text(f"1 × {codes}: ")
    expect(title.nth(1)).to_contain_text(f"of {codes} IDs exist")
    expect(box.get_by_role("row").filter(has_text="optimal")).to_contain_text("impossible")

    slide(box, "Levels", "ArrowRight")
    slide(box, "Codes per level", "Home")
    expect(box.get_by_text(re.compile(r"^2 × 8 codes for .*: 64 IDs"))).to_be_visible()
    slide(box, "Codes per level", "ArrowRight")
    expect(box.get_by_text(re.compile(r"^2 × 16 codes for .*: 256 IDs"))).to_be_visible()

    slide(box, "Items", "Home")
    expect(box.get_by_text("2 × 16 codes for 100 items")).to_be_visible()
    extra = box.get_by_role("row").filter(has_text="extra level")
    expect(extra).to_contain_text("unique IDs of 3 codes")
    few = marks(box)
    box.get_by_role("button", name="Measure every codebook size").press("Enter")
    for _ in range(100):
        if marks(box) > few:
            break
        notebook.page.wait_for_timeout(200)
    assert marks(box) > few, "the button adds points"
    expect(box.get_by_text("2 × 16 codes for 100 items")).to_be_visible()
    shoot(box, f"{name}-small")


def test_explorer_with_hostile_titles(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("explorer.ipynb")
    notebook.run_all()
    drive_explorer(notebook, "toy-explorer")
    assert_titles_stayed_text(notebook.page)


def test_simulator_on_a_small_catalogue(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("simulator.ipynb")
    notebook.run_all()
    drive_simulator(notebook, "toy-simulator")


def test_the_explorer_in_its_lesson(open_notebook: Callable[[str], Notebook]) -> None:
    notebook = open_notebook("01_semantic_ids.ipynb")
    notebook.run_all()
    drive_explorer(notebook, "lesson-01-explorer")


def test_the_simulator_in_its_lesson(open_notebook: Callable[[str], Notebook]) -> None:
    notebook = open_notebook("01b_tokenizer_contest.ipynb")
    notebook.run_all()
    drive_simulator(notebook, "lesson-01b-simulator")
