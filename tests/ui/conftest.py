"""Fixtures for the tests in a real browser: `browser`, `lab` and `open_notebook`.

Chromium is looked for on the PATH (or where NEZHA_CHROMIUM says). Without it these tests are
skipped, unless NEZHA_REQUIRE_BROWSER=1 says that it must be there.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.ui.chromium import ARGUMENTS, ROOT, SCREENSHOTS, find_chromium
from tests.ui.lab import Lab, Notebook

HERE = Path(__file__).resolve().parent
FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.ui)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(300))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report


def require_chromium() -> str:
    """The browser's path; skips the test, or fails it where a browser is required."""
    try:
        return find_chromium()
    except FileNotFoundError as error:
        if os.environ.get("NEZHA_REQUIRE_BROWSER") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium for the whole run."""
    path = require_chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on a copy of the course, for the whole run."""
    workspace = tmp_path_factory.mktemp("lab")
    with Lab(browser, ROOT / "notebooks", workspace, SCREENSHOTS) as running:
        yield running


@pytest.fixture
def open_notebook(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Notebook]]:
    """Open notebooks that are closed after the test, which fails if their pages had errors.

    Each must show the pictures of its widgets before it is run.

    A failed test leaves build/screenshots/failed-TEST.png.
    """
    opened: list[Notebook] = []

    def open_one(name: str) -> Notebook:
        opened.append(lab.open(name))
        opened[-1].expect_pictures()
        return opened[-1]

    yield open_one
    if request.node.stash.get(FAILED, False) and opened:
        opened[-1].screenshot("failed-" + re.sub(r"\W+", "-", request.node.name))
    for notebook in opened:
        notebook.close()


@pytest.fixture
def toy(toy_lab: Lab) -> Iterator[Callable[[str], Notebook]]:
    """Opens a throwaway notebook of the module's `toy_lab`, and closes it after the test."""
    opened: list[Notebook] = []

    def open_one(name: str) -> Notebook:
        opened.append(toy_lab.open(name))
        return opened[-1]

    yield open_one
    for notebook in opened:
        notebook.close()
