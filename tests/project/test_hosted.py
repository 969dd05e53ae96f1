"""The first cell of every lesson, which sets up a hosted machine, and what it runs there."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from notebooks import hosted
from tests.helpers.for_each import for_each
from tests.helpers.stored_notebooks import LESSONS, ROOT, code_cells, joined, load

every_lesson = for_each({path.stem: (path,) for path in LESSONS})


def first_cell(lesson: Path) -> str:
    return joined(code_cells(load(lesson))[0]["source"])


@every_lesson
def test_the_first_cell_is_the_same_everywhere_and_shows_nothing(lesson: Path) -> None:
    first = load(lesson)["cells"][1]
    assert first["cell_type"] == "code"
    assert not first["outputs"]
    assert first_cell(lesson) == first_cell(LESSONS[0])
    assert first_cell(lesson).count("\n") <= 7


def test_the_cell_fetches_the_course_and_runs_what_lies_there() -> None:
    text = first_cell(LESSONS[0])
    assert '"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"' in text
    assert 'os.path.exists("hosted.py")' in text, "run twice, it fetches once"
    assert text.endswith("%cd nezha-lite/notebooks\n    %run hosted.py")
    assert (ROOT / "notebooks" / "hosted.py").is_file()


def test_a_host_installs_what_lessons_import_and_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    enabled: list[bool] = []
    colab, output = ModuleType("google.colab"), ModuleType("google.colab.output")
    output.enable_custom_widget_manager = lambda: enabled.append(True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    monkeypatch.setenv("PYTHONPATH", "")

    hosted.main()

    (command,) = commands
    names = {name.partition(">=")[0] for name in command[command.index("--quiet") + 1 :]}
    assert {"torch", "transformers", "plotly", "ipywidgets", "anywidget", "simpy"} <= names
    assert not names & {"jupyterlab", "voila", "nbval", "pytest"}
    assert sys.path[0] == os.environ["PYTHONPATH"] == str(ROOT)
    assert enabled == [True]
