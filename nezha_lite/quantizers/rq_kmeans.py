"""RQ-KMeans: residual quantization with one k-means per level, and the steps RQ-VAE shares.

Level 1 clusters the vectors; level l clusters what is left of each vector after subtracting the
centroids chosen at levels 1..l-1. A code is the index of the nearest centroid.
"""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors_bytes
from torch import Tensor

_ROWS_AT_ONCE = 65_536  # bounds the (rows, C) distance matrix, whatever the catalogue's size


@dataclass(frozen=True)
class RQKMeansConfig:
    """How to fit an `RQKMeans`.

    `codes` is one number for all levels or one per level; 1 is allowed and makes a level that
    tells no items apart. `iterations` bounds Lloyd's iterations, `restarts` the k-means++ starts
    of which the best is kept. Above `minibatch_above` rows, mini-batch k-means is used.
    Raises ValueError naming the field for values out of range.
    """

    levels: int = 3
    codes: int | tuple[int, ...] = 64
    seed: int = 0
    iterations: int = 100
    restarts: int = 2
    minibatch_above: int = 100_000

    def __post_init__(self) -> None:
        check_codes(self.levels, self.codes)
        check_range("seed", self.seed, 0, 2**32 - 1)
        for name in ("iterations", "restarts", "minibatch_above"):
            check_range(name, getattr(self, name), 1)

    @property
    def radices(self) -> tuple[int, ...]:
        """Codes per level, (C_1, ..., C_L)."""
        return spread_codes(self.levels, self.codes)


