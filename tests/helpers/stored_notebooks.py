"""The notebooks as they are stored: where they lie, and their cells taken apart."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(
    path for path in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
)
LESSONS = sorted(FOLDER.glob("[0-9][0-9]*_*.ipynb"))

# What a reader replaces by an answer: `answer = None  # a number`, or a function without a body.
STUB = re.compile(
    r"^(?:\w+(?:, \w+)* = None(?:, None)*(?: *#.*)?|def .*:\n    \.\.\.)$", re.MULTILINE
)

Cell = dict[str, Any]


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def tags(cell: Cell) -> list[str]:
    return cell["metadata"].get("tags", [])


def code_cells(notebook: dict[str, Any]) -> list[Cell]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def prose(notebook: dict[str, Any]) -> str:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join(joined(cell["source"]) for cell in cells)


def headings(notebook: dict[str, Any]) -> list[str]:
    """Titles of all sizes, without their marks and in their order."""
    outside_code = re.sub(r"```.*?```", "", prose(notebook), flags=re.DOTALL)
    return re.findall(r"^#+ (.+)$", outside_code, flags=re.MULTILINE)


def output_texts(cell: Cell) -> Iterator[str]:
    """Everything that a cell's outputs show, whatever their kind."""
    for output in cell["outputs"]:
        yield joined(output.get("text", ""))
        yield "\n".join(output.get("traceback", []))
        for content in output.get("data", {}).values():
            yield json.dumps(content) if isinstance(content, dict) else joined(content)


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson, or its answer among the solutions.

    Attributes:
        title: the heading, "Exercise N: …".
        text: the rest of the cell with the heading.
        source: the code cell after it; empty where another kind of cell follows.
        shown: the last line that this cell printed.
    """

    title: str
    text: str
    source: str
    shown: str


def exercises(notebook: dict[str, Any]) -> list[Exercise]:
    """The exercises in their order."""
    found = []
    for cell, following in zip(notebook["cells"], [*notebook["cells"][1:], None], strict=True):
        heading = re.search(r"^### (Exercise .+)$", joined(cell["source"]), flags=re.MULTILINE)
        if cell["cell_type"] == "markdown" and heading:
            text = joined(cell["source"])[heading.end() :]
            source = shown = ""
            if following and following["cell_type"] == "code":
                source = joined(following["source"])
                lines = "".join(output_texts(following)).strip().splitlines()
                shown = lines[-1] if lines else ""
            found.append(Exercise(heading[1], text, source, shown))
    return found
