"""`nezha-lite evaluate` and `hallucination`: what a trained model's lists are worth."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from nezha_lite.cli.options import Beam, Data, Device, Folder, Results, Verified, keep, load, lower

DECODERS = {
    "nezha": "NezhaDecoder",
    "parallel-heads": "ParallelHeadsDecoder",
    "autoregressive": "AutoregressiveDecoder",
    "speculative": "SpeculativeDecoder",
    "generate": "GenerateDecoder",
}
CONSTRAINED = ("generate", "prefix")  # which `bench decode` calls by another name
MOST_POPULAR = {"baseline": "the most popular items of the training part, for everyone"}


@lower("--beam")
def evaluate(
    folder: Folder,
    dataset: Data,
    beam: Beam = 20,
    decoder: Annotated[
        list[str] | None,
        typer.Option(help=f"repeated, of {', '.join(DECODERS)}; by default nezha"),
    ] = None,
    verification: Verified = "prefix",
    split: Annotated[
        Literal["validation", "test"], typer.Option(help="which held-out items")
    ] = "test",
    users: Annotated[int, typer.Option(help="a random sample of users; 0 takes all")] = 0,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Item-level Recall and NDCG over the whole catalogue, beside the most popular items.

    With `--decoder nezha --decoder autoregressive`, also how far the two agree: the overlap of
    their lists, and NEZHA's gain in recall with its 95 % bootstrap interval over the same users.
    """
    from nezha_lite import decoding, evaluation
    from nezha_lite.common.results import ResultRow, provenance
    from nezha_lite.training import read_training_record

    if beam < 10:
        raise ValueError(f"beam is {beam}, but Recall@10 needs at least 10.")
    names = list(dict.fromkeys(decoder or ["nezha"]))
    for name in names:
        if name not in DECODERS:
            raise ValueError(f"decoder is {name!r}, but must be one of {sorted(DECODERS)}.")
    found, trained = load(dataset, folder, device)
    held_out = found.split(split)
    held_out = held_out.sample(users, seed=0) if users else held_out
    popularity = found.popularity()
    record = read_training_record(folder)
    asked = {"split": split, "users": len(held_out.targets)}
    learnt = {
        "id_collision_rate": round(trained.semantic_ids.collision_rate, 5),
        "training": {key: value for key, value in record.items() if key != "log"},
    }
    started = time.perf_counter()
    measured = {
        name: evaluation.evaluate(
            getattr(decoding, DECODERS[name])(trained.model, trained.verifier, verification),
            trained.model,
            trained.semantic_ids,
            held_out,
            beam,
            popularity,
            progress=True,
        )
        for name in names
    }
    measured["popularity"] = evaluation.evaluate_popularity(found, held_out, max(10, beam))
    figures = {name: one.metrics() for name, one in measured.items()}
    if {"nezha", "autoregressive"} <= set(measured):
        figures["nezha"] |= evaluation.agreement(measured["nezha"], measured["autoregressive"])
    for name, metrics in figures.items():
        print(f"{name:15s}" + "  ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    seconds = round(time.perf_counter() - started, 1)
    rows = [
        ResultRow(
            kind="quality",
            dataset=found.name,
            model=MOST_POPULAR if name == "popularity" else trained.model.describe(),
            decoder="generate-constrained" if (name, verification) == CONSTRAINED else name,
            verifier=None if name == "popularity" else verification,
            beam=None if name == "popularity" else beam,
            metrics={key: round(value, 5) for key, value in metrics.items()},
            seeds=[record["config"]["seed"]],
            settings=asked if name == "popularity" else {**asked, **learnt},
            **provenance(trained.model.device),
            seconds=seconds,
        )
        for name, metrics in figures.items()
    ]
    keep(results, rows)


@lower("--beam")
def hallucination(
    folder: Folder,
    dataset: Data,
    earlier: Annotated[
        list[Path] | None, typer.Option(help="checkpoint of the same run, repeated")
    ] = None,
    beams: Annotated[list[int] | None, typer.Option("--beam", help="beam widths, repeated")] = None,
    removed: Annotated[
        list[float] | None, typer.Option(help="share of items gone since training, repeated")
    ] = None,
    users: Annotated[int, typer.Option(help="a random sample of users; 0 takes all")] = 1000,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Share of drafts that name no item: by beam width, by training, after catalogue changes."""
    from nezha_lite.decoding.recommender import Recommender
    from nezha_lite.evaluation.hallucination import by_beam, by_removal, epochs_trained

    found, trained = load(dataset, folder, device)
    split = found.split("test")
    split = split.sample(min(users, len(split)), seed=0) if users else split
    widths = beams or [10, 50, 128, 512]
    rows = list(by_beam(trained, found, split, widths, epochs_trained(folder)))
    rows += by_removal(
        trained, found, split, widths[0], removed or [0.1, 0.2, 0.5], epochs_trained(folder)
    )
    for checkpoint in earlier or []:
        young = Recommender.of(checkpoint, trained.semantic_ids, str(trained.model.device))
        rows += by_beam(young, found, split, widths, epochs_trained(checkpoint))
    for row in rows:
        figures = "  ".join(f"{key} {value:.4f}" for key, value in row.metrics.items())
        print(
            f"{row.settings['epochs']:4g} epochs  {row.settings['removed']:4.0%} removed  "
            f"beam {row.beam:<4} {row.verifier:7s} {figures}"
        )
    keep(results, rows)
