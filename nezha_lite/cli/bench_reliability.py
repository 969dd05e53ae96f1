"""`nezha-lite bench soak`, `recommend` and `membership`: whether answers stay right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nezha_lite.cli.bench_output import keep_rows, listed, tell, using_threads
from nezha_lite.cli.options import Data, Device, Folder, Results, load

if TYPE_CHECKING:
    from nezha_lite.results import ResultRow

Workers = Annotated[int, typer.Option("--threads", help="how many threads recommend at once")]
Seed = Annotated[int, typer.Option(help="of what is drawn")]


def soak(
    folder: Folder,
    dataset: Data,
    minutes: Annotated[int, typer.Option(help="how long")] = 60,
    threads: Workers = 2,
    seed: Seed = 0,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Recommend without a pause while items come and go: memory, latency, and every list checked.

    Results are kept after every minute.
    """
    from nezha_lite.bench.soak import bench_soak

    found, trained = load(dataset, folder, device)
    with using_threads(1):  # of PyTorch, in each thread that recommends
        for row in bench_soak(trained, found, minutes, threads, seed, report=tell):
            keep_rows(results, [row], json=True)
    print(listed([row], lambda row: row.dataset))


def recommend(
    folder: Folder,
    dataset: Data,
    calls: Annotated[int, typer.Option(help="how many, with each precision")] = 10_000,
    precisions: Annotated[
        list[str] | None,
        typer.Option("--precision", help="float32, bfloat16, repeated; by default both"),
    ] = None,
    threads: Workers = 4,
    seed: Seed = 0,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Random calls from several threads: every list right, and the one the call gets alone."""
    import torch

    from nezha_lite.bench.fuzz import bench_recommend

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if unknown := sorted(set(precisions or ()) - set(known)):
        raise ValueError(f"precision is {unknown[0]!r}, but must be float32 or bfloat16.")
    rows: list[ResultRow] = []
    for precision in precisions or known:
        found, trained = load(dataset, folder, device)
        trained.model.to(known[precision])
        with using_threads(1):  # of PyTorch, in each thread that recommends
            rows.append(bench_recommend(trained, found, calls, threads, seed=seed, report=tell))
        keep_rows(results, rows, json=True)
    print(listed(rows, lambda row: row.settings["precision"]))


def membership(
    checks: Annotated[float, typer.Option(help="how many keys are asked for, such as 1e9")] = 1e9,
    structures: Annotated[
        list[str] | None,
        typer.Option("--structure", help="hash-set, bitset, sorted, hash-table, trie, isin"),
    ] = None,
    ids: Annotated[int, typer.Option(help="how many IDs exist")] = 100_000,
    seed: Seed = 0,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Ask every verifier what exists, while IDs come and go, and count what it says wrongly.

    Results are kept after every structure.
    """
    from nezha_lite.bench.membership import bench_membership
    from nezha_lite.recommender import find_device
    from nezha_lite.verifiers import VERIFIER_KINDS

    place = find_device(device)
    rows: list[ResultRow] = []
    kinds = structures or tuple(VERIFIER_KINDS)
    for rows in bench_membership(int(checks), kinds, ids=ids, seed=seed, device=place, report=tell):
        keep_rows(results, rows, json=True)
    print(listed(rows, lambda row: f"{row.verifier}, {row.settings['pattern']}"))
