"""`nezha-lite tokenize` and `compare`: making semantic IDs, and finding out which to make."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from nezha_lite.cli.options import (
    ID_OPTIONS,
    Beam,
    Data,
    Preset,
    Results,
    SplitBy,
    TestFrom,
    Users,
    keep,
    load_split,
    options_of,
    own_vectors,
    refuse,
    tokenizer_config,
)
from nezha_lite.common.checks import check
from nezha_lite.datasets import load_dataset
from nezha_lite.semantic_ids.tokenizer import named
from nezha_lite.semantic_ids.vectors.tfidf import best_terms, item_sentences, text_report


@options_of("shape", tokenizer_config, *ID_OPTIONS, "seed")
def tokenize(
    dataset: Data,
    shape: dict[str, Any],
    output: Annotated[Path | None, typer.Argument(file_okay=False)] = None,
    ids: list[str] | None = None,
    stability: bool = False,
    results: Results = None,
    split: SplitBy = "leave-one-out",
    test_from: TestFrom = None,
) -> None:
    """Build semantic IDs and report what they are worth, before and after collisions are resolved.

    With OUTPUT they are kept, for `train --ids OUTPUT`.

    Args:
        output: folder in which tokenizer and IDs are kept
        ids: released, rq-kmeans, balanced-rq-kmeans, rq-vae, opq, lsh, random, rq-kmeans-both,
            rq-vae-both (texts and behaviour), rq-kmeans-behaviour; repeated to compare; by default
            rq-kmeans
        stability: fit again with the next seed, and tell how much stays the same
    """
    from nezha_lite.evaluation.tokenizer_report import report_tokenizer

    names = ids or ["rq-kmeans"]
    if output is not None and (len(names) != 1 or names == ["released"]):
        raise ValueError(
            f"OUTPUT keeps one tokenizer that is built here, but --ids is {', '.join(names)}."
        )
    for name in names:
        built = ID_OPTIONS if names == ["released"] else ("vectors", "encoder")
        refuse(name, [option for option in shape if option in built and option != "cache"])
    data = load_split(dataset, split, test_from)
    print(text_report(data))
    if any(sentences := item_sentences(data.texts or ())):
        print(best_terms(sentences)[1])
    vectors = own_vectors(data, shape)
    config = tokenizer_config(data, **shape)
    rows = []
    for name in names:
        tokenizer = None if name == "released" else named(name, config)
        slow = data.n_items > 2000  # fewer are done before a bar can be read
        report = report_tokenizer(data, tokenizer, name, stability, slow, vectors)
        rows.append(report.row)
        print(f"\n{name}, radices {tuple(report.row.settings['radices'])}\n")
        print(report.quality.table())
        if tokenizer is not None:
            print(
                f"After {config.collisions}: radices {report.semantic_ids.radices}, "
                f"collision rate {report.semantic_ids.collision_rate:.4f}"
            )
        if output is not None and report.tokenizer is not None:
            print(f"Tokenizer and IDs are in {report.tokenizer.save(output)}.")
    keep(results, rows)


@options_of("shape", tokenizer_config, "levels", "codes", "collisions")
def compare(
    dataset: Data,
    output: Annotated[Path, typer.Argument(file_okay=False)],
    shape: dict[str, Any],
    tokenizer: list[str] | None = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed")] = None,
    preset: Preset = "tiny",
    epochs: int = 16,
    dropout: float = 0.1,
    beam: Beam = 20,
    users: Users = 0,
    results: Results = None,
) -> None:
    """Train the same model on each tokenizer's IDs, and compare what it then recommends.

    Stopped or killed, the same command goes on; runs that are done are not run again.

    Args:
        output: folder for the runs; the same one goes on
        tokenizer: by name, repeated; by default all that apply
        seeds: repeated; by default 0 and 1
        epochs: passes over the data, for each run
        dropout: embeddings, residuals and head
    """
    from nezha_lite.evaluation.tokenizer_comparison import Budget, compare_tokenizers, contenders
    from nezha_lite.training import TrainingConfig

    data = load_dataset(dataset)
    applicable = contenders(data)
    for name in tokenizer or ():
        check(name in applicable, "tokenizer", name, f"one of {', '.join(applicable)}")
    config = tokenizer_config(data, **shape)
    configs = {}
    for name in tokenizer or applicable:
        try:
            configs[name] = None if name == "released" else named(name, config)
        except ValueError as error:
            if tokenizer:
                raise
            print(f"Leaving out {name}: {error}")
    budget = Budget(preset, dropout, TrainingConfig(epochs=epochs), beam, users)
    rows = []
    started, runs = time.perf_counter(), len(configs) * len(seeds or (0, 1))
    for row in compare_tokenizers(data, configs, seeds or (0, 1), output, budget, progress=True):
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
