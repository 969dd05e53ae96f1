"""Long runs that check every answer: `python -m tests.stress soak|recommend|membership --help`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nezha_lite.bench.tables import listed
from nezha_lite.cli import run
from nezha_lite.cli.options import Data, Device, Folder, Results, keep, load, using_threads

if TYPE_CHECKING:
    from nezha_lite.common.results import ResultRow

Workers = Annotated[int, typer.Option("--threads", help="how many threads recommend at once")]
Seed = Annotated[int, typer.Option(help="of what is drawn")]


app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


@app.command()
def soak(
    folder: Folder,
    dataset: Data,
    minutes: Annotated[int, typer.Option(help="how long")] = 60,
    threads: Workers = 2,
    seed: Seed = 0,
    compile: Annotated[bool, typer.Option("--compile", help="by the captured decoder")] = False,
    results: Results = None,
    device: Device = "auto",
) -> None:
    """Recommend without a pause while items come and go: memory, latency, and every list checked.

    Results are kept after every minute.
    """
    from tests.stress.soak import bench_soak

    found, trained = load(dataset, folder, device)
    with using_threads(1):  # of PyTorch, in each thread that recommends
        for row in bench_soak(trained, found, minutes, threads, seed, compile=compile):
            keep(results, [row], json=True)
    print(listed([row], lambda row: row.dataset))


@app.command()
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

    from tests.stress.concurrent_calls import bench_recommend

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if unknown := sorted(set(precisions or ()) - set(known)):
        raise ValueError(f"precision is {unknown[0]!r}, but must be float32 or bfloat16.")
    rows: list[ResultRow] = []
    for precision in precisions or known:
        found, trained = load(dataset, folder, device)
        trained.model.to(known[precision])
        with using_threads(1):  # of PyTorch, in each thread that recommends
            rows.append(bench_recommend(trained, found, calls, threads, seed=seed))
        keep(results, rows, json=True)
    print(listed(rows, lambda row: row.settings["precision"]))


@app.command()
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
    from nezha_lite.decoding.recommender import find_device
    from nezha_lite.verifiers import VERIFIER_KINDS
    from tests.stress.membership import bench_membership

    place = find_device(device)
    rows: list[ResultRow] = []
    kinds = structures or tuple(VERIFIER_KINDS)
    for rows in bench_membership(int(checks), kinds, ids=ids, seed=seed, device=place):
        keep(results, rows, json=True)
    print(listed(rows, lambda row: f"{row.verifier}, {row.settings['pattern']}"))


def main() -> None:
    """Run a stress test by its name."""
    run(app)


if __name__ == "__main__":
    main()
