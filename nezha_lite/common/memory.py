"""Telling a lack of memory from a defect: PyTorch has several errors for it."""

from __future__ import annotations

from pathlib import Path

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


BUILD_BYTES = {"hash-set": 250}  # for each ID: its key, sorting, and all its levels
OTHER_BUILD_BYTES = 80


def check_memory(kind: str, items: int, space: int, device: torch.device) -> None:
    """MemoryError if a verifier of this kind for so many items would not fit."""
    free = free_memory(device)
    needed = items * BUILD_BYTES.get(kind, OTHER_BUILD_BYTES)
    if kind == "bitset":
        needed += space // 8
    if free is not None and needed > free:
        raise MemoryError(
            f"building takes about {needed / 2**30:,.1f} GiB, but {free / 2**30:,.1f} are free."
        )


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free now, or None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.is_file():
        return None
    (line,) = [
        line
        for line in meminfo.read_text(encoding="utf-8").splitlines()
        if line.startswith("MemAvailable:")
    ]
    return 1024 * int(line.split()[1])
