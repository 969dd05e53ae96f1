"""The demo page: a notebook served by Voilà without its code, in a real browser."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from playwright.sync_api import Browser, Error, Page, Request, Route

from tests.ui.lab import NOT_OURS, START_SECONDS, free_port

# Voilà's own page asks for it; the page's content security policy keeps it from being loaded.
ICONS = "https://cdn.jsdelivr.net/npm/@fortawesome/"


class Demo:
    """`make demo` on a free port; use it as a context manager."""

    def __init__(self, browser: Browser, notebooks: Path, log: Path) -> None:
        self.errors: list[str] = []
        self._browser, self._notebooks, self._log_path = browser, notebooks, log
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._log = self._log_path.open("w+", encoding="utf-8")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "voila", "demo.ipynb", "--no-browser", f"--port={self._port}"],
            cwd=self._notebooks,  # where voila.json lies
            env=os.environ,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.address = self._printed_address()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.terminate()
        self._server.wait(20)
        self._log.close()

    def open(self) -> Page:
        """The page, as soon as its widgets are there."""
        page = self._browser.new_context(viewport={"width": 1280, "height": 1700}).new_page()
        page.on("pageerror", self._note)
        page.route("**/*", self._stay_inside)
        page.goto(self.address, timeout=90_000)  # the whole notebook runs first
        broken = page.get_by_text("There was an error")
        page.locator(".js-plotly-plot .main-svg").first.or_(broken).wait_for(timeout=90_000)
        assert not broken.is_visible(), self._log_path.read_text(encoding="utf-8")[-3000:]
        return page

    def _note(self, error: Error) -> None:
        if error.message not in NOT_OURS:
            self.errors.append(f"page error: {error}")

    def _stay_inside(self, route: Route, request: Request) -> None:
        if request.url.startswith((self.url, "data:", "blob:")):
            route.continue_()
        else:
            if not request.url.startswith(ICONS):
                self.errors.append(f"request to {request.url.split('?')[0]}")
            route.abort()

    def _printed_address(self) -> str:
        """The address with its token, as a user reads it."""
        deadline = time.monotonic() + START_SECONDS
        text = ""
        while time.monotonic() < deadline and self._server.poll() is None:
            text = self._log_path.read_text(encoding="utf-8")
            if found := re.search(rf"{self.url}/\S*token=\w+", text):
                return found[0]
            time.sleep(0.2)
        self.__exit__()
        raise RuntimeError(f"Voilà did not start:\n{text[-3000:]}")
