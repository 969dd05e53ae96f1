"""Checks of what quantizers are given; each failure is one sentence naming the thing."""

from collections.abc import Sequence

import torch
from torch import Tensor


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


def check_rows(vectors: Tensor) -> Tensor:
    """`check_vectors` for fitting, which needs at least one row."""
    checked = check_vectors(vectors)
    if not len(checked):
        raise ValueError("vectors has no rows: fitting needs at least one vector")
    return checked


def check_prefix(prefix: Tensor, n_vectors: int, sizes: Sequence[int]) -> Tensor:
    """`prefix` on the CPU if it holds l < L valid codes for each vector, or ValueError.

    `sizes` are the numbers of codes that each of the L levels really has.
    """
    shape = tuple(prefix.shape)
    if prefix.ndim != 2 or shape[0] != n_vectors or shape[1] >= len(sizes):
        wanted = f"({n_vectors}, l) with l in 0..{len(sizes) - 1}"
        raise ValueError(f"prefix has shape {shape}: {wanted} needed")
    return check_known(prefix, sizes)


def check_known(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """`codes` (N, l) on the CPU, or ValueError naming the first that its level does not have."""
    codes = codes.cpu()
    for level, (column, size) in enumerate(zip(codes.unbind(1), sizes, strict=False)):
        wrong = (column < 0) | (column >= size)
        if wrong.any():
            code = int(column[wrong][0])
            raise ValueError(f"code {code} at level {level} is not in its codebook: 0..{size - 1}")
    return codes


def check_range(name: str, value: int, low: int, high: int | None = None) -> None:
    """ValueError naming the field unless `value` is an integer in low..high."""
    if type(value) is not int or value < low or (high is not None and value > high):
        limits = f">= {low}" if high is None else f"in {low}..{high}"
        raise ValueError(f"{name} is {value!r}: an integer {limits} is needed")
