"""One masked beam step beside STATIC's, where that is installed: `python tools/bench_peer.py`.

STATIC (youtube/static-constraint-decoding) keeps the catalogue as a matrix of trie transitions in
compressed rows. Its beams carry their node; ours carry the key of their prefix, and a catalogue can
change. Both steps begin with the log-probabilities of all codes and end with the best K beams.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from torch import Tensor

from nezha_lite.bench.tables import listed
from nezha_lite.bench.timing import Latency
from nezha_lite.bench.verifiers import VerifierBench
from nezha_lite.bench.workload import random_keys
from nezha_lite.cli import run
from nezha_lite.cli.bench import Threads, show
from nezha_lite.cli.options import Results, keep, using_threads
from nezha_lite.common.checks import check
from nezha_lite.common.results import ResultRow
from nezha_lite.decoding.beam_search import BeamSearch
from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers import CatalogueKeys, Verifier, make_verifier

PEER = "static"
OURS = ("trie", "bitset")
LEVELS = 3  # the last step's parents are then all in STATIC's dense table
CPU = torch.device("cpu")

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # log-probs, scores → scores, keys


class Contestant(NamedTuple):
    """A structure that takes the step: its build time, its memory and the step itself."""

    build_seconds: float
    nbytes: int
    step: Step


@torch.inference_mode()
def bench_masked_step(config: VerifierBench) -> list[ResultRow]:
    """Time the last step of a beam search on a CPU, all structures in turns.

    Returns:
        A row per size and structure, "static" first: step_ms (the median), p95_ms, p99_ms, of
        choosing K of the continuations of K random prefixes by random log-probabilities;
        ratio_to_static; build_seconds; bytes_per_item.

    Raises:
        ValueError: if the peer is not installed, IDs have not three levels of equal size, or the
            lists differ.
    """
    check(len(config.radices) == LEVELS, "levels", len(config.radices), f"{LEVELS} beside STATIC")
    rows = []
    for size in config.sizes:
        started = time.perf_counter()
        keys = random_keys(size, int(np.prod(config.radices)), config.seed)
        draw = torch.Generator().manual_seed(config.seed)
        existing = torch.unique(keys % radix_strides(config.radices)[-1])
        shuffled = torch.randperm(len(existing), generator=draw)[: config.beam]
        prefixes = existing[shuffled].unsqueeze(0)  # (1, K)
        contestants = {PEER: _static(keys, prefixes, tuple(config.radices))}
        contestants |= {kind: _ours(kind, keys, prefixes, config) for kind in OURS}
        shape = (1, prefixes.shape[1], config.radices[-1])
        log_probs = torch.randn(shape, generator=draw).log_softmax(-1)  # (1, K, C)
        scores = torch.randn(shape[:2], generator=draw).sort(descending=True).values
        best, best_keys = contestants[PEER].step(log_probs, scores)
        times: dict[str, list[float]] = {kind: [] for kind in contestants}
        for kind, contestant in contestants.items():
            found, found_keys = contestant.step(log_probs, scores)
            width = min(best.shape[1], found.shape[1])
            alive = best[:, :width].isfinite()
            same = torch.equal(found_keys[:, :width][alive], best_keys[:, :width][alive])
            check(same, f"the list by {kind}", "another", f"the list by {PEER}")
        for _ in range(config.repeats):
            for kind, contestant in contestants.items():
                begun = time.perf_counter()
                contestant.step(log_probs, scores)
                times[kind].append(1e3 * (time.perf_counter() - begun))
        latencies = {kind: Latency.of(spent) for kind, spent in times.items()}
        for kind, latency in latencies.items():
            rows.append(
                ResultRow.measured(
                    device=CPU,
                    started=started,
                    digits=4,
                    kind="latency",
                    dataset="synthetic",
                    model={},
                    verifier=kind,
                    beam=config.beam,
                    metrics={
                        "step_ms": latency.median_ms,
                        "p95_ms": latency.p95_ms,
                        "p99_ms": latency.p99_ms,
                        "ratio_to_static": latency.median_ms / latencies[PEER].median_ms,
                        "build_seconds": contestants[kind].build_seconds,
                        "bytes_per_item": contestants[kind].nbytes / size,
                    },
                    settings={
                        "items": size,
                        "radices": list(config.radices),
                        "repeats": latency.repeats,
                        "threads": torch.get_num_threads(),
                    },
                )
            )
    return rows


def _ours(kind: str, keys: Tensor, prefixes: Tensor, config: VerifierBench) -> Contestant:
    begun = time.perf_counter()
    verifier = make_verifier(kind, CatalogueKeys(keys, tuple(config.radices)))
    built = time.perf_counter() - begun

    def step(log_probs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        search = _search(verifier, config.beam)
        search.level, search.keys, search.scores = LEVELS - 1, prefixes, scores
        search.step(log_probs)
        return search.scores, search.keys

    return Contestant(built, verifier.nbytes, step)


def _search(verifier: Verifier, beam: int) -> BeamSearch:
    return BeamSearch(1, beam, verifier.radices, CPU, verifier, "prefix")


def _static(keys: Tensor, prefixes: Tensor, radices: tuple[int, ...]) -> Contestant:
    try:
        index = import_module("static_decoding.csr_utils")
        kernel = import_module("static_decoding.decoding_pt").generate_and_apply_logprobs_mask
    except ImportError:
        raise ValueError(
            "The peer is not installed: put github.com/youtube/static-constraint-decoding on "
            "Python's path."
        ) from None
    strides, n_codes, beam = radix_strides(radices), radices[-1], prefixes.shape[1]
    begun = time.perf_counter()
    codes = np.stack([keys.numpy() // stride % n_codes for stride in strides], axis=1)
    codes = codes[np.lexsort(codes.T[::-1])]
    built: Any = index.build_static_index(codes, n_codes, LEVELS - 1)
    transitions, starts, widths, _, _, dense_states = built
    seconds = time.perf_counter() - begun
    arrays = [array for array in built if isinstance(array, np.ndarray)]
    transitions, starts = torch.from_numpy(transitions), torch.from_numpy(starts)
    first = prefixes[0].numpy()
    nodes = torch.from_numpy(dense_states[first % n_codes, first // n_codes])  # (K,)
    width = int(widths[-1])

    def step(log_probs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        found, tokens, states = kernel(
            log_probs[0], nodes, transitions, starts, width, n_codes, CPU
        )
        totals = (scores.unsqueeze(2) + found.view(1, beam, width)).flatten(1)
        best = totals.topk(min(beam, totals.shape[1]))
        parents = best.indices // width
        next_codes = tokens.view(1, -1).gather(1, best.indices)
        states.view(1, -1).gather(1, best.indices)  # the next step's nodes
        return best.values, prefixes.gather(1, parents) + next_codes * strides[-1]

    return Contestant(seconds, sum(array.nbytes for array in arrays), step)


app = typer.Typer(add_completion=False)


@app.command()
def measure(
    items: Annotated[list[int] | None, typer.Option(help="IDs of a catalogue; repeated")] = None,
    beam: int = 512,
    codes: int = 512,
    repeats: int = 300,
    threads: Threads = 1,
    results: Results = None,
) -> None:
    """Time the last step of a beam search by STATIC, the trie and the bitset, in turns."""
    sizes = items or (10_000, 1_000_000, 5_000_000)
    with using_threads(threads):
        config = VerifierBench(sizes, (codes,) * LEVELS, beam=beam, repeats=repeats)
        rows = bench_masked_step(config)
    show(
        rows,
        lambda rows: listed(rows, lambda row: f"{row.verifier} at {row.settings['items']:,}"),
        json=False,
    )
    keep(results, rows)


def main() -> None:
    """Run the command."""
    run(app)


if __name__ == "__main__":
    main()
