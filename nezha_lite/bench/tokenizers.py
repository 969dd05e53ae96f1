"""How long tokenizers take and how much memory, each measured in a process of its own.

A process that is reused keeps its peak memory and its warm caches from the run before, so every
row is measured in a fresh one. The vectors are ready and the libraries loaded before the clock
starts. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from nezha_lite.common.checks import Checked, Count, Valid, check
from nezha_lite.common.memory import peak_memory
from nezha_lite.common.results import ResultRow
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quality import id_quality
from nezha_lite.semantic_ids.quantizers import Quantizer, make_quantizer


@dataclass(frozen=True)
class SyntheticVectors(Checked):
    """Vectors with clusters to find: a mixture of Gaussians, made anew from `seed` where needed.

    Cluster sizes fall as 1 / rank, as popularity does.

    Attributes:
        items: how many synthetic vectors, N.
        width: how wide synthetic vectors are, D.
        clusters: how many Gaussians.
        spread: width of a cluster, in distances between the centres.
        seed: of the vectors.

    Raises:
        ValueError: for numbers below 1 or a spread of 0.
    """

    items: Count = 1_000_000
    width: Count = 64
    clusters: Count = 1000
    spread: Annotated[float, Valid(lambda spread: spread > 0, "positive")] = 0.3
    seed: int = 0

    def make(self) -> Tensor:
        """The vectors: float32 (items, width), the same for the same fields."""
        generator = torch.Generator().manual_seed(self.seed)
        centres = torch.randn(self.clusters, self.width, generator=generator)
        sizes = 1.0 / torch.arange(1, self.clusters + 1)
        clusters = torch.multinomial(sizes, self.items, replacement=True, generator=generator)
        vectors = torch.randn(self.items, self.width, generator=generator).mul_(self.spread)
        for rows in torch.arange(self.items).split(65_536):  # no second copy of all vectors
            vectors[rows] += centres[clusters[rows]]
        return vectors


def bench_tokenizers(
    dataset: str,
    vectors: Tensor | SyntheticVectors,
    kinds: Sequence[str] = ("rq-kmeans", "rq-vae"),
    levels: int = 4,
    codes: int | tuple[int, ...] = 256,
    seed: int = 0,
    threads: int | None = None,
    progress: bool = False,
) -> list[ResultRow]:
    """Time fitting and encoding of all vectors: a row of kind "tokenizer" for each quantizer.

    Args:
        dataset: the name that the rows carry.
        vectors: (N, D), or how to make them.
        kinds: quantizers such as rq-kmeans, rq-vae, opq, with their own defaults.
        levels: L.
        codes: one number, or one for each level.
        seed: of the quantizers.
        threads: CPU threads of torch and of the numerical libraries; by default PyTorch's.
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
    check(threads >= 1, "threads", threads, "at least 1")
    check(bool(kinds), "kinds", kinds, "one quantizer or more, such as 'rq-kmeans'")
    quantizers = [make_quantizer(kind, levels, codes, seed) for kind in kinds]
    source: Any = vectors
    if isinstance(vectors, Tensor):
        source = vectors.detach().to("cpu", torch.float32).numpy()
    measure = partial(_measure, dataset, source, threads, progress)
    return [_in_fresh_process(measure, quantizer) for quantizer in quantizers]


def _in_fresh_process(measure: Callable[[Quantizer], ResultRow], quantizer: Quantizer) -> ResultRow:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            return pool.submit(measure, quantizer).result()
        except BrokenProcessPool as error:
            raise MemoryError(
                f"The process that measured {quantizer.kind!r} died: memory ran out, or "
                'bench_tokenizers was called by a script outside of `if __name__ == "__main__":`, '
                "or from standard input, which a new process cannot read again."
            ) from error


def _measure(
    dataset: str, source: Any, threads: int, progress: bool, quantizer: Quantizer
) -> ResultRow:
    """The work of the fresh process; `source` is a numpy array, or says how to make the vectors."""
    import sklearn.cluster  # noqa: F401  the quantizers load it in fit, which is timed
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    synthetic = isinstance(source, SyntheticVectors)
    vectors = source.make() if synthetic else torch.from_numpy(source)
    with threadpool_limits(limits=threads):
        start, started = peak_memory(), time.perf_counter()
        quantizer.fit(vectors, progress=progress)
        fitted = time.perf_counter()
        codes = quantizer.encode(vectors)
        encoded = time.perf_counter()
        peak = peak_memory()
    n_items, width = vectors.shape
    memory = {} if peak is None or start is None else {"peak_gib": peak, "start_gib": start}
    quality = id_quality(SemanticIds.from_codes(codes, quantizer.radices))
    return ResultRow.measured(
        device="cpu",
        started=started,
        kind="tokenizer",
        dataset=dataset,
        model={
            "quantizer": quantizer.kind,
            "levels": quantizer.config.levels,
            "codes": list(quantizer.radices),
        },
        metrics={
            "fit_seconds": fitted - started,
            "encode_seconds": encoded - fitted,
            "fit_items_per_second": n_items / (fitted - started),
            "encode_items_per_second": n_items / (encoded - fitted),
            **{name: size / 2**30 for name, size in memory.items()},
            **quality.metrics(),
        },
        seeds=[quantizer.config.seed],
        settings={
            "items": n_items,
            "width": width,
            "threads": threads,
            "collisions": "shared",
            **({"synthetic": asdict(source)} if synthetic else {}),
        },
    )
