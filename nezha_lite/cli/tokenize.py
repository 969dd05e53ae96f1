"""`nezha-lite tokenize` and `compare`: making semantic IDs, and finding out which to make."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from nezha_lite.cli.options import (
    Beam,
    Cache,
    Codes,
    CollisionWay,
    Data,
    Encoder,
    Levels,
    Results,
    Sources,
    keep,
    refuse,
    tokenizer_config,
)


def tokenize(
    dataset: Data,
    output: Annotated[
        Path | None,
        typer.Argument(help="folder in which tokenizer and IDs are kept", file_okay=False),
    ] = None,
    ids: Annotated[
        list[str] | None,
        typer.Option(
            help="released, rq-kmeans, balanced-rq-kmeans, rq-vae, opq, lsh, random, "
            "rq-kmeans-both, rq-vae-both (texts and behaviour), rq-kmeans-behaviour; repeated to "
            "compare; by default rq-kmeans"
        ),
    ] = None,
    levels: Levels = None,
    codes: Codes = None,
    vectors: Sources = None,
    encoder: Encoder = None,
    cache: Cache = None,
    collisions: CollisionWay = None,
    seed: Annotated[int, typer.Option(help="of the quantizer")] = 0,
    stability: Annotated[
        bool, typer.Option(help="fit again with the next seed, and tell how much stays the same")
    ] = False,
    results: Results = None,
) -> None:
    """Build semantic IDs and report what they are worth, before and after collisions are resolved.

    With OUTPUT they are kept, for `train --ids OUTPUT`.
    """
    from nezha_lite.datasets import load_dataset
    from nezha_lite.evaluation.tokenizer_report import report_tokenizer
    from nezha_lite.semantic_ids.tokenizer import named
    from nezha_lite.semantic_ids.vectors.item_texts import text_report

    names = ids or ["rq-kmeans"]
    if output is not None and (len(names) != 1 or names == ["released"]):
        raise ValueError(
            f"OUTPUT keeps one tokenizer that is built here, but --ids is {', '.join(names)}."
        )
    for name in names:
        refuse(name, vectors=vectors, encoder=encoder)
        if name == "released" and len(names) == 1:
            refuse(name, levels=levels, codes=codes, collisions=collisions)
    found = load_dataset(dataset)
    print(text_report(found))
    config = tokenizer_config(found, levels, codes, vectors, encoder, collisions, seed, cache)
    rows = []
    for name in names:
        asked = None if name == "released" else named(name, config)
        slow = found.n_items > 2000  # fewer are done before a bar can be read
        report = report_tokenizer(found, asked, name, stability, progress=slow)
        rows.append(report.row)
        print(f"\n{name}, radices {tuple(report.row.settings['radices'])}\n")
        print(report.quality.table())
        left = report.semantic_ids
        if asked is not None:
            print(
                f"After {config.collisions}: radices {left.radices}, "
                f"collision rate {left.collision_rate:.4f}"
            )
        if output is not None and report.tokenizer is not None:
            print(f"Tokenizer and IDs are in {report.tokenizer.save(output)}.")
    keep(results, rows)


def compare(
    dataset: Data,
    output: Annotated[
        Path, typer.Argument(help="folder for the runs; the same one goes on", file_okay=False)
    ],
    tokenizer: Annotated[
        list[str] | None, typer.Option(help="by name, repeated; by default all that apply")
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="repeated; by default 0 and 1")
    ] = None,
    levels: Levels = None,
    codes: Codes = None,
    collisions: CollisionWay = None,
    preset: Annotated[str, typer.Option(help="backbone: tiny, small, qwen3-0.6b, …")] = "tiny",
    epochs: Annotated[int, typer.Option(help="passes over the data, for each run")] = 16,
    dropout: Annotated[float, typer.Option(help="embeddings, residuals and head")] = 0.1,
    beam: Beam = 20,
    users: Annotated[int, typer.Option(help="a random sample of test users; 0 takes all")] = 0,
    results: Results = None,
) -> None:
    """Train the same model on each tokenizer's IDs, and compare what it then recommends.

    Stopped or killed, the same command goes on; runs that are done are not run again.
    """
    from nezha_lite.datasets import load_dataset
    from nezha_lite.evaluation.tokenizer_comparison import Budget, compare_tokenizers, contenders
    from nezha_lite.semantic_ids.tokenizer import named
    from nezha_lite.training.config import TrainingConfig

    found = load_dataset(dataset)
    known = contenders(found)
    if unknown := sorted(set(tokenizer or ()) - set(known)):
        raise ValueError(f"tokenizer is {unknown[0]!r}, but must be one of {', '.join(known)}.")
    shape = tokenizer_config(found, levels, codes, None, None, collisions, 0)
    chosen = {}
    for name in tokenizer or known:
        try:
            chosen[name] = None if name == "released" else named(name, shape)
        except ValueError as error:
            if tokenizer:
                raise
            print(f"Leaving out {name}: {error}")
    budget = Budget(preset, dropout, TrainingConfig(epochs=epochs), beam, users)
    rows = []
    started, runs = time.perf_counter(), len(chosen) * len(seeds or (0, 1))
    for row in compare_tokenizers(found, chosen, seeds or (0, 1), output, budget, progress=True):
        rows.append(row)
        spread = f" ± {row.std['recall@10']:.4f}" if row.std else ""
        done = len(rows) * len(row.seeds)
        left = (time.perf_counter() - started) / done * (runs - done)
        print(
            f"{row.settings['tokenizer']:24s}recall@10 {row.metrics['recall@10']:.4f}{spread}  "
            f"ndcg@10 {row.metrics['ndcg@10']:.4f}  ({done} of {runs} runs, "
            f"about {left / 60:.0f} min left)"
        )
        keep(results, rows)
