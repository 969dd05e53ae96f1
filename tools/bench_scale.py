"""Decoding by backbones up to a billion weights: `python tools/bench_scale.py --results FILE`.

Random weights take as long as trained ones. All decoders are eager, and each is compared with the
eager forward pass: at these sizes matrix products take the time, and a compiler changes little.
Every row has the tokens that the backbone reads and the FLOPs of its layers, which are facts of the
method on every device. Milliseconds are this CPU's: launch latencies and memory bandwidth, which
decide on a GPU, do not show here.

`generate` reads a copy of the prompt for every beam. Where that takes too long, its row is
extrapolated from its measured beam by the tokens read, and says so in its settings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import typer
from transformers import LlamaConfig

from nezha_lite.bench.decode import DecodeBench, bench_decoding
from nezha_lite.bench.roofline import forward_cost, measured_peaks
from nezha_lite.bench.tables import latency_table
from nezha_lite.bench.workload import synthetic_ids
from nezha_lite.cli import run
from nezha_lite.cli.bench import Json, Threads, show
from nezha_lite.cli.options import Results, keep, using_threads
from nezha_lite.common.results import ResultRow
from nezha_lite.model import NezhaConfig, NezhaModel
from nezha_lite.model.prompts import Vocabulary
from nezha_lite.semantic_ids import SemanticIds

log = logging.getLogger("nezha_lite")

RADICES, ITEMS, HISTORY = (512, 512, 512), 134_000, 20  # the paper's, as tools/bench_gpu.py
SLOW = "generate-constrained"
DECODERS = ("nezha-eager", "parallel-heads-eager", "autoregressive-eager", SLOW)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Scale:
    """A backbone's size and how much of it is timed.

    Attributes:
        generate_tokens: `generate` is extrapolated where its prompts have more tokens together.
        repeats: timed calls; three at least.
    """

    generate_tokens: int
    repeats: int


SCALES = {
    "tiny": Scale(40_000, 30),
    "small": Scale(40_000, 30),
    "qwen3-0.6b": Scale(4_000, 3),
    "llama-1b": Scale(1_000, 3),
}


def model_of(name: str, ids: SemanticIds) -> NezhaModel:
    """A preset, or `llama-1b`: the shape of Llama 3.2 1B, with the IDs' vocabulary alone."""
    if name != "llama-1b":
        return NezhaModel.from_preset(name, ids).eval()
    vocabulary = Vocabulary(ids.radices)
    backbone = LlamaConfig(
        hidden_size=2048,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        intermediate_size=8192,
        vocab_size=vocabulary.size,
        pad_token_id=vocabulary.pad,
        bos_token_id=vocabulary.bos,
        eos_token_id=None,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    return NezhaModel(NezhaConfig.for_backbone(backbone, radices=ids.radices)).eval()


def bench_scales(
    names: Sequence[str], beams: Sequence[int], ids: SemanticIds, history: int = HISTORY
) -> Iterator[list[ResultRow]]:
    """The rows of each backbone, the smallest first, as soon as it is done."""
    peaks = {dtype: measured_peaks(CPU, dtype) for dtype in (torch.float32, torch.bfloat16)}
    dtype = max(peaks, key=lambda precision: peaks[precision].flops)
    for name in names:
        scale = SCALES[name]
        log.info(f"{name}, {dtype}.")
        model = model_of(name, ids).to(dtype)  # type: ignore[arg-type]  # transformers wraps it
        config = DecodeBench(
            decoders=DECODERS,
            beams=beams,
            histories=(history,),
            repeats=scale.repeats,
            warmup=1,
            phases=False,
            compile=False,
            generate_tokens=scale.generate_tokens,
        )
        measured = bench_decoding(model, ids, None, config, peaks[dtype])
        rows = [counted(row, model, name) for row in measured]
        yield [*rows, *extrapolated(rows, beams)]


def tokens_read(decoder: str, beam: int | None, prompt: int, levels: int) -> int:
    """Tokens that the backbone reads for one list."""
    history, later = prompt - levels, (levels - 1) * (beam or 0)
    if decoder.startswith("autoregressive"):
        return history + later
    return (beam or 0) * history + later if decoder == SLOW else prompt


def counted(row: ResultRow, model: NezhaModel, name: str) -> ResultRow:
    """The row with the backbone's tokens and FLOPs; those of attention as in one long prompt."""
    prompt, levels = row.settings["tokens"], row.settings["levels"]
    read = tokens_read(str(row.decoder), row.beam, prompt, levels)
    flops = forward_cost(model.backbone.config, 1, prompt).flops * read / prompt
    metrics = {**row.metrics, "tokens_read": read, "backbone_gflops": round(flops / 1e9, 3)}
    return replace(row, metrics=metrics, model={**row.model, "preset": name})


def extrapolated(rows: Sequence[ResultRow], beams: Sequence[int]) -> list[ResultRow]:
    """Rows of `generate` at the beams that were left out, by the tokens read."""
    measured = [row for row in rows if row.decoder == SLOW]
    forward = next(row.metrics["median_ms"] for row in rows if row.decoder == "forward")
    if not measured:
        return []
    base = max(measured, key=lambda row: row.beam or 0)
    found = []
    for beam in sorted(set(beams) - {row.beam for row in measured}):
        read = tokens_read(SLOW, beam, base.settings["tokens"], base.settings["levels"])
        factor = read / base.metrics["tokens_read"]
        metrics: dict[str, Any] = {
            "median_ms": round(base.metrics["median_ms"] * factor, 1),
            "ratio_to_eager_forward": round(base.metrics["median_ms"] * factor / forward, 2),
            "tokens_read": read,
            "backbone_gflops": round(base.metrics["backbone_gflops"] * factor, 3),
        }
        settings = {**base.settings, "extrapolated": True, "from_beam": base.beam}
        found.append(replace(base, beam=beam, metrics=metrics, settings=settings))
    return found


app = typer.Typer(add_completion=False)


@app.command()
def measure(
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", help=f"repeated; by default all: {', '.join(SCALES)}"),
    ] = None,
    beams: Annotated[list[int] | None, typer.Option("--beam", help="repeated")] = None,
    threads: Threads = None,
    json: Json = False,
    results: Results = None,
) -> None:
    """Measure the decoders by the size of the backbone. Results are written after every size."""
    if unknown := sorted(set(sizes or ()) - set(SCALES)):
        raise ValueError(f"size is {unknown[0]!r}, but must be one of {', '.join(SCALES)}.")
    rows: list[ResultRow] = []
    with using_threads(threads):
        ids = synthetic_ids(ITEMS, RADICES)
        for found in bench_scales(sizes or [*SCALES], beams or (10, 50, 512), ids):
            rows += found
            keep(results, rows, json=True)
    show(rows, latency_table, json)


def main() -> None:
    """Run the command."""
    run(app)


if __name__ == "__main__":
    main()
