"""How the benches answer: figures on stdout, all else on stderr, a file where one is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from nezha_lite.cli.options import keep

if TYPE_CHECKING:
    from nezha_lite.results import ResultRow


def keep_rows(results: Path | None, rows: Sequence[ResultRow], json: bool) -> None:
    """As `keep`; with JSON on stdout, nothing else goes there."""
    with redirect_stdout(sys.stderr if json else sys.stdout):
        keep(results, rows)


def show(
    rows: Sequence[ResultRow], table: Callable[[Sequence[ResultRow]], str], json: bool
) -> None:
    """Print rows as a table for people, or as JSON lines; MemoryError if nothing fitted."""
    from nezha_lite.bench.report import json_lines

    if not rows:
        raise MemoryError("Nothing was measured: all of it was left out.")
    print("\n".join(json_lines(rows)) if json else table(rows))


def listed(rows: Sequence[ResultRow], name: Callable[[ResultRow], str]) -> str:
    """A line for each row: its name, then all its figures."""
    lines = []
    for row in rows:
        figures = "  ".join(f"{key} {row.metrics[key]:,}" for key in row.metrics if "@" not in key)
        lines.append(f"{name(row):25s} {figures}")
    return "\n".join(lines)


def tell(line: str) -> None:
    """What is going on, on stderr."""
    print(line, file=sys.stderr)


@contextmanager
def using_threads(threads: int | None) -> Iterator[None]:
    """So many CPU threads, and as many as before afterwards."""
    import torch

    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}, but must be at least 1.")
    kept = torch.get_num_threads()
    torch.set_num_threads(threads or kept)
    try:
        yield
    finally:
        torch.set_num_threads(kept)
