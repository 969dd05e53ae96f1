"""A million users from the table to everyone's list: `python tools/bench_million.py WORK`.

Each step is a command in a process of its own; its seconds and its peak memory are kept.
`--users 10000 --interactions 100000 --items 3000` tries it at a hundredth of the size.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from nezha_lite.common.checks import check
from nezha_lite.common.results import ResultRow, write_results

TOOLS = Path(__file__).resolve().parent
RESULTS = TOOLS.parent / "data" / "results" / "scale-synthetic-million.json"


def main(
    work: Path,
    users: int = 1_000_000,
    interactions: int = 10_000_000,
    items: int = 300_000,
    codes: int = 256,
    table: Annotated[str, typer.Option("--format", help="csv or parquet")] = "csv",
    results: Path = RESULTS,
) -> None:
    """Run all steps in the folder WORK, which must be empty, and write what they took."""
    check(not work.exists() or not any(work.iterdir()), "WORK", work, "a new or empty folder")
    sizes = {"users": users, "interactions": interactions, "items": items}
    options = [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
    tables, shop, ids, run = (str(work / name) for name in ("tables", "shop", "ids", "run"))
    cli = ("-m", "nezha_lite.cli")
    pair = (f"{tables}/interactions.{table}", f"{tables}/items.{table}")
    everyone = ("--all", "--out", str(work / "lists.parquet"), "--beam", "20")
    steps: dict[str, tuple[str, ...]] = {
        "make": (str(TOOLS / "make_million.py"), tables, *options, "--format", table),
        "import": (*cli, "import", *pair, shop),
        "load": (*cli, "data", shop),
        "tokenize": (*cli, "tokenize", shop, ids, "--codes", str(codes)),
        "train": (*cli, "train", shop, run, "--ids", ids, "--epochs", "1"),
        "lists": (*cli, "recommend", run, shop, *everyone),
    }
    rows = []
    for step, arguments in steps.items():
        started = time.perf_counter()
        load = os.getloadavg()[0]
        process = subprocess.Popen([sys.executable, *arguments])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{step} failed with status {process.returncode}; WORK keeps what it left.")
        metrics = {
            "wall_seconds": time.perf_counter() - started,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_mib": usage.ru_maxrss / 1024,  # of the largest process, on Linux
            "load_before": load,  # above the number of cores, others had a part of them
        }
        print(step, {name: round(value, 1) for name, value in metrics.items()}, flush=True)
        row = ResultRow.measured(
            device="cpu",
            started=started,
            digits=1,
            kind="scale",
            dataset="synthetic-million",
            model={"preset": "tiny"} if step in ("train", "lists") else {},
            metrics=metrics,
            beam=20 if step == "lists" else None,
            settings={"step": step, "cores": os.cpu_count(), "format": table, **sizes},
        )
        rows.append(row)
        write_results(results, rows)  # what is measured is kept if a later step fails


if __name__ == "__main__":
    typer.run(main)
