"""`make demo`: the decode explorer and the race as a page without code."""

import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.ui.chromium import ROOT, SCREENSHOTS
from tests.ui.demo import Demo
from tests.ui.toy_notebooks import SHOP, assert_titles_stayed_text, write_notebook


@pytest.fixture(scope="module")
def demo(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    log = tmp_path_factory.mktemp("demo") / "voila.log"
    with Demo(browser, ROOT / "notebooks", log) as running:
        yield running


@pytest.fixture(scope="module")
def page(demo: Demo) -> Iterator[Page]:
    """One page for all tests: each opening runs the whole notebook, and tests move other panels."""
    page = demo.open()
    yield page
    page.context.close()
    assert not demo.errors, demo.errors


def press(box: Page | Locator, button: str) -> None:
    box.get_by_role("button", name=button, exact=True).first.press("Enter")


def panel(page: Page, number: int) -> Locator:
    """The method, the draft tree, or the race."""
    return page.locator(".nezha-panel").nth(number)


def shoot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def test_a_reader_steps_through_the_method(page: Page) -> None:
    expect(page.get_by_role("heading", name="NEZHA at work")).to_be_visible()
    box = panel(page, 0)
    expect(box.get_by_text("the autoregressive decoder 4 times")).to_be_visible()
    shoot(page, "demo")
    press(box, "Next step")
    expect(box.get_by_text(re.compile(r"^The prompt has \d+ tokens"))).to_be_visible()
    press(box, "Next step")
    expect(box.get_by_text(re.compile(r"tokens in one pass"))).to_be_visible()
    press(box, "Next step")
    expect(box.get_by_text(re.compile(r"^Level 1: the head adds the state s1"))).to_be_visible()


def test_a_reader_steps_through_the_tree(page: Page) -> None:
    box = panel(page, 1)
    expect(box.get_by_text("10 of 10 places are filled")).to_be_visible()
    press(box, "Next step")
    expect(box.get_by_text("No code is drafted yet.")).to_be_visible()
    press(box, "Next step")
    expect(box.get_by_text(re.compile(r"Level 1: 10 drafts kept"))).to_be_visible()
    for _ in range(4):
        press(box, "Next step")
    expect(box.get_by_text("10 of 10 places are filled")).to_be_visible()


@pytest.mark.parametrize(("width", "beside"), [(1280, True), (400, False)])
def test_numbers_stand_beside_the_figure_where_there_is_space(
    page: Page, width: int, beside: bool
) -> None:
    usual = page.viewport_size
    assert usual is not None
    page.set_viewport_size({"width": width, "height": 1700})
    for box in (panel(page, 0), panel(page, 1)):
        corners = [
            box.locator(part).first.bounding_box() for part in (".nezha-figure", ".nezha-table")
        ]
        assert corners[0] is not None
        assert corners[1] is not None
        assert (corners[1]["x"] >= corners[0]["x"] + corners[0]["width"]) is beside
        assert corners[1]["x"] + corners[1]["width"] <= width
    page.set_viewport_size(usual)


def test_a_race_is_run_on_the_page(page: Page) -> None:
    press(page, "Start the race")
    expect(page.get_by_role("status").get_by_text("Done.")).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile("called the backbone once")).first).to_be_visible()
    shoot(page, "demo-race")


def test_no_code_is_shown(page: Page) -> None:
    expect(page.get_by_text("load_dataset")).to_have_count(0)
    expect(page.get_by_text("import")).to_have_count(0)


def test_without_its_token_the_page_is_not_served(demo: Demo) -> None:
    with urllib.request.urlopen(demo.url + "/", timeout=20) as answer:
        text = answer.read().decode()
    assert "login" in answer.url
    assert "NEZHA" not in text


def test_the_page_may_load_nothing_from_elsewhere(demo: Demo) -> None:
    with urllib.request.urlopen(demo.address, timeout=60) as answer:
        policy = answer.headers["Content-Security-Policy"]
    sources = policy.removeprefix("default-src ").split()
    assert set(sources) <= {
        "'self'",
        "'unsafe-inline'",
        "'unsafe-eval'",
        "data:",
        "blob:",
        "ws:",
        "wss:",
    }


def test_hostile_titles_are_text_on_the_page_too(browser: Browser, tmp_path: Path) -> None:
    shutil.copy(ROOT / "notebooks" / "voila.json", tmp_path)
    shown = ("DecodeExplorer(model, ids, dataset)", "DecoderRace(model, ids, dataset)")
    setup = SHOP + "from nezha_lite.widgets import DecodeExplorer, DecoderRace"
    write_notebook(tmp_path / "demo.ipynb", setup, *shown)
    with Demo(browser, tmp_path, tmp_path / "voila.log") as demo:
        page = demo.open()
        expect(page.get_by_text("Start the race")).to_be_visible(timeout=60_000)
        assert_titles_stayed_text(page)
        shoot(page, "demo-hostile")
        page.context.close()
        assert not demo.errors, demo.errors
