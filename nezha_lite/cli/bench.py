"""`nezha-lite bench`: how long things take, and whether fast decoders agree with slow ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer

from nezha_lite.bench.decode import DecodeBench, bench_decoding
from nezha_lite.bench.decoders import DECODERS
from nezha_lite.bench.equality import bench_equality
from nezha_lite.bench.roofline import measured_peaks
from nezha_lite.bench.tables import json_lines, latency_table, listed, verifier_table
from nezha_lite.bench.tokenizers import SyntheticVectors, bench_tokenizers
from nezha_lite.bench.verifiers import VerifierBench, bench_verifiers
from nezha_lite.bench.workload import synthetic_ids
from nezha_lite.cli.options import (
    Data,
    Device,
    Folder,
    Results,
    codes_per_level,
    command_of,
    keep,
    load,
    oom_hint,
    options_of,
    tokenizer_config,
    using_threads,
)
from nezha_lite.common.checks import check
from nezha_lite.common.memory import out_of_memory
from nezha_lite.common.results import ResultRow
from nezha_lite.datasets import InteractionDataset, load_dataset
from nezha_lite.decoding.recommender import Recommender, find_device
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.collisions import Collisions
from nezha_lite.semantic_ids.tokenizer import build_semantic_ids, item_vectors

log = logging.getLogger("nezha_lite")

app = typer.Typer(
    help="Time decoding, verifying, training or tokenizing, on an otherwise idle machine; or count "
    "whether fast decoders give the lists of the slow ones."
)
Json = Annotated[
    bool, typer.Option("--json", help="one JSON object a line: first the machine, then the rows")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; by default PyTorch's")]


def show(
    rows: Sequence[ResultRow], table: Callable[[Sequence[ResultRow]], str], json: bool
) -> None:
    """Print rows as a table for people, or as JSON lines; MemoryError if there are none."""
    if not rows:
        raise MemoryError("Nothing was measured: all of it was left out.")
    print("\n".join(json_lines(rows)) if json else table(rows))


@command_of(app)
@oom_hint("--batch", "--beam", "--history")
@options_of(
    "measured",
    DecodeBench,
    *("repeats", "warmup", "seconds", "phases", "compile", "seed"),
    beams="--beam",
    batches="--batch",
    histories="--history",
    contexts="--context",
    verifications="--verification",
    structures="--structure",
)
def decode(
    measured: dict[str, Any],
    model: Path | None = None,
    preset: str | None = None,
    dataset: str | None = None,
    levels: list[int] | None = None,
    codes: int | None = None,
    items: int | None = None,
    decoders: Annotated[
        list[str] | None, typer.Option("--decoder", help=f"repeated, or all: {', '.join(DECODERS)}")
    ] = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    threads: Threads = None,
    device: Device = "auto",
    json: Json = False,
    results: Results = None,
) -> None:
    """Latency of the decoders, beside bare forward passes; without options, of random weights.

    Args:
        model: folder written by `train`, instead of random weights
        preset: backbone with random weights: tiny, small, qwen3-0.6b, …
        dataset: real prompts and IDs: sample, beauty, …, or a folder
        levels: levels of the IDs, repeated; by default 4, a data set's 3
        codes: codes per level; by default 256, a data set's 64
        items: items of a synthetic catalogue; by default 12,000
        precision: of weights and activations
    """
    if decoders:
        measured["decoders"] = tuple(DECODERS) if decoders == ["all"] else decoders
    if "contexts" in measured:
        measured.setdefault("histories", ())
    config = DecodeBench(**measured)
    torch_device, dtype = find_device(device), getattr(torch, precision)
    rows: list[ResultRow] = []
    with using_threads(threads):
        setups = list(
            _catalogues(model, preset, dataset, levels, codes, items, torch_device, config.seed)
        )
        peaks = measured_peaks(torch_device, dtype)
        for data, ids, trained in setups:
            try:
                timed = trained or _random_model(preset, ids, config)
                timed.to(torch_device, dtype)  # type: ignore[arg-type]  # transformers wraps it
                rows += bench_decoding(timed, ids, data, config, peaks)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                log.info(f"Left out: {ids.levels} levels: there is too little memory.")
        show(rows, latency_table, json)
    keep(results, rows, json)


def _catalogues(
    folder: Path | None,
    preset: str | None,
    dataset: str | None,
    levels: Sequence[int] | None,
    codes: int | None,
    items: int | None,
    device: torch.device,
    seed: int,
) -> Iterator[tuple[InteractionDataset | None, SemanticIds, NezhaModel | None]]:
    """Data set, IDs and trained model of each catalogue; None where there is none.

    ValueError names an option that has no say in what another one brings along.
    """
    if folder is not None:
        _refuse("the trained --model", preset=preset, levels=levels, codes=codes, items=items)
        if dataset is None:
            data, trained = None, Recommender.load(folder, str(device))
        else:
            data, trained = load(dataset, folder, str(device))
        yield data, trained.semantic_ids, trained.model
    elif dataset is not None:
        _refuse("the catalogue of a --dataset", items=items)
        data = load_dataset(dataset)
        if data.released_codes is not None:
            _refuse("the released IDs of a --dataset", levels=levels, codes=codes)
        # Released IDs as they are, items that share one included; else IDs that `train` would make.
        collisions: Collisions | None = None if data.released_codes is None else "shared"
        per_level = () if codes is None else (codes,)
        for count in levels or (None,):
            config = tokenizer_config(data, count, per_level, collisions=collisions, seed=seed)
            yield data, build_semantic_ids(data, "auto", config), None
    else:
        per_code, n_items = 256 if codes is None else codes, 12_000 if items is None else items
        for count in levels or (4,):
            check(count >= 1, "levels", count, "at least 1")
            check(per_code >= 1, "codes", per_code, "at least 1")
            yield None, synthetic_ids(n_items, (per_code,) * count, seed), None


def _random_model(preset: str | None, ids: SemanticIds, config: DecodeBench) -> NezhaModel:
    """Random weights of a preset, by default `small`, for the longest prompts of the bench."""
    longest = max(config.items_per_prompt(ids.levels))
    model = NezhaModel.from_preset(preset or "small", ids, seed=config.seed)
    model.config.max_items = longest  # `bench_decoding` says which history is too long
    return model.eval()


def _refuse(brought_by: str, **given: object) -> None:
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"--{option} has no say in {brought_by}: leave one of them out.")


@command_of(app)
@oom_hint("--items", "--beam")
@options_of(
    "measured",
    VerifierBench,
    *("beam", "repeats", "decode", "compile", "seed"),
    sizes="--items",
    structures="--structure",
)
def verify(
    measured: dict[str, Any],
    levels: int = 3,
    codes: int = 512,
    threads: Threads = None,
    device: Device = "auto",
    json: Json = False,
    results: Results = None,
) -> None:
    """Memory and time of the verifiers, by the size of the catalogue.

    Args:
        levels: levels of the IDs
        codes: codes per level
    """
    if levels < 1 or codes < 1:
        raise ValueError(f"levels and codes are {levels} and {codes}, but must be at least 1.")
    with using_threads(threads):
        config = VerifierBench(radices=(codes,) * levels, **measured)
        rows = bench_verifiers(config, find_device(device))
        show(rows, verifier_table, json)
    keep(results, rows, json)


@command_of(app)
def train(
    folder: Folder,
    dataset: Data,
    repeats: int = 50,
    json: Json = False,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Training targets per second, by the way prefixes are batched.

    Args:
        repeats: timed training steps
    """
    from nezha_lite.bench.training import bench_training

    data, trained = load(dataset, folder, device)
    rows = bench_training(trained.model, trained.semantic_ids, data, steps=repeats)
    show(rows, lambda rows: listed(rows, lambda row: row.settings["recipe"]), json)
    keep(results, rows, json)


