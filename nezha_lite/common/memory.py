"""Memory: how much is free, a process's peak, and whether an error came of a lack of it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error is a lack of memory, or was caused by one.

    PyTorch has several errors for it, and one more when it happens inside a CUDA graph's capture.
    """
    while error is not None:
        # PyTorch's CPU allocator raises a plain RuntimeError.
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if lacking or "can't allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free now, or None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _proc_bytes("/proc/meminfo", "MemAvailable:") if device.type == "cpu" else None


def peak_memory(device: torch.device | None = None) -> int | None:
    """The most bytes held so far: a CUDA device's tensors, else this whole process.

    None where the system does not tell (Windows).
    """
    if device is not None and device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # Not `ru_maxrss` on Linux: a new process takes that over from the one that started it.
    peak = _proc_bytes("/proc/self/status", "VmHWM:")
    if peak is not None or sys.platform == "win32":
        return peak
    import resource  # Unix only

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most  # bytes there, KiB elsewhere


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """No search for cycles meanwhile: it would visit millions of new objects again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _proc_bytes(file: str, field: str) -> int | None:
    """A field of a Linux status file, which counts in KiB."""
    path = Path(file)
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(field):
                return 1024 * int(line.split()[1])
    return None
