"""The latency cases for a GPU: `python tools/bench_gpu.py --results FILE` runs them all.

Random weights of public shapes: they take as long as trained ones. Published figures that the cases
stand beside are for a reader to compare with, on another device and by another's measure.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import typer

from nezha_lite.bench.decode import DecodeBench, bench_decoding
from nezha_lite.bench.decoders import DECODERS
from nezha_lite.bench.tables import latency_table
from nezha_lite.bench.workload import synthetic_ids
from nezha_lite.cli import run
from nezha_lite.cli.bench import Json, show
from nezha_lite.cli.options import Device, Results, keep
from nezha_lite.common.results import ResultRow
from nezha_lite.decoding.recommender import find_device
from nezha_lite.model import NezhaModel

log = logging.getLogger("nezha_lite")


@dataclass(frozen=True)
class GpuCase:
    """One question to a GPU.

    Attributes:
        name: for `--case`, and in the rows' settings.
        shows: what the figure stands beside.
        preset: the model's shape, with random weights.
        bench: what is measured.
        radices: T_1 … T_L of the catalogue.
        items: how many random IDs exist.
        dtype: the model's precision.
    """

    name: str
    shows: str
    preset: str
    bench: DecodeBench
    radices: tuple[int, ...] = (512, 512, 512)  # the paper's
    items: int = 134_000  # a thousandth of that space, as there
    dtype: torch.dtype = torch.bfloat16


_LONG = ("forward", "forward-captured", "nezha", "nezha-eager", "autoregressive")
_MEASURED = DecodeBench(repeats=300, warmup=10, seconds=10.0)
GPU_CASES = (
    GpuCase(
        "paper",
        "20 items at beam 512: the paper's production bound is 30 ms",
        "qwen3-0.6b",
        replace(_MEASURED, decoders=tuple(DECODERS), beams=(512,)),
    ),
    GpuCase(
        "context-1000",
        "1,000 tokens at beam 256: published for NVIDIA's SID-GR inference, 17.6 ms on an H100",
        "qwen3-1.7b",
        replace(_MEASURED, decoders=_LONG, beams=(256,), histories=(), contexts=(1000,)),
    ),
    GpuCase(
        "context-5000",
        "5,000 tokens, 8 prompts, at beam 256: published for the same, 307.9 ms",
        "qwen3-1.7b",
        replace(
            _MEASURED, decoders=_LONG, beams=(256,), batches=(8,), histories=(), contexts=(5000,)
        ),
    ),
    GpuCase(
        "throughput",
        "prompts a second, by how many are decoded together",
        "qwen3-0.6b",
        replace(
            _MEASURED,
            decoders=("forward", "nezha"),  # every batch size is compiled anew
            beams=(512,),
            batches=(1, 2, 4, 8, 16, 32, 64),
            seconds=4.0,
        ),
    ),
)


def bench_gpu(
    cases: Sequence[GpuCase] = GPU_CASES, device: torch.device | str = "cuda"
) -> Iterator[list[ResultRow]]:
    """The rows of each case, as soon as it is done."""
    for case in cases:
        log.info(f"Case {case.name}: {case.shows}.")
        ids = synthetic_ids(case.items, case.radices)
        longest = max(case.bench.items_per_prompt(ids.levels))
        model = NezhaModel.from_preset(case.preset, ids, max_items=longest).eval()
        model.to(device, case.dtype)
        rows = bench_decoding(model, ids, config=case.bench)
        yield [replace(row, settings={**row.settings, "case": case.name}) for row in rows]


app = typer.Typer(add_completion=False)


@app.command()
def measure(
    cases: Annotated[
        list[str] | None,
        typer.Option(
            "--case", help="paper, context-1000, context-5000, throughput; by default all"
        ),
    ] = None,
    device: Device = "auto",
    json: Json = False,
    results: Results = None,
) -> None:
    """Measure the cases for a GPU. Results are written after every case."""
    known = {case.name: case for case in GPU_CASES}
    if unknown := sorted(set(cases or ()) - set(known)):
        raise ValueError(f"case is {unknown[0]!r}, but must be one of {', '.join(known)}.")
    place = find_device(device)
    if place.type == "cpu" and device == "auto":
        raise ValueError("There is no GPU here; --device cpu would run these cases on the CPU.")
    rows: list[ResultRow] = []
    for found in bench_gpu([known[name] for name in cases or known], place):
        rows += found
        keep(results, rows, json=True)
    show(rows, latency_table, json)


def main() -> None:
    """Run the command."""
    run(app)


if __name__ == "__main__":
    main()
