"""`nezha-lite study`: from data to a results file, in one command that can be stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nezha_lite.cli.options import Data, Device, Results, keep, lower


@lower("--workers")
def study(
    dataset: Data,
    output: Annotated[Path, typer.Argument(help="the study's folder", file_okay=False)],
    preset: Annotated[
        str, typer.Option(help="quick (an hour on two CPU cores), full (a GPU), or sample")
    ] = "quick",
    only: Annotated[
        list[str] | None,
        typer.Option(help="a system such as nezha or sasrec, repeated; by default all"),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="of the runs, repeated; by default the preset's")
    ] = None,
    workers: Annotated[
        int, typer.Option(help="jobs at a time; 0: one a core, or three on a GPU")
    ] = 0,
    show: Annotated[
        bool, typer.Option("--status", help="say what is done and what is left, and do nothing")
    ] = False,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Does the draft head lose anything? Train, decode and compare everything, with intervals.

    The same command goes on where it was interrupted. Results are written from what is there, so
    `--only nezha --only sasrec` first and the rest later gives the same file.
    """
    from dataclasses import replace

    import torch

    from nezha_lite.datasets import load_dataset
    from nezha_lite.evaluation.study import PRESETS, Report, run_study, status

    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}, but must be one of {sorted(PRESETS)}.")
    if workers < 0:
        raise ValueError(f"--workers is {workers}, but must be 0 or more.")
    config = PRESETS[preset]
    if seed:
        config = replace(config, seeds=tuple(seed))
    found = load_dataset(dataset)
    workers = workers or (3 if torch.cuda.is_available() else os.cpu_count() or 1)
    if show:
        print(status(found, config, output, only or ()).sentence(workers))
        return
    run_study(found, config, output, only or (), workers, device)
    rows = Report(found, config, output).rows()
    for row in rows:
        if row.settings["part"] == "systems":
            figures = "  ".join(
                f"{name} {row.metrics[name]:.4f}" + (f" ± {row.std[name]:.4f}" if row.std else "")
                for name in ("recall@10", "ndcg@10")
            )
            print(f"{row.settings['system']:24s} {figures}")
    keep(results, rows)
