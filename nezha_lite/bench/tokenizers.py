"""How long tokenizers take and how much memory, each measured in a process of its own.

A process that is reused keeps its peak memory and its warm caches from the run before, so every
row is measured in a fresh one. Its vectors are there, and its libraries loaded, before the clock
starts. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from nezha_lite.common.memory import peak_memory
from nezha_lite.common.results import ResultRow, provenance
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quality import id_quality
from nezha_lite.semantic_ids.quantizers import make_quantizer


@dataclass(frozen=True)
class SyntheticVectors:
    """Vectors with clusters to find: a mixture of Gaussians, made anew from `seed` where needed.

    Cluster sizes fall as 1 / rank, as popularity does; around its centre a cluster is `spread`
    times as wide as the centres lie apart. Raises ValueError for numbers below 1 or a spread of 0.
    """

    items: int = 1_000_000
    width: int = 64
    clusters: int = 1000
    spread: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("items", "width", "clusters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1.")
        if not self.spread > 0:
            raise ValueError(f"spread is {self.spread}, but must be positive.")

    def make(self) -> Tensor:
        """The vectors: float32 (items, width), the same for the same fields."""
        generator = torch.Generator().manual_seed(self.seed)
        centres = torch.randn(self.clusters, self.width, generator=generator)
        sizes = 1.0 / torch.arange(1, self.clusters + 1)
        chosen = torch.multinomial(sizes, self.items, replacement=True, generator=generator)
        vectors = torch.randn(self.items, self.width, generator=generator).mul_(self.spread)
        for rows in torch.arange(self.items).split(65_536):  # no second copy of all vectors
            vectors[rows] += centres[chosen[rows]]
        return vectors


@dataclass(frozen=True)
class _Job:
    """What one process is to measure."""

    vectors: Tensor | SyntheticVectors
    kind: str
    levels: int
    codes: int | tuple[int, ...]
    seed: int
    threads: int
    progress: bool


def bench_tokenizers(
    dataset: str,
    vectors: Tensor | SyntheticVectors,
    kinds: Sequence[str] = ("rq-kmeans", "rq-vae"),
    levels: int = 4,
    codes: int | tuple[int, ...] = 256,
    seed: int = 0,
    threads: int | None = None,
    settings: dict[str, Any] | None = None,
    progress: bool = False,
) -> list[ResultRow]:
    """Time fitting and encoding of all vectors: a row of kind "tokenizer" for each quantizer.

    Args:
        dataset: the name that the rows carry.
        vectors: (N, D), or how to make them.
        kinds: of quantizers, as `make_quantizer` knows them, with that kind's defaults.
        levels: L.
        codes: one number, or one for each level.
        seed: of the quantizers.
        threads: of torch and of the numerical libraries; by default as torch is set here.
        settings: facts about the vectors to record with the rows, such as how they were made.
        progress: show each quantizer's own bar.

    Returns:
        Rows whose metrics are fit_seconds, encode_seconds, fit_items_per_second,
        encode_items_per_second, peak_gib (the most memory the process held while it fitted and
        encoded), start_gib (the most before that, vectors and libraries included; both are left out
        where the system does not tell) and those of `id_quality`, before collisions are resolved.

    Raises:
        ValueError: for an unknown kind or numbers out of range, before anything is measured.
        MemoryError: if a process dies, as it does when memory runs out.
    """
    threads = torch.get_num_threads() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads is {threads}, but must be at least 1.")
    if not kinds:
        raise ValueError("kinds is empty; name at least one quantizer, such as 'rq-kmeans'.")
    for kind in kinds:
        make_quantizer(kind, levels, codes, seed)
    if isinstance(vectors, Tensor):
        vectors = vectors.detach().to("cpu", torch.float32)
    made = {"synthetic": asdict(vectors)} if isinstance(vectors, SyntheticVectors) else {}
    rows = []
    for kind in kinds:
        job = _Job(vectors, kind, levels, codes, seed, threads, progress)
        measured = _in_fresh_process(job)
        rows.append(
            ResultRow(
                kind="tokenizer",
                dataset=dataset,
                model={"quantizer": kind, "levels": levels, "codes": measured["radices"]},
                metrics=measured["metrics"],
                seeds=[seed],
                settings={
                    "items": measured["shape"][0],
                    "width": measured["shape"][1],
                    "threads": threads,
                    "collisions": "shared",
                    **made,
                    **(settings or {}),
                },
                **measured["provenance"],
                seconds=measured["seconds"],
            )
        )
    return rows


def _in_fresh_process(job: _Job) -> dict[str, Any]:
    numbers = job.vectors.numpy() if isinstance(job.vectors, Tensor) else job.vectors
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        fields = {name: getattr(job, name) for name in job.__dataclass_fields__}
        try:
            return pool.submit(_measure, {**fields, "vectors": numbers}).result()
        except BrokenProcessPool as error:
            raise MemoryError(
                f"The process that measured {job.kind!r} died: memory ran out, or bench_tokenizers "
                'was called by a script outside of `if __name__ == "__main__":`, or from standard '
                "input, which a new process cannot read again."
            ) from error


def _measure(fields: dict[str, Any]) -> dict[str, Any]:
    """What the fresh process does."""
    import sklearn.cluster  # noqa: F401  the quantizers load it in fit, which is timed
    from threadpoolctl import threadpool_limits

    source = fields["vectors"]
    job = _Job(**fields)
    torch.set_num_threads(job.threads)
    vectors = source.make() if isinstance(source, SyntheticVectors) else torch.from_numpy(source)
    with threadpool_limits(limits=job.threads):
        quantizer = make_quantizer(job.kind, job.levels, job.codes, job.seed)
        started_at, begun = peak_memory(), time.perf_counter()
        quantizer.fit(vectors, progress=job.progress)
        fitted = time.perf_counter()
        found = quantizer.encode(vectors)
        done = time.perf_counter()
        peak = peak_memory()
    quality = id_quality(SemanticIds.from_codes(found, quantizer.radices))
    n_items = len(vectors)
    metrics: dict[str, float] = {
        "fit_seconds": round(fitted - begun, 3),
        "encode_seconds": round(done - fitted, 3),
        "fit_items_per_second": round(n_items / (fitted - begun), 1),
        "encode_items_per_second": round(n_items / (done - fitted), 1),
    }
    if peak is not None and started_at is not None:
        metrics |= {"peak_gib": _gib(peak), "start_gib": _gib(started_at)}
    return {
        "metrics": metrics | quality.metrics(),
        "radices": list(quantizer.radices),
        "shape": list(vectors.shape),
        "provenance": provenance("cpu"),
        "seconds": round(done - begun, 2),
    }


def _gib(size: int) -> float:
    return round(size / 2**30, 3)
