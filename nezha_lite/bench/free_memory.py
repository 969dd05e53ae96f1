"""Whether building a verifier would fit into memory: on most systems trying ends the process."""

from __future__ import annotations

from pathlib import Path

import torch

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
