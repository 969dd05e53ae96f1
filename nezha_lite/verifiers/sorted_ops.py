"""Tensors that change in one linear pass, with room to grow and the narrowest types."""

from __future__ import annotations

import torch
from torch import Tensor


def with_room(n: int) -> int:
    """The capacity for `n` entries: a quarter more, and at least 8.

    >>> with_room(10), with_room(1000)
    (18, 1250)
    """
    return n + max(8, n // 4)


def fill(tensor: Tensor, values: Tensor, padding: int) -> None:
    """Overwrite (C,) `tensor` in place by (N,) `values`, N ≤ C, and padding behind them."""
    tensor[: values.numel()] = values
    tensor[values.numel() :] = padding


def inserted(values: Tensor, places: Tensor, more: Tensor) -> Tensor:
    """(N,) values with (M,) `more` before the entries at the ascending indices `places`."""
    places = places + torch.arange(len(places), device=places.device)
    old = torch.ones(len(values) + len(more), dtype=torch.bool, device=values.device)
    old[places] = False
    both = torch.empty_like(old, dtype=values.dtype)
    both[places], both[old] = more.to(values.dtype), values
    return both


def deleted(values: Tensor, places: Tensor) -> Tensor:
    """(N,) values without the entries at the indices `places`."""
    remains = torch.ones_like(values, dtype=torch.bool)
    remains[places] = False
    return values[remains]


def gather_1d(values: Tensor, index: Tensor) -> Tensor:
    """values[index]: (N,), (...) int64 → (...). Indexing itself is far slower on a CPU."""
    return values.index_select(0, index.flatten()).view(index.shape)


def key_type(largest: int) -> torch.dtype:
    """int32 if it holds `largest`, else int64: narrow keys take half the memory to search."""
    return torch.int32 if largest < 2**31 else torch.int64


def smallest_type(largest: int) -> torch.dtype:
    """The narrowest integer type for 0 … `largest`."""
    types = (torch.uint8, torch.int16, torch.int32, torch.int64)
    return next(dtype for dtype in types if largest <= torch.iinfo(dtype).max)
