"""How long a reader waits after a key: every slider of every widget of the course, in Chromium.

    python tests/ui/response.py --results data/results/latency-sample-widgets.json

A key is pressed on a slider; the page notes when that was, and when the last thing changed inside
the widget before it came to rest. That is what a person sees: key, kernel, and drawing together.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from playwright.sync_api import Locator, sync_playwright
from tqdm import tqdm

from nezha_lite.common.results import ResultRow, provenance, write_results
from tests.ui.chromium import ARGUMENTS, find_chromium
from tests.ui.lab import Lab, Notebook

ROOT = Path(__file__).resolve().parents[2]
LESSONS = (
    "00_tour.ipynb",
    "01_semantic_ids.ipynb",
    "01b_tokenizer_contest.ipynb",
    "03_draft_head.ipynb",
    "04_hash_set_verifier.ipynb",
    "05_nezha_decoding.ipynb",
    "06_speed.ipynb",
    "10_capacity_planning.ipynb",
)
KEYS = ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft")
ROUNDS = 2
REST = 400  # milliseconds without a change: the widget has come to rest
LONGEST = 5000  # milliseconds after which nobody waits any more

# Changes of the slider itself, which moves under the finger, do not count as an answer.
PRESS_AND_WATCH = """(handle, [key, rest, longest]) => new Promise(resolve => {
    const panel = handle.closest('.nezha-panel');
    const own = handle.closest('.widget-slider');
    let begun = 0, last = 0;
    const watch = new MutationObserver(changes => {
        if (changes.some(change => !own.contains(change.target))) last = performance.now();
    });
    const look = () => {
        const now = performance.now();
        if (now - Math.max(begun, last) < rest && now - begun < longest) {
            setTimeout(look, 50);
            return;
        }
        watch.disconnect();
        resolve(last ? last - begun : null);
    };
    watch.observe(panel, {subtree: true, childList: true, attributes: true, characterData: true});
    handle.focus();
    begun = performance.now();
    const event = {key, code: key, keyCode: key === 'ArrowRight' ? 39 : 37, bubbles: true};
    handle.dispatchEvent(new KeyboardEvent('keydown', event));
    look();
})"""


def main() -> None:
    """Measure, and write one row for each slider."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="JSON file to write")
    chosen = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*ARGUMENTS])
        with Lab(browser, ROOT / "notebooks", Path(folder), Path(folder)) as lab:
            rows: list[ResultRow] = []
            for lesson in tqdm(LESSONS):
                rows += measured(lab.open(lesson))
                write_results(chosen.results, rows)
        browser.close()


def measured(notebook: Notebook) -> Iterator[ResultRow]:
    """One row for each slider of the notebook's widgets."""
    notebook.run_all(seconds=600)
    notebook.page.wait_for_timeout(3000)  # figures come a moment after the last cell
    panels = notebook.page.locator(".nezha-panel")
    for place in range(panels.count()):
        sliders = panels.nth(place).locator(".widget-slider")
        for number in range(sliders.count()):
            begun = time.perf_counter()
            slider = sliders.nth(number)
            times = answers(slider)
            if not times:
                continue
            median, p95 = np.percentile(times, (50, 95))
            metrics = {"median_ms": median, "p95_ms": p95, "max_ms": max(times)}
            yield ResultRow(
                kind="latency",
                dataset="sample",
                model={"preset": "tiny"},
                metrics={name: round(float(value), 1) for name, value in metrics.items()},
                settings={
                    "notebook": notebook.name,
                    "widget": place + 1,
                    "control": slider.locator(".widget-label").inner_text(),
                    "presses": len(times),
                    "browser": notebook.page.context.browser.version,  # type: ignore[union-attr]
                },
                **provenance("cpu"),
                seconds=round(time.perf_counter() - begun, 2),
            )
    notebook.close()


def answers(slider: Locator) -> list[float]:
    """Milliseconds from each key to the last change that it caused; keys without one left out."""
    handle = slider.get_by_role("slider")
    slider.scroll_into_view_if_needed()
    found = [
        handle.evaluate(PRESS_AND_WATCH, [key, REST, LONGEST])
        for _ in range(ROUNDS)
        for key in KEYS
    ]
    return [value for value in found[1:] if value is not None]  # the first warms up


if __name__ == "__main__":
    main()
