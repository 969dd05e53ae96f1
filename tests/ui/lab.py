"""JupyterLab on a copy of the notebooks, driven in a real browser.

    notebook = lab.open("00_tour.ipynb")     # a page with its kernel ready, nothing run yet
    notebook.expect_pictures()               # the stored outputs show every widget's picture
    notebook.run_all()                       # every cell, or an AssertionError naming the cell
    notebook.page.get_by_role("slider")...   # Playwright's page, for everything else
    notebook.close()                         # fails when the page had errors

Notebooks open with their stored outputs, like those of a fresh clone. `run_all` clears these first,
so whatever a test sees after it was made by this run.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Browser, Error, Page, Request, Route, expect

PLOTLY = "application/vnd.plotly.v1+json"
LAB, NOTEBOOK_7 = "lab/tree", "notebooks"  # two front ends of one server
NOT_OURS = (
    # Notebook 7.6 raises these by itself, for an empty notebook too, while it loads.
    "Cannot read properties of undefined (reading 'schema')",
    "Command 'filebrowser:open-path' not registered.",
    # A figure that took longer than two seconds to load. Whether it came, the tests look for.
    "[anywidget] Failed to initialize model.",
)
START_SECONDS = 60
OPEN_MILLISECONDS = 60_000

SETTINGS = {
    # Nothing may pop up over the page.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Cells outside the window stay in the document, where tests can find them.
    "notebook-extension/tracker": {"windowingMode": "none"},
}

# "Idle" is also shown before a kernel is attached, so the session itself is asked.
KERNEL_IS_IDLE = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    const context = panel?.sessionContext;
    return Boolean(context?.isReady && context.session?.kernel?.status === 'idle'
                   && panel.content?.model?.cells);
}"""

COMMAND = "name => window.jupyterapp.commands.execute(name)"
LOADED = "images => images.every(image => image.complete && image.naturalWidth > 0)"

CODE_CELLS = """() => {
    const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
    return Array.from({length: cells.length}, (_, index) => cells.get(index).toJSON())
        .filter(cell => cell.cell_type === 'code');
}"""

SHUT_DOWN = "() => window.jupyterapp.shell.currentWidget?.sessionContext?.shutdown()"


class Notebook:
    """One notebook open in one page; `errors` collects what went wrong in the page."""

    def __init__(self, lab: "Lab", name: str, page: Page, front: str) -> None:
        self.name = name
        self.page = page
        self.errors: list[str] = []
        self._lab = lab
        page.on("pageerror", self._note)
        page.route("**/*", self._stay_inside)
        page.goto(f"{lab.url}/{front}/notebooks/{name}?reset&token={lab.token}")
        self._wait_for_kernel()

    def _note(self, error: Error) -> None:
        if error.message not in NOT_OURS:
            self.errors.append(f"page error: {error}")

    def _stay_inside(self, route: Route, request: Request) -> None:
        # The course must work without a network: a request to anywhere else is an error.
        if request.url.startswith((self._lab.url, "data:", "blob:")):
            route.continue_()
        else:
            self.errors.append(f"request to {request.url.split('?')[0]}")
            route.abort()

    def _wait_for_kernel(self, milliseconds: float = OPEN_MILLISECONDS) -> None:
        self.page.wait_for_function(KERNEL_IS_IDLE, timeout=milliseconds)

    def expect_pictures(self) -> None:
        """AssertionError unless every widget among the stored outputs shows its picture."""
        outputs = [output for cell in self.code_cells() for output in cell["outputs"]]
        bundles = [output.get("data", {}) for output in outputs]
        stored = sum("image/svg+xml" in data and PLOTLY not in data for data in bundles)
        pictures = self.page.locator(".jp-OutputArea-output img[src^='data:image/svg+xml']")
        expect(pictures).to_have_count(stored, timeout=OPEN_MILLISECONDS)
        assert pictures.evaluate_all(LOADED), f"{self.name}: a picture is broken"
        for picture in pictures.all():
            expect(picture).to_be_visible()

    def run_all(self, seconds: float = 240) -> None:
        """Run every cell, in order; AssertionError naming the cell that raised or never ran."""
        deadline = time.monotonic() + seconds
        self.page.evaluate(COMMAND, "notebook:clear-all-cell-outputs")
        self.page.evaluate(COMMAND, "notebook:run-all-cells")
        # Neither the command's answer nor an idle kernel means that the page has heard of the last
        # cell: only its execution count does.
        while not self._all_ran() and time.monotonic() < deadline:
            self.page.wait_for_timeout(200)
        for number, cell in enumerate(self.code_cells(), start=1):
            assert cell["execution_count"] == number, f"{self._place(number)} did not run"
        self._wait_for_kernel()

    def _all_ran(self) -> bool:
        """Whether every code cell has its count; AssertionError when one raised."""
        cells = self.code_cells()
        for number, cell in enumerate(cells, start=1):
            expected = "raises-exception" in cell["metadata"].get("tags", [])
            for output in cell["outputs"]:
                if output["output_type"] == "error" and not expected:
                    error = f"{output['ename']}: {output['evalue']}"
                    raise AssertionError(f"{self._place(number)}: {error}")
        return all(cell["execution_count"] for cell in cells)

    def _place(self, number: int) -> str:
        return f"{self.name}, code cell {number}"

    def code_cells(self) -> list[dict[str, Any]]:
        """The code cells as nbformat objects, with the outputs they have now."""
        cells: list[dict[str, Any]] = self.page.evaluate(CODE_CELLS)
        return cells

    def screenshot(self, name: str) -> Path:
        """Store what the window shows as build/screenshots/NAME.png."""
        path = self._lab.screenshots / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def close(self) -> None:
        """Stop the kernel, close the page; AssertionError when the page had errors."""
        self.page.evaluate(SHUT_DOWN)
        self.page.context.close()
        assert not self.errors, f"{self.name}: {self.errors}"


