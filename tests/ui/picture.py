"""Make docs/method_explorer.gif, the README's picture, from the demo page itself: `make picture`.

Chromium opens what `make demo` serves, and presses "Next step" from the prompt to the list. Nothing
in the picture is drawn by hand.
"""

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.ui.chromium import ARGUMENTS, find_chromium
from tests.ui.demo import Demo

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "method_explorer.gif"
WIDTH, HEIGHT = 1280, 680  # pixels of the page, and of the picture of its first widget
EDGE = 8  # pixels around the widget
COLOURS = 96
STEP, LAST = 1600, 5000  # milliseconds that a frame stays


def main() -> None:
    """Write the picture, whole or not at all."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*ARGUMENTS])
        with Demo(browser, ROOT / "notebooks", Path(folder) / "voila.log") as demo:
            frames = record(demo.open())
        browser.close()
    TARGET.parent.mkdir(exist_ok=True)
    # Not the most frequent colours but the most different: a cross is a few pixels large.
    coverage, plain = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    first, *others = (frame.quantize(COLOURS, coverage, dither=plain) for frame in frames)
    durations = [STEP] * len(others) + [LAST]
    content = io.BytesIO()
    first.save(
        content,
        "GIF",
        save_all=True,
        append_images=others,
        duration=durations,
        loop=0,
        optimize=True,
    )
    TARGET.write_bytes(content.getvalue())


def record(page: Page) -> list[Image.Image]:
    """From the prompt to the list."""
    page.set_viewport_size({"width": WIDTH, "height": 1700})
    box = page.locator(".nezha-panel").first
    onward = box.get_by_role("button", name="Next step")
    frames = []
    levels = [f"Level {level}: the head" for level in range(1, 5)]
    for words in ("The prompt has", "in one pass", *levels, "The list is ready"):
        onward.click()
        frames.append(taken(page, box, words))
    return frames


def taken(page: Page, box: Locator, words: str) -> Image.Image:
    """A picture of the widget, once these words are there."""
    expect(box.get_by_text(words).first).to_be_visible(timeout=30_000)
    page.wait_for_timeout(1500)  # the figure is redrawn a moment after the words
    corner = box.bounding_box()
    assert corner is not None
    left, top = (max(0, corner[side] - EDGE) for side in ("x", "y"))
    width = min(WIDTH - left, corner["width"] + 2 * EDGE)
    clip = {"x": left, "y": top, "width": width, "height": HEIGHT}
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


if __name__ == "__main__":
    main()
