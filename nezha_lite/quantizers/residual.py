"""What all residual quantizers share: choosing codes on residuals, checking input, and their files.

Level 1 encodes a vector; level l encodes what is left of it after subtracting the codewords chosen
at levels 1..l-1.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors_bytes
from torch import Tensor

_ROWS_AT_ONCE = 65_536  # bounds the (rows, C) distance matrix, whatever the catalogue's size


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
