"""Run the notebooks of the course in order: `python notebooks/run.py [--write] [notebook ...]`.

Executed copies land in build/notebooks/. With `--write` the notebooks themselves are replaced too:
that is how the outputs stored in the repository are made.
"""

import argparse
import base64
import html
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

HERE = Path(__file__).resolve().parent
COPIES = HERE.parent / "build" / "notebooks"
CELL_SECONDS = 600
WIDGET, PICTURE = "application/vnd.jupyter.widget-view+json", "image/svg+xml"


class NotebookError(Exception):
    """A notebook did not run to its end; the message names the notebook and the cell."""


def course() -> list[Path]:
    """The notebooks NN_*.ipynb (or NNb_*.ipynb) by number, then their solutions."""
    pattern = "[0-9][0-9]*_*.ipynb"
    return sorted(HERE.glob(pattern)) + sorted((HERE / "solutions").glob(pattern))


def execute(path: Path) -> nbformat.NotebookNode:
    """Run one notebook in its own folder and return it with fresh outputs."""
    notebook = nbformat.read(path, as_version=4)
    reached = 0

    def note(cell: nbformat.NotebookNode, cell_index: int) -> None:
        nonlocal reached
        reached = cell_index

    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=CELL_SECONDS,
        coalesce_streams=True,
        record_timing=False,  # times would make every run a change
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=note,
        extra_arguments=["--log-level=ERROR"],  # ipykernel warns about every local connection
    )
    try:
        client.execute()
    except CellExecutionError as error:
        reason = f"{error.ename}: {error.evalue}"
    except CellTimeoutError:
        reason = f"no answer within {CELL_SECONDS} seconds"
    except DeadKernelError:
        reason = "the kernel died (out of memory?)"
    else:
        return tidy(notebook)
    first_line = notebook.cells[reached].source.strip().partition("\n")[0]
    place = f"{path.relative_to(HERE.parent)}, cell {reached + 1} (`{first_line}`)"
    raise NotebookError(f"{place}: {reason}")


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what a stored notebook must not hold: widget state (megabytes, and GitHub refuses to
    show it), widgets that need it, and the interpreter's version."""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": kernel, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if WIDGET in output.get("data", {}):
                store_picture(output["data"])
    return notebook


def store_picture(data: nbformat.NotebookNode) -> None:
    """Replace a widget by its picture in the MIME bundle of an output.

    JupyterLab prefers the widget, and cannot show it without the kernel that made it. It shows
    SVG outputs only in notebooks that it trusts (not in a fresh clone), and an `<img>` in all.
    """
    del data[WIDGET]
    if PICTURE in data:
        data["text/html"] = image(data[PICTURE], data["text/plain"])


def image(svg: str, words: str) -> str:
    """A picture as HTML, with the words for readers who do not see it."""
    encoded = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    return f'<img src="data:{PICTURE};base64,{encoded}" alt="{html.escape(words)}">'


def save(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        nbformat.write(notebook, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the notebooks of the course in order.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="only these (default: all)")
    parser.add_argument("--write", action="store_true", help="store the outputs in the notebooks")
    options = parser.parse_args()
    paths = [path.resolve() for path in options.notebooks] or course()
    for path in paths:
        if not path.is_file() or HERE not in path.parents:
            parser.error(f"{path} is not a notebook below {HERE.name}/")
    if not paths:
        parser.error(f"there is no notebook named NN_*.ipynb in {HERE.name}/")

    started = time.perf_counter()
    for path in paths:
        begun = time.perf_counter()
        try:
            notebook = execute(path)
        except NotebookError as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
        save(notebook, COPIES / path.relative_to(HERE))
        if options.write:
            save(notebook, path)
        seconds = time.perf_counter() - begun
        print(f"{seconds:6.1f} s  {path.relative_to(HERE.parent)}", flush=True)
    print(f"{time.perf_counter() - started:6.1f} s  all cells ran; notebooks: {len(paths)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
