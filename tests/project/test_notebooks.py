"""Hygiene of the stored notebooks: run in order, light, free of this machine, and connected.

nbval compares only cells that were run, so an unrun notebook would pass there: it fails here.
"""

import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from tests.helpers.for_each import for_each
from tests.helpers.stored_notebooks import (
    FOLDER,
    LESSONS,
    NOTEBOOKS,
    ROOT,
    code_cells,
    headings,
    joined,
    load,
    output_texts,
    prose,
    tags,
)

CORE = 11  # 00 to 10 are the course

every_notebook = for_each({path.relative_to(FOLDER).as_posix(): (path,) for path in NOTEBOOKS})


def anchor(heading: str) -> str:
    """A heading's anchor as JupyterLab makes it; GitHub's differs only in case and punctuation."""
    return heading.strip().replace(" ", "-")


def test_the_course_has_its_lessons() -> None:
    numbers = {path.name[:2] for path in LESSONS}
    missing = [f"{number:02}" for number in range(CORE) if f"{number:02}" not in numbers]
    assert not missing, f"notebooks/ has no lesson {', '.join(missing)}"


def test_lessons_have_distinct_numbers_without_gaps() -> None:
    numbers = [path.name.partition("_")[0] for path in LESSONS]  # "01b" continues "01"
    assert len(set(numbers)) == len(numbers)
    assert sorted({int(number[:2]) for number in numbers}) == list(range(CORE))
    assert all(number[2:] == "" or number[:2] in numbers for number in numbers)


@every_notebook
def test_cells_were_run_once_from_top_to_bottom(path: Path) -> None:
    cells = [cell for cell in code_cells(load(path)) if "skip-execution" not in tags(cell)]
    assert cells, "there is no code cell to run"
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), "run notebooks/run.py --write"


@every_notebook
def test_skipped_cells_are_skipped_everywhere(path: Path) -> None:
    for cell in code_cells(load(path)):
        skipped = {"skip-execution", "nbval-skip"} & set(tags(cell))
        assert len(skipped) != 1, f"tag both or neither: {joined(cell['source'])[:60]!r}"


@every_notebook
def test_no_saved_widget_state_and_no_timings(path: Path) -> None:
    notebook = load(path)
    assert "widgets" not in notebook["metadata"], (
        "GitHub does not show a notebook with widget state"
    )
    assert not [cell for cell in code_cells(notebook) if "execution" in cell["metadata"]]


@every_notebook
def test_no_live_widget_is_stored(path: Path) -> None:
    for cell in code_cells(load(path)):
        for output in cell["outputs"]:
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), (
                "JupyterLab would not show its picture: run notebooks/run.py --write"
            )


@every_notebook
def test_errors_are_stored_only_where_they_teach(path: Path) -> None:
    for cell in code_cells(load(path)):
        errors = [out for out in cell["outputs"] if out["output_type"] == "error"]
        if "raises-exception" in tags(cell):
            assert errors, f"this cell should raise: {joined(cell['source'])[:60]!r}"
        else:
            assert not errors, f"this cell stores an error: {joined(cell['source'])[:60]!r}"


@every_notebook
def test_no_warning_is_stored(path: Path) -> None:
    for cell in code_cells(load(path)):
        for output in cell["outputs"]:
            if output.get("name") == "stderr":
                warning = re.search(r".*Warning\b.*", joined(output["text"]))
                assert not warning, warning and warning[0]


@every_notebook
def test_outputs_name_no_path_of_the_machine_they_were_made_on(path: Path) -> None:
    absolute = re.compile(
        r"(?<![\w.:/])/(?:home|Users|root|tmp|var|opt|usr|private|mnt|work|srv)/[\w.-]+"
        r"|\b[A-Za-z]:\\\\?\w+"
    )
    for cell in code_cells(load(path)):
        for text in output_texts(cell):
            found = absolute.search(text)
            assert not found, f"an output shows {found and found[0]}"
            assert str(ROOT) not in text


@every_notebook
def test_notebooks_stay_light(path: Path) -> None:
    assert path.stat().st_size < 500_000


@every_notebook
def test_the_kernel_is_plain_python(path: Path) -> None:
    assert load(path)["metadata"]["kernelspec"]["name"] == "python3"


@every_notebook
def test_code_cells_fit_on_a_screen(path: Path) -> None:
    for cell in code_cells(load(path)):
        source = joined(cell["source"])
        assert source.strip(), "there is an empty code cell"
        lines = source.count("\n") + 1
        assert lines <= 25, f"{lines} lines are too many for a cell: {source[:60]!r}"


@every_notebook
def test_the_first_cell_is_the_title(path: Path) -> None:
    notebook = load(path)
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown"
    assert joined(first["source"]).startswith("# ")
    outside_code = re.sub(r"```.*?```", "", prose(notebook), flags=re.DOTALL)
    assert len(re.findall(r"^# ", outside_code, flags=re.MULTILINE)) == 1, "one title a notebook"


@every_notebook
def test_links_lead_somewhere(path: Path) -> None:
    text = prose(load(path))
    targets = re.findall(r"\]\(<?([^)\s>]+)", text) + re.findall(r'(?:href|src)="([^"]+)"', text)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue  # the web, mail, and images inside the notebook
        place, _, fragment = unquote(target).partition("#")
        goal = (path.parent / place) if place else path
        assert goal.exists(), f"{target} leads nowhere"
        if fragment and goal.suffix == ".ipynb":
            assert fragment in map(anchor, headings(load(goal))), (
                f"{target} names no heading of {goal.name}"
            )


def test_each_lesson_leads_to_the_next() -> None:
    for lesson, following in pairwise(LESSONS):
        linked = f"]({following.name}" in prose(load(lesson))
        assert linked, f"{lesson.name} does not link to {following.name}"
