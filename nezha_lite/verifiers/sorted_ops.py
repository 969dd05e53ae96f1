"""Sorted tensors that change in one linear pass, and the narrowest types for them."""

from __future__ import annotations

import torch
from torch import Tensor


def inserted(values: Tensor, places: Tensor, more: Tensor) -> Tensor:
    """(N,) values with (M,) `more` put before those now at `places`, which never fall."""
    places = places + torch.arange(len(places), device=places.device)
    old = torch.ones(len(values) + len(more), dtype=torch.bool, device=values.device)
    old[places] = False
    both = torch.empty_like(old, dtype=values.dtype)
    both[places], both[old] = more.to(values.dtype), values
    return both


def deleted(values: Tensor, places: Tensor) -> Tensor:
    """(N,) values without those at `places`."""
    kept = torch.ones_like(values, dtype=torch.bool)
    kept[places] = False
    return values[kept]


def key_type(largest: int) -> torch.dtype:
    """int32 if it can hold `largest`, else int64: a narrow key is half the memory to search."""
    return torch.int32 if largest < 2**31 else torch.int64


def smallest_type(largest: int) -> torch.dtype:
    """The narrowest type for whole numbers from 0 to `largest`."""
    types = (torch.uint8, torch.int16, torch.int32, torch.int64)
    return next(dtype for dtype in types if largest <= torch.iinfo(dtype).max)
