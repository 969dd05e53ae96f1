"""`nezha-lite bench decode`, `train` and `tokenize`: how long things take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from nezha_lite.cli.options import Codes, Data, Device, Folder, Results, keep, load

if TYPE_CHECKING:
    from nezha_lite.results import ResultRow

app = typer.Typer(help="Time decoding, training or tokenizing, on an otherwise idle machine.")
Repeats = Annotated[int, typer.Option(help="timed calls or training steps")]


@app.command()
def decode(
    folder: Folder,
    dataset: Data,
    beams: Annotated[list[int] | None, typer.Option("--beam", help="beam widths, repeated")] = None,
    repeats: Repeats = 50,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Latency of the decoders, beside one bare forward pass."""
    from nezha_lite.bench import bench_decoding

    found, trained = load(dataset, folder, device)
    rows = bench_decoding(
        trained.model, trained.semantic_ids, found, beams or [10, 50, 512], repeats
    )
    _show([(f"{row.decoder:16s}{f'beam {row.beam}' if row.beam else '':10s}", row) for row in rows])
    keep(results, rows)


@app.command()
def train(
    folder: Folder,
    dataset: Data,
    repeats: Repeats = 50,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Training targets per second, by the way prefixes are batched."""
    from nezha_lite.bench import bench_training

    found, trained = load(dataset, folder, device)
    rows = bench_training(trained.model, trained.semantic_ids, found, steps=repeats)
    _show([(f"{row.settings['recipe']:26s}", row) for row in rows])
    keep(results, rows)


@app.command()
def tokenize(
    dataset: Annotated[
        str, typer.Argument(help="sample, beauty, …, a folder, or synthetic for made-up vectors")
    ],
    ids: Annotated[
        list[str] | None,
        typer.Option(help="quantizers, repeated; by default rq-kmeans and rq-vae"),
    ] = None,
    levels: Annotated[int, typer.Option(help="levels of the IDs")] = 4,
    codes: Codes = None,
    items: Annotated[int, typer.Option(help="how many synthetic vectors")] = 1_000_000,
    width: Annotated[int, typer.Option(help="how wide synthetic vectors are")] = 64,
    threads: Annotated[int | None, typer.Option(help="CPU threads; by default PyTorch's")] = None,
    results: Results = None,
) -> None:
    """Time and memory of fitting and encoding, each quantizer in a process of its own."""
    from nezha_lite.cli.options import codes_per_level
    from nezha_lite.datasets import load_dataset
    from nezha_lite.tokenize import item_vectors
    from nezha_lite.tokenizer_bench import SyntheticVectors, bench_tokenizers

    rows = bench_tokenizers(
        dataset,
        SyntheticVectors(items, width)
        if dataset == "synthetic"
        else item_vectors(load_dataset(dataset)),
        ids or ("rq-kmeans", "rq-vae"),
        levels,
        codes_per_level(levels, codes),
        threads=threads,
        progress=True,
    )
    _show([(f"{row.model['quantizer']:20s}", row) for row in rows])
    keep(results, rows)


def _show(rows: Sequence[tuple[str, ResultRow]]) -> None:
    for name, row in rows:
        figures = "  ".join(f"{key} {row.metrics[key]:,}" for key in row.metrics if "@" not in key)
        print(f"{name}{figures}")
