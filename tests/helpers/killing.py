"""Kills commands at random moments, gives the same command again, and asks for the same result.

    python tests/killing.py --training 20 --study 6 \
        --results data/results/reliability-sample-kills.json

does so many kills, each of a process of its own, and writes how many of them the run survived.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nezha_lite.common.results import ResultRow, provenance, read_results, write_results
from nezha_lite.datasets import write_folder
from nezha_lite.datasets.synthetic_shop import SampleConfig, build_shop
from nezha_lite.semantic_ids import SemanticIds

SHOP = SampleConfig(users=150)  # the sample's catalogue, with so few users that an epoch is quick
EPOCHS, SEED = 6, 0
PROGRAM = (sys.executable, "-m", "nezha_lite.cli")
TOO_LONG = 1800.0
TRAINING = "training, killed and resumed"
STUDY = "study, killed and resumed"


class Running(Protocol):
    """A command that was started, as the leader of a process group."""

    pid: int | None

    def ended(self, seconds: float) -> int | None:
        """Its exit status, waited for so long at most; None while it runs."""


Start = Callable[[Sequence[str], Path], Running]


class Started:
    """A program with these arguments, which writes what it says to `log`."""

    def __init__(
        self, arguments: Sequence[str], log: Path, program: Sequence[str] = PROGRAM
    ) -> None:
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*program, *arguments],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.pid = self.process.pid

    def ended(self, seconds: float) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode


@dataclass
class Tried:
    """What was killed, and what became of it.

    Attributes:
        moments: what each kill that hit a living process interrupted.
        kept: how many of them belong to runs that ended with the same result.
    """

    moments: list[str] = field(default_factory=list)
    kept: int = 0


def kill_and_resume(
    command: Callable[[Path], list[str]],
    result: Callable[[Path], object],
    kills: int,
    start: Start,
    scratch: Path,
    seed: int = SEED,
    in_one_run: int = 3,
) -> Tried:
    """Kill runs until there are `kills`, give each the same command until it ends, and compare.

    Args:
        command: what to start, by the run's folder.
        result: what must be the same at the end as in an undisturbed run.
        start: starts a command.
        scratch: where the runs are.
        in_one_run: kills of one run at most.
    """
    draw, tried = random.Random(seed), Tried()
    began = time.monotonic()
    whole = scratch / "whole"
    assert start(command(whole), scratch / "log").ended(TOO_LONG) == 0, scratch / "log"
    wanted, seconds = result(whole), time.monotonic() - began
    for number in range(1, 10 * kills):  # a run may end before it is killed
        if len(tried.moments) == kills:
            break
        folder, moments = scratch / f"run-{number}", []
        for _ in range(min(in_one_run, kills - len(tried.moments))):
            moment = _kill_once(start, command(folder), folder, seconds, draw, scratch / "log")
            if moment is None:
                break
            moments.append(moment)
        well = start(command(folder), scratch / "log").ended(TOO_LONG) == 0
        tried.moments += moments
        tried.kept += len(moments) * (well and result(folder) == wanted)
    return tried


def _kill_once(
    start: Start,
    arguments: list[str],
    folder: Path,
    seconds: float,
    draw: random.Random,
    log: Path,
) -> str | None:
    """What a kill interrupted; None if the command ended before."""
    known, since = set(_paths(folder)), time.time()
    running = start(arguments, log)
    kind, patience = draw.choice(["time", "file", "checkpoint"]), time.monotonic() + 20 * seconds
    if kind == "time":  # anywhere, before anything is written as well
        running.ended(draw.uniform(0, seconds))
    else:  # soon after one more file, or one more checkpoint's folder, has appeared
        more = draw.randrange(1, 25 if kind == "file" else 4)
        while time.monotonic() < patience and running.ended(0.001) is None:
            new = set(_paths(folder)) - known
            if kind == "checkpoint":
                new = {path for path in new if path.name.startswith("checkpoint-")}
            if len(new) >= more:
                break
        time.sleep(draw.uniform(0, 0.01))
    if running.ended(0) is not None:
        return None
    assert running.pid is not None
    try:
        if draw.random() < 0.5:
            os.killpg(running.pid, signal.SIGKILL)  # with the processes that it has started
        else:
            os.kill(running.pid, signal.SIGKILL)
    except ProcessLookupError:  # not yet a group of its own
        os.kill(running.pid, signal.SIGKILL)
    assert running.ended(60) == -signal.SIGKILL
    return _interrupted(folder, since)


def _paths(folder: Path) -> Iterator[Path]:
    """All below; what disappears meanwhile is passed over."""
    for place, folders, files in os.walk(folder):
        yield from (Path(place) / name for name in [*folders, *files])


def _interrupted(folder: Path, since: float) -> str:
    """By what lies there, some of it since the command was started: about what was going on."""
    paths = list(_paths(folder))
    checkpoints = {path for path in paths if path.name.startswith("checkpoint-")}
    half = {path for path in checkpoints if not (path / "trainer_state.json").is_file()}
    if any(path.stat().st_mtime > since for path in paths if half & {path, path.parent}):
        return "while a checkpoint was written or removed"
    outside = {path.name for path in paths if path.parent not in checkpoints}
    if outside & {"training.json", "trained.json"}:
        return "after a training"
    if "model.safetensors" in outside:
        return "while a model was written"
    return "between checkpoints" if checkpoints else "before the first checkpoint"


# ---- the two commands ----------------------------------------------------------------------------


def write_shop(folder: Path) -> Path:
    """The data on which runs are killed."""
    return write_folder(build_shop(SHOP).dataset, folder / "sample")


def train_command(shop: Path) -> Callable[[Path], list[str]]:
    """`nezha-lite train`; the same line resumes."""
    settings = f"--ids rq-kmeans --levels 2 --codes 16 --epochs {EPOCHS} --batch-rows 32 --resume"
    return lambda folder: ["train", str(shop), str(folder), *settings.split()]


def trained(folder: Path) -> object:
    """What `train` leaves, to the last bit, but for the record with its times."""
    names = ("config.json", "model.safetensors")
    # The IDs' file is not compared byte by byte: its heading has no order.
    codes = SemanticIds.load(folder / "semantic_ids.safetensors").codes.tolist()
    return codes, [(folder / name).read_bytes() for name in names]


def study_command(shop: Path, *only: str) -> Callable[[Path], list[str]]:
    """`nezha-lite study`, of some of its systems; the same line goes on."""
    named = [word for name in only for word in ("--only", name)]
    options = ["--preset", "sample", "--workers", "1", "--device", "cpu", *named]
    return lambda folder: [
        *("study", str(shop), str(folder / "study"), *options),
        *("--results", str(folder / "table.json")),
    ]


def studied(folder: Path) -> object:
    """The table without times, and all weights to the last bit."""
    rows = [
        (row.settings, row.decoder, row.verifier, row.beam, row.metrics)
        for row in read_results(folder / "table.json")
        if row.settings["part"] != "costs"
    ]
    weights = sorted((folder / "study").rglob("model.safetensors"))
    return rows, [(str(path.relative_to(folder)), path.read_bytes()) for path in weights]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", type=int, default=20, help="kills of `train`")
    parser.add_argument("--study", type=int, default=6, help="kills of `study`")
    parser.add_argument("--results", type=Path, required=True)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        shop = write_shop(Path(scratch))
        systems = ("counting", "sasrec", "backbone-only")
        for name, kills, command, result in (
            (TRAINING, asked.training, train_command(shop), trained),
            (STUDY, asked.study, study_command(shop, *systems), studied),
        ):
            began, folder = time.monotonic(), Path(scratch) / name.split(",")[0]
            folder.mkdir()
            tried = kill_and_resume(command, result, kills, Started, folder)
            sys.stderr.write(f"{name}: {tried}\n")
            rows.append(
                ResultRow(
                    kind="reliability",
                    dataset="sample",
                    model={},
                    metrics={"tried": len(tried.moments), "kept": tried.kept},
                    settings={
                        "fault_class": name,
                        "users": SHOP.users,
                        "seed": SEED,
                        "moments": dict(sorted(Counter(tried.moments).items())),
                    },
                    seconds=round(time.monotonic() - began, 1),
                    **provenance("cpu"),
                )
            )
    write_results(asked.results, rows)


if __name__ == "__main__":
    main()