class RQKMeans:
    """Residual k-means over item vectors.

    When a level has no more distinct residuals than codes, each distinct residual becomes its own
    centroid and the codebook has that many rows: fewer than `radices[level]`, which shows how many
    codes are real. `radices` keeps the configured sizes. Same seed, same vectors: same codes.
    """

    def __init__(self, config: RQKMeansConfig | None = None) -> None:
        self.config = config or RQKMeansConfig()
        self._codebooks: tuple[Tensor, ...] | None = None

    @property
    def radices(self) -> tuple[int, ...]:
        """Codes per level as configured, (C_1, ..., C_L)."""
        return self.config.radices

    @property
    def codebooks(self) -> tuple[Tensor, ...]:
        """Centroids per level: float32 (at most C_l, D) each. RuntimeError before `fit`."""
        if self._codebooks is None:
            raise RuntimeError("this RQKMeans has no codebooks yet: call fit or load first")
        return self._codebooks

    def fit(self, vectors: Tensor, progress: bool = False) -> Self:
        """Fit the codebooks to `vectors` (N, D), level by level, on the CPU; returns self.

        Raises ValueError for an empty or non-2-D tensor, or naming the first row with NaN or inf.
        """
        from tqdm import tqdm

        residual = check_vectors(vectors).double()  # (N, D)
        if not len(residual):
            raise ValueError("vectors has no rows: fitting needs at least one vector")
        noise = 1e-6 * residual.abs().max()
        random = np.random.RandomState(self.config.seed)
        codebooks = []
        for radix in tqdm(self.radices, desc="RQ-KMeans", unit="level", disable=not progress):
            codebook = _cluster(residual.numpy(), radix, self.config, random).float()  # (C, D)
            residual = residual - codebook[nearest_codes(residual, codebook)]
            # A vector that its centroid equals leaves rounding noise behind, which the next level
            # would spend codes on telling apart.
            residual = residual.where(residual.abs() > noise, 0.0)
            codebooks.append(codebook)
        self._codebooks = tuple(codebooks)
        return self

    def encode(self, vectors: Tensor) -> Tensor:
        """Greedy nearest centroid per level, ties to the lowest code: int64 (N, L) on the CPU."""
        return encode_residuals(check_vectors(vectors, self.codebooks[0].shape[1]), self.codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Sum of the chosen centroids: float32 (N, D) for `codes` (N, l), 1 <= l <= L.

        Raises ValueError for a wrong shape or a code that its codebook does not have.
        """
        return sum_codewords(codes, self.codebooks)

    def save(self, path: str | Path) -> None:
        """Write codebooks and config to one safetensors file; an old one is replaced whole."""
        tensors = {f"codebook.{level}": book for level, book in enumerate(self.codebooks)}
        save_quantizer(path, "rq-kmeans", asdict(self.config), tensors)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. ValueError if the file holds no RQ-KMeans quantizer."""
        fields, tensors = load_quantizer(path, "rq-kmeans")
        quantizer = cls(RQKMeansConfig(**fields))
        names = [f"codebook.{level}" for level in range(quantizer.config.levels)]
        quantizer._codebooks = tuple(tensors[name] for name in names)
        return quantizer


def _cluster(
    residual: np.ndarray, codes: int, config: RQKMeansConfig, random: np.random.RandomState
) -> Tensor:
    """At most `codes` centroids (C, D) of `residual` (N, D), every one of them in use."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    distinct = np.unique(residual, axis=0)
    if len(distinct) <= codes:
        return torch.from_numpy(distinct)
    settings: dict[str, Any] = {
        "n_clusters": codes,
        "n_init": config.restarts,
        "max_iter": config.iterations,
        "random_state": random,
    }
    if len(residual) > config.minibatch_above:
        kmeans = MiniBatchKMeans(batch_size=max(4096, 4 * codes), **settings)
    else:
        kmeans = KMeans(**settings)
    # One thread: with several, the order in which partial sums are added varies between runs.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Near-equal rows can merge into fewer clusters; the codebook's size tells, no warning does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = kmeans.fit(residual).labels_
    return torch.from_numpy(kmeans.cluster_centers_[np.unique(labels)])


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest row of `codebook` (C, D) for each of `vectors` (N, D): int64 (N,)."""
    # Without the matrix-product shortcut each distance depends on its own pair only, so equal
    # vectors get equal codes in any batch and argmin's "first minimum" rule settles true ties.
    exact = "donot_use_mm_for_euclid_dist"
    chunks = torch.split(vectors, _ROWS_AT_ONCE)
    book = codebook.to(vectors.dtype)
    return torch.cat([torch.cdist(rows, book, compute_mode=exact).argmin(1) for rows in chunks])


def encode_residuals(vectors: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Greedy residual codes of `vectors` (N, D), computed in float64: int64 (N, L)."""
    residual = vectors.double()
    codes = []
    for codebook in codebooks:
        codes.append(nearest_codes(residual, codebook))
        residual = residual - codebook[codes[-1]]
    return torch.stack(codes, dim=1)  # (N, L)


def sum_codewords(codes: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Sum over levels of the chosen codebook rows: (N, D) for `codes` (N, l), 1 <= l <= L."""
    if codes.ndim != 2 or not 1 <= codes.shape[1] <= len(codebooks):
        shape = tuple(codes.shape)
        raise ValueError(f"codes has shape {shape}: (N, l) with l in 1..{len(codebooks)} needed")
    chosen = []
    for level, (column, codebook) in enumerate(zip(codes.cpu().unbind(1), codebooks, strict=False)):
        wrong = (column < 0) | (column >= len(codebook))
        if wrong.any():
            code = int(column[wrong][0])
            last = len(codebook) - 1
            raise ValueError(f"code {code} at level {level} is not in its codebook: 0..{last}")
        chosen.append(codebook[column])
    return torch.stack(chosen).sum(0)


def check_vectors(vectors: Tensor, width: int | None = None) -> Tensor:
    """`vectors` as a detached float32 CPU tensor (N, D), or ValueError saying what is wrong."""
    if vectors.ndim != 2 or vectors.shape[1] == 0 or width not in (None, vectors.shape[1]):
        wanted = f"(N, {width or 'D'})"
        raise ValueError(f"vectors has shape {tuple(vectors.shape)}: {wanted} needed")
    checked = vectors.detach().to("cpu", torch.float32)
    bad = ~checked.isfinite().all(1)
    if bad.any():
        row = int(bad.int().argmax())
        raise ValueError(f"vectors row {row} holds NaN or inf: every value must be finite")
    return checked


def check_range(name: str, value: int, low: int, high: int | None = None) -> None:
    """ValueError naming the field unless `value` is an integer in low..high."""
    if type(value) is not int or value < low or (high is not None and value > high):
        limits = f">= {low}" if high is None else f"in {low}..{high}"
        raise ValueError(f"{name} is {value!r}: an integer {limits} is needed")


def check_codes(levels: int, codes: int | tuple[int, ...]) -> None:
    """ValueError unless `codes` gives `levels` codebook sizes of at least 1."""
    check_range("levels", levels, 1)
    if isinstance(codes, tuple) and len(codes) != levels:
        raise ValueError(f"codes is {codes!r}: one number, or one per level ({levels}), is needed")
    for code_count in codes if isinstance(codes, tuple) else (codes,):
        check_range("codes", code_count, 1)


def spread_codes(levels: int, codes: int | tuple[int, ...]) -> tuple[int, ...]:
    """`codes` as one number per level."""
    return codes if isinstance(codes, tuple) else (codes,) * levels


def save_quantizer(
    path: str | Path, kind: str, config: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Write `tensors` with `kind` and `config` as metadata; `path` is replaced in one step."""
    path = Path(path)
    metadata = {"quantizer": kind, "config": json.dumps(config, sort_keys=True)}
    content = to_safetensors_bytes({k: v.contiguous() for k, v in tensors.items()}, metadata)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_quantizer(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config fields and tensors of a file of `kind`. FileNotFoundError, or ValueError."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no quantizer file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    found = metadata.get("quantizer")
    if found != kind:
        raise ValueError(f"{path} holds a quantizer of kind {found!r}: {kind!r} is needed")
    fields = json.loads(metadata["config"])
    # JSON has no tuples, the configs have no lists.
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}, tensors
