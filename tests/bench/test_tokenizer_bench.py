"""The tokenizer bench runs, in processes of its own, and its rows hold together."""

import inspect
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nezha_lite.bench import tokenizers as tokenizer_bench
from nezha_lite.bench.tokenizers import SyntheticVectors, bench_tokenizers
from nezha_lite.common import memory
from nezha_lite.common.memory import peak_memory
from nezha_lite.common.results import ResultRow, read_results, write_results
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quantizers import make_quantizer
from tests.helpers.slow_quantizing import clustered

SMALL = SyntheticVectors(items=400, width=6, clusters=5, seed=3)
# A process with 512 MiB starts one with next to nothing; the package itself would take seconds.
HOLDS_MEMORY = """
import subprocess, sys
held = bytearray(b"1") * (1 << 29)
print(subprocess.run([sys.executable, "-c", sys.argv[1]], capture_output=True, text=True).stdout)
"""


@pytest.fixture(scope="module")
def rows() -> list[ResultRow]:
    return bench_tokenizers("toy", clustered(300), ("rq-kmeans",), 2, (4, 6), 1, threads=1)


@pytest.mark.slow
def test_a_row_holds_times_memory_and_the_quality_of_the_ids(rows: list[ResultRow]) -> None:
    (row,) = rows
    assert (row.kind, row.dataset, row.seeds) == ("tokenizer", "toy", [1])
    assert (row.decoder, row.verifier, row.beam) == (None, None, None)
    assert row.model == {"quantizer": "rq-kmeans", "levels": 2, "codes": [4, 6]}
    assert row.settings == {"items": 300, "width": 16, "threads": 1, "collisions": "shared"}
    assert row.device.endswith(", 1 thread")
    figures = row.metrics
    assert 0 < figures["fit_seconds"] <= row.seconds + 0.01
    assert figures["fit_items_per_second"] == pytest.approx(300 / figures["fit_seconds"], rel=0.1)
    assert figures["encode_items_per_second"] > 0
    assert 0.05 < figures["start_gib"] <= figures["peak_gib"] < 4
    vectors = clustered(300)
    quantizer = make_quantizer("rq-kmeans", 2, (4, 6), 1).fit(vectors)
    expected = SemanticIds.from_codes(quantizer.encode(vectors), (4, 6))
    assert figures["collision_rate"] == pytest.approx(expected.collision_rate, rel=1e-5)
    assert figures["use@2"] == expected.codebook_use()[1]


@pytest.mark.slow
def test_rows_survive_their_file(rows: list[ResultRow], tmp_path: Path) -> None:
    write_results(tmp_path / "tokenizer-toy-speed.json", rows)
    assert read_results(tmp_path / "tokenizer-toy-speed.json") == rows


@pytest.mark.slow
def test_synthetic_vectors_are_made_where_they_are_measured(
    capfd: pytest.CaptureFixture[str],
) -> None:
    (row,) = bench_tokenizers("synthetic", SMALL, ["rq-kmeans"], 1, 5, progress=True)
    assert row.settings["items"] == 400
    assert row.settings["synthetic"]["clusters"] == 5
    codes = make_quantizer("rq-kmeans", 1, 5).fit(SMALL.make()).encode(SMALL.make())
    assert row.metrics["distinct"] == codes.unique().numel()
    assert "level" in capfd.readouterr().err, "the quantizer's own bar is shown"


def test_synthetic_vectors_have_the_clusters_they_promise() -> None:
    vectors = replace(SMALL, items=70_000, spread=0.01).make()  # more than one block of rows
    assert vectors.shape == (70_000, 6)
    assert vectors.dtype == torch.float32
    nearest = torch.cdist(vectors, vectors[:500]).min(dim=1).values
    assert nearest.mean() < 0.02, "every vector lies beside others of its cluster"
    codes = make_quantizer("rq-kmeans", 1, 5).fit(vectors[:3000]).encode(vectors)
    sizes = codes.flatten().bincount().sort(descending=True).values.double()
    expected = 70_000 / torch.arange(1, 6) / (1 / torch.arange(1, 6)).sum()
    assert torch.allclose(sizes, expected.double(), rtol=0.05)
    assert torch.equal(vectors, replace(SMALL, items=70_000, spread=0.01).make())
    assert not torch.equal(SMALL.make(), replace(SMALL, seed=4).make())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_a_process_does_not_report_the_memory_of_the_one_that_started_it() -> None:
    imports = "from __future__ import annotations\nimport sys\nfrom pathlib import Path\n"
    bare = imports + "\n".join(map(inspect.getsource, (memory._proc_bytes, peak_memory)))
    command = [sys.executable, "-I", "-c", HOLDS_MEMORY, bare + "print(peak_memory())"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < 2**28
    held = 1 << 28
    import resource

    ours = peak_memory()
    assert ours is not None
    # getrusage may know of a larger process before this one, never of a smaller one.
    assert ours <= 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 2**24
    block = bytearray(b"1") * (ours + held)
    assert peak_memory() >= ours + held
    del block
    assert peak_memory() >= ours + held, "a peak stays"


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing to be killed by")
@pytest.mark.slow
def test_a_process_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_bench, "_measure", die)
    with pytest.raises(MemoryError, match="measured 'rq-kmeans' died"):
        bench_tokenizers("toy", clustered(20), ["rq-kmeans"], 1, 2)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ["rq-kmeans", "made-up"]}, "'made-up'"),
        ({"kinds": []}, r"kinds is \[\], but must be one quantizer"),
        ({"threads": 0}, "threads is 0"),
        ({"levels": 0}, "levels is 0"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(
    arguments: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_bench, "_in_fresh_process", lambda *_: pytest.fail("it ran"))
    with pytest.raises(ValueError, match=message):
        bench_tokenizers("toy", clustered(20), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"), [("items", 0), ("width", 0), ("clusters", 0), ("spread", 0.0)]
)
def test_impossible_synthetic_vectors_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        replace(SMALL, **{field: value})