@command_of(app)
@oom_hint("--beam")
@options_of("compared", bench_equality, "users", "compile", paths="--path", beams="--beam")
def equal(
    folder: Folder,
    dataset: Data,
    compared: dict[str, Any],
    precision: Literal["float32", "float64"] = "float32",
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Whether fast ways of decoding give the lists of the slow ones, prompt by prompt.

    Args:
        precision: of weights and activations
    """
    data, trained = load(dataset, folder, device)
    model = trained.model.to(getattr(torch, precision))
    rows = []
    try:
        for row in bench_equality(model, trained.semantic_ids, data, **compared):
            rows.append(row)
            print(listed([row], lambda row: f"{row.decoder} at {row.beam}"))
    finally:  # what is measured is kept, whatever stops the rest
        if rows:
            keep(results, rows)


@command_of(app)
@options_of("vectors", SyntheticVectors, "items", "width")
@options_of("measured", bench_tokenizers, "threads", kinds="--ids")
def tokenize(
    dataset: str,
    vectors: dict[str, Any],
    measured: dict[str, Any],
    levels: int = 4,
    codes: list[int] | None = None,
    results: Results = None,
) -> None:
    """Time and memory of fitting and encoding, each quantizer in a process of its own.

    Args:
        dataset: sample, beauty, …, a folder, or synthetic for made-up vectors
        levels: levels of the IDs
        codes: codes per level, or for each; by default 64; repeated
    """
    rows = bench_tokenizers(
        dataset,
        SyntheticVectors(**vectors)
        if dataset == "synthetic"
        else item_vectors(load_dataset(dataset)),
        levels=levels,
        codes=codes_per_level(levels, codes or ()),
        progress=True,
        **measured,
    )
    print(listed(rows, lambda row: row.model["quantizer"]))
    keep(results, rows)
