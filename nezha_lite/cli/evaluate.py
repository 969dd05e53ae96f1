"""`nezha-lite evaluate`, `hallucination` and `study`: what trained models' lists are worth."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from nezha_lite.bench.decoders import DECODERS
from nezha_lite.cli.options import (
    Beam,
    Data,
    Device,
    Folder,
    Results,
    SplitBy,
    TestFrom,
    Users,
    Verified,
    keep,
    load,
    load_split,
    oom_hint,
    split_report,
)
from nezha_lite.common.checks import check
from nezha_lite.common.results import ResultRow
from nezha_lite.decoding.recommender import Recommender

EVALUATED = ("nezha", "parallel-heads", "autoregressive", "speculative", "generate")
CONSTRAINED = ("generate", "prefix")  # which `bench decode` calls by another name
MOST_POPULAR = {"baseline": "the most popular items of the training part, for everyone"}


@oom_hint("--beam")
def evaluate(
    folder: Folder,
    dataset: Data,
    beam: Beam = 20,
    decoder: Annotated[
        list[str] | None,
        typer.Option(help=f"repeated, of {', '.join(EVALUATED)}; by default nezha"),
    ] = None,
    verification: Verified = "prefix",
    split: Literal["validation", "test"] = "test",
    users: Users = 0,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Item-level Recall and NDCG over the whole catalogue, beside the most popular items.

    With `--decoder nezha --decoder autoregressive`, also how far the two agree: the overlap of
    their lists, and NEZHA's gain in recall with its 95 % bootstrap interval over the same users.

    Args:
        split: which held-out items; they are those of the split that the run was trained with
    """
    from nezha_lite import evaluation
    from nezha_lite.training import read_training_record, split_as_trained

    check(beam >= 10, "beam", beam, "at least 10, which Recall@10 needs")
    names = list(dict.fromkeys(decoder or ["nezha"]))
    for name in names:
        check(name in EVALUATED, "decoder", name, f"one of {sorted(EVALUATED)}")
    data, trained = load(dataset, folder, device)
    data = split_as_trained(data, folder)
    held_out = data.split(split)
    held_out = held_out.sample(users, seed=0) if users else held_out
    print(split_report(data))
    popularity = data.popularity()
    record = read_training_record(folder)
    protocol = {
        "split": split,
        "split_method": data.split_method,
        "users": len(held_out.targets),
        "users_left_out": held_out.left_out,
    }
    training = {
        "id_collision_rate": round(trained.semantic_ids.collision_rate, 5),
        "training": {key: value for key, value in record.items() if key != "log"},
    }
    started = time.perf_counter()
    evaluations = {
        name: evaluation.evaluate(
            DECODERS[name].make(trained.model, trained.verifier, verification),  # type: ignore[arg-type]
            trained.model,
            trained.semantic_ids,
            held_out,
            beam,
            popularity,
            progress=True,
        )
        for name in names
    }
    evaluations["popularity"] = evaluation.evaluate_popularity(data, held_out, max(10, beam))
    figures = {name: one.metrics() for name, one in evaluations.items()}
    if {"nezha", "autoregressive"} <= set(evaluations):
        rival = evaluations["autoregressive"]
        figures["nezha"] |= evaluation.agreement(evaluations["nezha"], rival)
    rows = []
    for name, metrics in figures.items():
        print(f"{name:15s}" + "  ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
        baseline = name == "popularity"
        rows.append(
            ResultRow.measured(
                device=trained.model.device,
                started=started,
                kind="quality",
                dataset=data.name,
                model=MOST_POPULAR if baseline else trained.model.describe(),
                decoder="generate-constrained" if (name, verification) == CONSTRAINED else name,
                verifier=None if baseline else verification,
                beam=None if baseline else beam,
                metrics=metrics,
                seeds=[record["config"]["seed"]],
                settings=protocol if baseline else {**protocol, **training},
            )
        )
    keep(results, rows)


@oom_hint("--beam")
def hallucination(
    folder: Folder,
    dataset: Data,
    earlier: list[Path] | None = None,
    beams: Annotated[list[int] | None, typer.Option("--beam")] = None,
    removed: list[float] | None = None,
    users: Users = 1000,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Share of drafts that name no item: by beam width, by training, after catalogue changes.

    Args:
        earlier: checkpoint of the same run, repeated
        beams: beam widths, repeated
        removed: share of items gone since training, repeated
    """
    from nezha_lite.evaluation.hallucination import by_beam, by_removal, epochs_trained
    from nezha_lite.training import split_as_trained

    data, trained = load(dataset, folder, device)
    data = split_as_trained(data, folder)
    split = data.split("test")
    split = split.sample(min(users, len(split)), seed=0) if users else split
    widths, epochs = beams or [10, 50, 128, 512], epochs_trained(folder)
    rows = list(by_beam(trained, data, split, widths, epochs))
    rows += by_removal(trained, data, split, widths[0], removed or [0.1, 0.2, 0.5], epochs)
    for checkpoint in earlier or []:
        ids, same_device = trained.semantic_ids, str(trained.model.device)
        young = Recommender.load(checkpoint, same_device, semantic_ids=ids)
        rows += by_beam(young, data, split, widths, epochs_trained(checkpoint))
    for row in rows:
        figures = "  ".join(f"{key} {value:.4f}" for key, value in row.metrics.items())
        print(
            f"{row.settings['epochs']:4g} epochs  {row.settings['removed']:4.0%} removed  "
            f"beam {row.beam:<4} {row.verifier:7s} {figures}"
        )
    keep(results, rows)


@oom_hint("--workers")
def study(
    dataset: Data,
    output: Annotated[Path, typer.Argument(file_okay=False)],
    preset: str = "quick",
    only: list[str] | None = None,
    seed: list[int] | None = None,
    workers: int = 0,
    show: Annotated[bool, typer.Option("--status")] = False,
    results: Results = None,
    device: Device = "auto",
    split: SplitBy = "leave-one-out",
    test_from: TestFrom = None,
) -> None:
    """Does the draft head lose anything? Train, decode and compare everything, with intervals.

    The same command goes on where it was interrupted. Results are written from what is there, so
    `--only nezha --only sasrec` first and the rest later gives the same file.

    Args:
        output: the study's folder
        preset: quick (an hour on two CPU cores), memory (what closes the gap to item-level models:
            an hour a seed on one core), sacrifice (the head against its backbone, epoch by epoch),
            full (a GPU), or sample
        only: a system such as nezha or sasrec, repeated; by default all
        seed: of the runs, repeated; by default the preset's
        workers: jobs at a time; 0: one a core, or three on a GPU
        show: say what is done and what is left, and do nothing
    """
    from nezha_lite.evaluation.study import PRESETS, Report, run_study, status

    check(preset in PRESETS, "preset", preset, f"one of {sorted(PRESETS)}")
    check(workers >= 0, "--workers", workers, "0 or more")
    config = replace(PRESETS[preset], seeds=tuple(seed)) if seed else PRESETS[preset]
    data = load_split(dataset, split, test_from)
    workers = workers or (3 if torch.cuda.is_available() else os.cpu_count() or 1)
    if show:
        print(status(data, config, output, only or ()).sentence(workers))
        return
    run_study(data, config, output, only or (), workers, device)
    rows = Report(data, config, output).rows()
    for row in rows:
        if row.settings["part"] == "systems":
            figures = "  ".join(
                f"{name} {row.metrics[name]:.4f}" + (f" ± {row.std[name]:.4f}" if row.std else "")
                for name in ("recall@10", "ndcg@10")
            )
            print(f"{row.settings['system']:24s} {figures}")
    keep(results, rows)
