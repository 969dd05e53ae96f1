"""Telling a lack of memory from a defect: PyTorch has several errors for it."""

from __future__ import annotations

import torch


def out_of_memory(error: BaseException | None) -> bool:
    """Whether it is, or came of, a lack of memory: a broken capture is an error of its own."""
    while error is not None:
        # PyTorch's CPU allocator raises a plain RuntimeError.
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if lacking or "can't allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
