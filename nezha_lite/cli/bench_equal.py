"""`nezha-lite bench equal`: what a speed-up must not change."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from nezha_lite.bench.tables import listed
from nezha_lite.cli.options import Data, Device, Folder, Results, keep, load, lower


@lower("--beam")
def equal(
    folder: Folder,
    dataset: Data,
    paths: Annotated[
        list[str] | None,
        typer.Option(
            "--path", help="repeated: nezha, autoregressive, speculative, generate-constrained"
        ),
    ] = None,
    beams: Annotated[
        list[int] | None, typer.Option("--beam", help="beam widths, repeated; 10 and 50")
    ] = None,
    users: Annotated[int, typer.Option(help="how many test users")] = 1000,
    precision: Annotated[
        Literal["float32", "float64"], typer.Option(help="of weights and activations")
    ] = "float32",
    compile: Annotated[bool, typer.Option(help="compile captured decoders, where possible")] = True,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Whether fast ways of decoding give the lists of the slow ones, prompt by prompt."""
    import torch

    from nezha_lite.bench.equality import PAIRS, bench_equality

    found, trained = load(dataset, folder, device)
    rows = []
    try:
        for row in bench_equality(
            trained.model.to(getattr(torch, precision)),
            trained.semantic_ids,
            found,
            paths or tuple(PAIRS),
            beams or (10, 50),
            users,
            compile=None if compile else False,
        ):
            rows.append(row)
            print(listed([row], lambda row: f"{row.decoder} at {row.beam}"))
    finally:  # what is measured is kept, whatever stops the rest
        if rows:
            keep(results, rows)
