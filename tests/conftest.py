"""What tests run under: steady threads, no network, the same examples; and the runs they share."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Set before torch is imported: two test processes on two cores must not wait by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import settings

from nezha_lite.cli import main
from nezha_lite.model import NezhaModel
from tests.helpers.runs import run
from tests.helpers.shops import SMALL, Answer, Run, write_dataset
from tests.helpers.studies import DONE, jobs, work
from tests.helpers.toys import toy_dataset

# No deadline, because a first call into torch is slow; fixed examples, because a check that fails
# now and then is of no use.
settings.register_profile("steady", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("steady")

# These fixtures train for seconds, so every test that uses one of them is slow.
SLOW_FIXTURES = {"compared", "killed", "studied"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture
def random_state() -> Iterator[None]:
    """The Trainer seeds the global generators; other tests must not notice."""
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[NezhaModel, Path]:
    """An uninterrupted run of CONFIG, and its folder; read only."""
    folder = tmp_path_factory.mktemp("runs") / "deep" / "finished"
    with torch.random.fork_rng(devices=[]):
        return run(folder), folder


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "shop", toy_dataset())


@pytest.fixture(scope="session")
def trained(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `train` filled, through the command line; read only."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(sys, "argv", ["nezha-lite", "train", str(shop), str(folder), *SMALL])
        with pytest.raises(SystemExit) as stopped:
            main()
    assert not stopped.value.code
    return folder


@pytest.fixture(scope="session")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with the systems of DONE, each job made without interruption; read only."""
    folder = tmp_path_factory.mktemp("study")
    with torch.random.fork_rng(devices=[]):
        for job in sorted(jobs(*DONE), key=lambda job: job.taught):  # teachers first
            work(job, folder)
    return folder


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def answer(*arguments: object, program: Callable[[], None] = main) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["nezha-lite", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped, torch.random.fork_rng(devices=[]):
            program()
        captured = capsys.readouterr()
        return Answer(stopped.value.code or 0, captured.out, captured.err)

    return answer
