"""Lesson 09 in the browser: the map of semantic IDs can be downloaded, in both front ends."""

from pathlib import Path

import pytest

from nezha_lite.semantic_ids.spreadsheet import read_sid_map
from tests.ui.lab import NOTEBOOK_7, Lab
from tests.ui.test_lessons import drive_decode_explorer, lesson


@pytest.mark.timeout(600)
@pytest.mark.parametrize("front", ["lab/tree", NOTEBOOK_7])
def test_the_map_is_downloaded_from_the_link(lab: Lab, front: str, tmp_path: Path) -> None:
    notebook = lab.open(lesson(9), front)
    notebook.run_all(seconds=400)
    link = notebook.page.get_by_role("link", name="Download sid-map.csv")
    link.scroll_into_view_if_needed()
    with notebook.page.expect_download() as waiting:
        link.click()
    notebook.screenshot(f"lesson-09-{front.partition('/')[0]}")
    assert waiting.value.suggested_filename == "sid-map.csv"
    waiting.value.save_as(tmp_path / "sid-map.csv")
    assert read_sid_map(tmp_path / "sid-map.csv").n_items == 504
    if front == NOTEBOOK_7:
        drive_decode_explorer(notebook, "lesson-09")
    notebook.close()
