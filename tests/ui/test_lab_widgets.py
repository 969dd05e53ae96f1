"""The labs of hallucinations and of trade-offs, with the keyboard and the mouse in JupyterLab.

On throwaway notebooks whose item titles, categories and decoder names are hostile.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.ui.lab import Lab, Notebook
from tests.ui.toy_notebooks import (
    HOSTILE,
    assert_titles_stayed_text,
    eventually,
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
from nezha_lite import InteractionDataset, NezhaModel, SemanticIds
from nezha_lite.datasets import ItemText
from nezha_lite.common.results import ResultRow
from nezha_lite.widgets import HallucinationLab, TradeoffExplorer

draw = torch.Generator().manual_seed(1)
torch.manual_seed(0)
# Four items in every square that holds any: from square to square only some numbers change.
squares = torch.randperm(64, generator=draw)[:48].repeat_interleave(4)
thirds = torch.rand(48, 8, generator=draw).argsort(dim=1)[:, :4].flatten()
ids = SemanticIds.from_codes(torch.stack([squares % 8, squares // 8, thirds], dim=1), (8, 8, 8))
sequences = tuple(map(tuple, torch.randint(0, 192, (12, 15), generator=draw).tolist()))
texts = tuple(
    ItemText(f"Thing {item} {hostile[item % len(hostile)]}", "", ("Bath" if item % 2 else image,))
    for item in range(192)
)
dataset = InteractionDataset("toy", ids.items, tuple(map(str, range(12))), sequences, texts)
model = NezhaModel.from_preset("tiny", ids)

def row(decoder, beam, verifier="prefix", **metrics):
    return ResultRow(kind="latency", dataset="toy", model={}, decoder=decoder, verifier=verifier,
                     beam=beam, metrics=metrics, device="a machine", versions={},
                     commit="unknown", date="2026-11-24", seconds=1)

measured = [("nezha", 10, 1.1, .2), ("nezha", 50, 1.4, .3), ("nezha", 512, 4.0, .3),
            ("autoregressive", 10, 6.0, .25), ("autoregressive", 50, 9.0, .35),
            (image, 10, 1.0, .1)]
speed = [row(name, beam, median_ms=ms) for name, beam, ms, _ in measured]
quality = [row(name, beam, **{"recall@10": value, "ndcg@10": value / 2, "valid": 1.0})
           for name, beam, _, value in measured]
"""
)
CALLS = {
    "hallucinations.ipynb": "HallucinationLab(model, ids, dataset, beam=20)",
    "tradeoff.ipynb": "TradeoffExplorer(speed, quality)",
}
DRAFTS = re.compile(r"Of (\d+) drafts (\d+) (?:exist|are accepted); (\d+) are rejected")


@pytest.fixture(scope="module")
def toy_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from toy_notebooks(browser, tmp_path_factory.mktemp("toy"), SETUP, CALLS)


def marks(box: Locator, fill: str) -> int:
    """Marks of the first figure in a colour."""
    points = box.locator(".js-plotly-plot").first.locator(".scatterlayer .points path")
    styles = points.evaluate_all("elements => elements.map(e => e.getAttribute('style'))")
    return sum(fill in style for style in styles)


def complete(box: Locator) -> bool:
    """Whether every trace of every figure has as many x as y: what is not sent anew must stay."""
    traces = box.locator(".js-plotly-plot").evaluate_all(
        "figures => figures.flatMap(f => f.data.map(t => [t.x?.length, t.y?.length]))"
    )
    return all(x is not None and x == y for x, y in traces)


def drafts(box: Locator) -> list[int]:
    found = DRAFTS.search(box.inner_text())
    assert found, "the widget counts its drafts"
    return [int(number) for number in found.groups()]


