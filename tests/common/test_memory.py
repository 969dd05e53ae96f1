"""Probes of memory against what is really held; errors that are a lack of it."""

import sys
from pathlib import Path

import pytest
import torch

from nezha_lite.common import memory
from nezha_lite.common.memory import free_memory, out_of_memory, peak_memory
from tests.helpers.runs import python

CPU = torch.device("cpu")
MIB = 2**20
linux = pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="reads Linux' /proc")


def chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (None, False),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes differ"), False),
        (chained(RuntimeError("capture failed"), torch.OutOfMemoryError()), True),
        (chained(RuntimeError("capture failed"), ValueError()), False),
    ],
)
def test_a_lack_of_memory_is_recognised(error: BaseException | None, lacking: bool) -> None:
    assert out_of_memory(error) is lacking


def test_a_real_lack_of_memory_is_one_also_while_it_is_handled() -> None:
    def allocate() -> None:
        try:
            torch.empty(2**60, dtype=torch.uint8)
        except RuntimeError:
            raise KeyError("while handling it")  # noqa: B904

    with pytest.raises(KeyError) as caught:
        allocate()
    assert out_of_memory(caught.value)


@linux
@pytest.mark.slow
def test_probes_see_what_a_process_holds() -> None:
    """In a process of its own: others' peaks and garbage would hide 64 MiB."""
    code = (
        "import torch; from nezha_lite.common.memory import _proc_bytes, peak_memory;"
        "held = lambda: _proc_bytes('/proc/self/status', 'VmRSS:');"
        f"before = held(); tensor = torch.ones(64 * {MIB}, dtype=torch.uint8);"
        "during = held(); del tensor; after, peak = held(), peak_memory();"
        "print(during - before, during - after, peak - during)"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    grown, shrunk, above = map(int, done.stdout.split())
    assert 60 * MIB < grown < 80 * MIB
    assert shrunk > 60 * MIB
    assert -MIB < above < 16 * MIB


@linux
def test_free_memory_is_a_part_of_the_machines() -> None:
    total = 1024 * int(Path("/proc/meminfo").read_text().split()[1])
    free = free_memory(CPU)
    assert free is not None
    assert 0 < free < total


def test_a_system_that_does_not_tell_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_proc_bytes", lambda file, field: None)
    monkeypatch.setattr(sys, "platform", "win32")
    assert (peak_memory(CPU), free_memory(CPU)) == (None, None)
    assert free_memory(torch.device("meta")) is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs the module resource")
@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd", 1024)])
def test_elsewhere_the_peak_comes_from_the_system(
    platform: str, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(memory, "_proc_bytes", lambda file, field: None)
    monkeypatch.setattr(sys, "platform", platform)
    peak = peak_memory()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak is not None
    assert most // 2 < peak // unit <= most


def test_a_file_without_the_field_gives_none(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name: x\nVmRSS:\t   12 kB\n")
    assert memory._proc_bytes(str(status), "VmRSS:") == 12 * 1024
    assert memory._proc_bytes(str(status), "VmHWM:") is None
    assert memory._proc_bytes(str(tmp_path / "none"), "VmRSS:") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_memory_is_that_of_its_tensors() -> None:
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats()
    before = peak_memory(device)
    tensor = torch.ones(64 * MIB, dtype=torch.uint8, device=device)
    assert before is not None
    assert peak_memory(device) == pytest.approx(before + tensor.numel(), abs=MIB)
    assert 0 < (free_memory(device) or 0) < torch.cuda.get_device_properties(device).total_memory
