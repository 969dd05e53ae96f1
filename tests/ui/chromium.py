"""The browser of this machine."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome")
# Containers have no user namespaces for the sandbox and a tiny /dev/shm; the rest keeps it quiet.
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run")
ARGUMENTS += ("--disable-background-networking", "--disable-component-update", "--disable-sync")


def find_chromium() -> str:
    """The browser's path; FileNotFoundError says how to get one."""
    chosen = os.environ.get("NEZHA_CHROMIUM")
    for name in (chosen,) if chosen else NAMES:
        path = shutil.which(name)
        if path:
            return path
    raise FileNotFoundError(
        f"NEZHA_CHROMIUM is {chosen!r}, which is no program"
        if chosen
        else "no Chromium on the PATH; install it with: apt-get install chromium"
    )
