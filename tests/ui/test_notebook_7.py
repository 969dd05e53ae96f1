"""The widgets in Jupyter Notebook 7, the other front end that readers have."""

import pytest
from playwright.sync_api import expect

from tests.ui.lab import NOTEBOOK_7, Lab
from tests.ui.test_lessons import drive_decode_explorer, lesson


@pytest.mark.timeout(400)
def test_a_lesson_runs_and_its_widget_moves(lab: Lab) -> None:
    notebook = lab.open(lesson(5), NOTEBOOK_7)
    notebook.expect_pictures()
    notebook.run_all()
    drive_decode_explorer(notebook, "notebook-7-lesson-05")
    expect(notebook.page).to_have_title("05_nezha_decoding")
    notebook.close()