def drive_hallucination_lab(notebook: Notebook, name: str) -> None:
    box = widget_in(notebook, "Item of the list")
    notebook.page.set_viewport_size({"width": 1280, "height": 2200})
    title = box.locator(".gtitle")
    expect(title).to_contain_text("The ID space, and what exists")
    expect(box.get_by_text("No item is removed; no category is forbidden")).to_be_visible()
    eventually(notebook.page, lambda: complete(box))
    before = drafts(box)
    assert before[1] + before[2] == before[0]
    assert marks(box, "rgb(0, 0, 0)") == 0
    rows = box.locator("table tbody tr")
    first = rows.first.inner_text()
    shoot(box, f"{name}-first")

    # Removed with the keyboard: the list and the map change, and the button keeps the focus.
    remove = box.get_by_role("button", name="Remove this item")
    restore = box.get_by_role("button", name="Restore all")
    expect(restore).to_be_disabled()
    remove.press("Enter")
    expect(box.get_by_text("1 item is removed")).to_be_visible()
    expect(remove).to_be_focused()
    assert rows.first.inner_text() != first
    assert drafts(box)[1] == before[1] - 1
    eventually(notebook.page, lambda: marks(box, "rgb(0, 0, 0)") == 1)
    notebook.page.keyboard.press("Enter")
    expect(box.get_by_text("2 items are removed")).to_be_visible()
    expect(box.locator("table").get_by_text("← new").first).to_be_visible()
    shoot(box, f"{name}-removed")

    slide(box, "Removed", "End")
    box.get_by_role("button", name="Restore this item").click()
    expect(box.get_by_text("1 item is removed")).to_be_visible()
    restore.click()
    expect(box.get_by_text("No item is removed")).to_be_visible()
    assert first.split("\t")[1] in rows.first.inner_text()
    assert drafts(box) == before

    slide(box, "Forbid category", "End")
    assert value_of(box, "Forbid category").startswith("Bath")
    expect(box.get_by_text("category Bath is forbidden")).to_be_visible()
    expect(box.get_by_text("New on the list since the last change")).to_be_visible()
    for text in rows.all_inner_texts():
        thing = re.search(r"Thing (\d+)", text)
        assert not thing or int(thing[1]) % 2 == 0, "a forbidden thing is on the list"
    eventually(notebook.page, lambda: marks(box, "rgb(0, 0, 0)") > 0)
    shoot(box, f"{name}-forbidden")
    slide(box, "Forbid category", "Home")
    expect(box.get_by_text("no category is forbidden")).to_be_visible()

    box.get_by_role("button", name="off", exact=True).press("Enter")
    expect(box.locator("table").get_by_text("✕ does not exist").first).to_be_visible()
    slide(box, "Beam width", "ArrowLeft", 3)
    expect(box.get_by_text(re.compile(r"^Of 17 drafts"))).to_be_visible()
    shoot(box, f"{name}-off")


def drive_tradeoff(notebook: Notebook, name: str, decoder: str, other: str) -> None:
    box = widget_in(notebook, "Latency budget")
    title, rows = box.locator(".gtitle"), box.locator("table tbody tr")
    expect(title).to_contain_text("Recall@10 against time")
    expect(
        box.get_by_text(re.compile(r"^Without a budget, .* has the best Recall@10"))
    ).to_be_visible()
    shoot(box, f"{name}-first")
    whole = rows.count()

    slide(box, "Latency budget", "Home")
    expect(box.get_by_text(re.compile(r"^Nothing on show answers within"))).to_be_visible()
    slide(box, "Latency budget", "ArrowRight", 2)
    budget = value_of(box, "Latency budget")
    said = re.compile(rf"^Within {budget}, {decoder} \(beam \d+\) has the best Recall@10")
    expect(box.get_by_text(said)).to_be_visible()
    expect(rows.filter(has_text="★ best within the budget")).to_have_count(1)
    shoot(box, f"{name}-budget")

    box.get_by_role("checkbox", name=other, exact=True).press("Space")
    expect(rows.filter(has_text=other)).to_have_count(0)
    assert rows.count() < whole
    box.get_by_text(other, exact=True).first.click()  # the checkbox's label
    expect(rows).to_have_count(whole)
    box.get_by_role("button", name="share of the list that exists").press("Enter")
    expect(title).to_contain_text("Share of the list that exists against time")
    eventually(notebook.page, lambda: complete(box))
    slide(box, "Beam width", "ArrowRight")
    beam = value_of(box, "Beam width")
    expect(title).to_contain_text(f"beam {beam}.")
    shoot(box, f"{name}-valid")


def test_hallucinations_with_hostile_titles(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("hallucinations.ipynb")
    notebook.run_all()
    drive_hallucination_lab(notebook, "toy-hallucinations")
    assert_titles_stayed_text(notebook.page)


def test_tradeoff_with_hostile_names(toy: Callable[[str], Notebook]) -> None:
    notebook = toy("tradeoff.ipynb")
    notebook.run_all()
    drive_tradeoff(notebook, "toy-tradeoff", "NEZHA", "autoregressive")
    assert notebook.page.evaluate("typeof window.hacked") == "undefined"
    assert notebook.page.locator("img[src='x']").count() == 0
