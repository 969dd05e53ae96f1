"""`nezha-lite bench decode`, `verify`, `train`, `gpu` and `tokenize`: how long things take.

Whether decoders agree is beside it, in `bench_equal`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nezha_lite.bench.tables import listed
from nezha_lite.cli.bench_equal import equal
from nezha_lite.cli.bench_support import keep_rows, show, using_threads
from nezha_lite.cli.options import Codes, Data, Device, Folder, Results, keep, load, lower

if TYPE_CHECKING:
    from nezha_lite.common.results import ResultRow

log = logging.getLogger("nezha_lite")
app = typer.Typer(
    help="Time decoding, verifying, training or tokenizing, on an otherwise idle machine; or count "
    "whether answers stay right: equal, soak, recommend, membership."
)
Repeats = Annotated[int, typer.Option(help="timed calls or training steps")]
Json = Annotated[
    bool, typer.Option("--json", help="one JSON object a line: first the machine, then the rows")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; by default PyTorch's")]


@app.command()
@lower("--batch", "--beam", "--history")
def decode(
    model: Annotated[
        Path | None, typer.Option(help="folder written by `train`, instead of random weights")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="backbone with random weights: tiny, small, qwen3-0.6b, …")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="real prompts and IDs: sample, beauty, …, or a folder")
    ] = None,
    levels: Annotated[
        list[int] | None,
        typer.Option(help="levels of the IDs, repeated; by default 4, a data set's 3"),
    ] = None,
    codes: Annotated[
        int | None, typer.Option(help="codes per level; by default 256, a data set's 64")
    ] = None,
    items: Annotated[
        int | None, typer.Option(help="items of a synthetic catalogue; by default 12,000")
    ] = None,
    decoders: Annotated[
        list[str] | None,
        typer.Option(
            "--decoder",
            help="repeated, or all: forward, forward-captured, nezha, nezha-eager, parallel-heads, "
            "autoregressive, autoregressive-eager, speculative, generate, generate-constrained",
        ),
    ] = None,
    beams: Annotated[
        list[int] | None, typer.Option("--beam", help="beam widths, repeated; 10, 50 and 512")
    ] = None,
    batches: Annotated[
        list[int] | None, typer.Option("--batch", help="prompts decoded together, repeated")
    ] = None,
    histories: Annotated[
        list[int] | None, typer.Option("--history", help="items per prompt, repeated; 20")
    ] = None,
    contexts: Annotated[
        list[int] | None, typer.Option("--context", help="or tokens per prompt, repeated")
    ] = None,
    structures: Annotated[
        list[str] | None,
        typer.Option("--structure", help="verifiers, repeated: auto, trie, bitset, sorted, …"),
    ] = None,
    verifications: Annotated[
        list[str] | None,
        typer.Option("--verification", help="when drafts are checked, repeated; by prefix"),
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="of weights and activations")
    ] = "float32",
    repeats: Repeats = 100,
    warmup: Annotated[int, typer.Option(help="calls before the timed ones")] = 5,
    seconds: Annotated[
        float, typer.Option(help="time for a decoder's timed calls; a slow one is called less")
    ] = 5.0,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="of prompts, catalogue and weights")] = 0,
    device: Device = "auto",
    phases: Annotated[
        bool, typer.Option(help="split eager decoders: forward, head, verify, select")
    ] = True,
    compile: Annotated[bool, typer.Option(help="compile captured decoders, where possible")] = True,
    json: Json = False,
    results: Results = None,
) -> None:
    """Latency of the decoders, beside one bare forward pass; without options, of random weights."""
    import torch

    from nezha_lite.bench import DECODERS, DecodeBench, bench_decoding
    from nezha_lite.bench.decoders import USUAL
    from nezha_lite.bench.roofline import measured_peaks
    from nezha_lite.bench.tables import latency_table
    from nezha_lite.cli.bench_support import catalogues, random_model
    from nezha_lite.common.memory import out_of_memory
    from nezha_lite.decoding.recommender import find_device

    asked = DecodeBench(
        decoders=tuple(DECODERS) if decoders == ["all"] else decoders or USUAL,
        beams=beams or (10, 50, 512),
        batches=batches or (1,),
        histories=histories or (() if contexts else (20,)),
        contexts=contexts or (),
        verifications=verifications or ("prefix",),  # type: ignore[arg-type]  # checked there
        structures=structures or ("auto",),
        repeats=repeats,
        warmup=warmup,
        seconds=seconds,
        phases=phases,
        compile=None if compile else False,
        seed=seed,
    )
    place = find_device(device)
    dtype = getattr(torch, precision)
    rows: list[ResultRow] = []
    with using_threads(threads):
        setups = list(catalogues(model, preset, dataset, levels, codes, items, place, seed))
        peaks = measured_peaks(place, dtype)
        for found, ids, trained in setups:
            try:
                timed = trained or random_model(preset, ids, asked, seed)
                timed.to(place, dtype)  # type: ignore[arg-type]  # transformers wraps it
                rows += bench_decoding(timed, ids, found, asked, peaks)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                log.info(f"Left out: {ids.levels} levels: there is too little memory.")
        show(rows, latency_table, json)
    keep_rows(results, rows, json)


@app.command()
@lower("--items", "--beam")
def verify(
    items: Annotated[
        list[int] | None, typer.Option(help="sizes of catalogues, repeated; 10⁴ to 10⁷")
    ] = None,
    levels: Annotated[int, typer.Option(help="levels of the IDs")] = 3,
    codes: Annotated[int, typer.Option(help="codes per level")] = 512,
    structures: Annotated[
        list[str] | None,
        typer.Option("--structure", help="isin, sorted, hash-table, bitset, trie, hash-set"),
    ] = None,
    beam: Annotated[int, typer.Option(help="prefixes whose continuations are checked")] = 512,
    repeats: Repeats = 30,
    decode: Annotated[
        bool, typer.Option(help="also time a decode, for the verifier's share")
    ] = True,
    compile: Annotated[bool, typer.Option(help="compile that decode, where possible")] = True,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="of IDs and beams")] = 0,
    device: Device = "auto",
    json: Json = False,
    results: Results = None,
) -> None:
    """Memory and time of the verifiers, by the size of the catalogue."""
    from nezha_lite.bench.tables import verifier_table
    from nezha_lite.bench.verifiers import STRUCTURES, bench_verifiers
    from nezha_lite.decoding.recommender import find_device

    if levels < 1 or codes < 1:
        raise ValueError(f"levels and codes are {levels} and {codes}, but must be at least 1.")
    with using_threads(threads):
        rows = bench_verifiers(
            items or (10_000, 100_000, 1_000_000, 10_000_000),
            (codes,) * levels,
            structures or STRUCTURES,
            beam,
            repeats,
            seed,
            find_device(device),
            decode,
            None if compile else False,
        )
        show(rows, verifier_table, json)
    keep_rows(results, rows, json)


@app.command()
def train(
    folder: Folder,
    dataset: Data,
    repeats: Repeats = 50,
    json: Json = False,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Training targets per second, by the way prefixes are batched."""
    from nezha_lite.bench import bench_training

    found, trained = load(dataset, folder, device)
    rows = bench_training(trained.model, trained.semantic_ids, found, steps=repeats)
    show(rows, lambda rows: listed(rows, lambda row: row.settings["recipe"]), json)
    keep_rows(results, rows, json)


app.command()(equal)


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
    threads: Threads = None,
    results: Results = None,
) -> None:
    """Time and memory of fitting and encoding, each quantizer in a process of its own."""
    from nezha_lite.bench.tokenizers import SyntheticVectors, bench_tokenizers
    from nezha_lite.cli.options import codes_per_level
    from nezha_lite.datasets import load_dataset
    from nezha_lite.semantic_ids.tokenizer import item_vectors

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
    print(listed(rows, lambda row: row.model["quantizer"]))
    keep(results, rows)