class Lab:
    """A JupyterLab server on a free port of this machine; use it as a context manager.

    It serves a copy of `notebooks` in `workspace`, with a copy of `data` beside it, since
    notebooks may reach for ../data. Settings and kernels of the user who runs it play no part.
    """

    def __init__(
        self, browser: Browser, notebooks: Path, workspace: Path, screenshots: Path
    ) -> None:
        self.screenshots = screenshots
        self.token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{free_port()}"
        self._browser = browser
        self._root = workspace / "course"
        self._home = workspace / "home"
        copy_course(notebooks, self._root)
        for name, content in SETTINGS.items():
            path = self._home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(content), encoding="utf-8")

    def __enter__(self) -> Self:
        places = {
            "IPYTHONDIR": "ipython",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        environment = {name: str(self._home / folder) for name, folder in places.items()}
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self.url.rpartition(":")[2],
            "ServerApp.port_retries": "0",
            "ServerApp.allow_root": "True",
            "ServerApp.open_browser": "False",
            "ServerApp.root_dir": str(self._root),
            "IdentityProvider.token": self.token,
            "LabApp.expose_app_in_browser": "True",
            "JupyterNotebookApp.expose_app_in_browser": "True",
        }
        self._log = (self._home / "lab.log").open("w+", encoding="utf-8")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *(f"--{k}={v}" for k, v in options.items())],
            env=os.environ | environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.terminate()
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._log.close()

    def open(self, name: str, front: str = LAB) -> Notebook:
        """Open a notebook of the copy, named relative to notebooks/, in a page of its own."""
        context = self._browser.new_context(viewport={"width": 1280, "height": 1100})
        return Notebook(self, name, context.new_page(), front)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._server.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/api?token={self.token}", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        self._log.seek(0)
        raise RuntimeError(f"JupyterLab did not start:\n{self._log.read()[-3000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def copy_course(notebooks: Path, target: Path) -> None:
    """Copy notebooks/ and data/ (without downloads).

    Cells tagged "skip-execution" become raw cells: JupyterLab would run them, since the tag is for
    the tools that run whole notebooks.
    """
    checkpoints = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__")
    shutil.copytree(notebooks, target / "notebooks", ignore=checkpoints)
    data = notebooks.parent / "data"
    if data.is_dir():
        shutil.copytree(data, target / "data", ignore=shutil.ignore_patterns("downloads"))
    for path in (target / "notebooks").rglob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            skipped = "skip-execution" in cell["metadata"].get("tags", [])
            if cell["cell_type"] == "code" and skipped:
                cell["cell_type"] = "raw"
                del cell["outputs"], cell["execution_count"]
        path.write_text(json.dumps(notebook), encoding="utf-8")
