"""A few kills at random moments; `killing.py` does many, of processes started from nothing."""

import os
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import pytest

from nezha_lite.cli import main
from tests.helpers.killing import (
    Started,
    kill_and_resume,
    studied,
    study_command,
    train_command,
    trained,
    write_shop,
)

pytestmark = pytest.mark.timeout(600)
ROOMS = [
    "nezha_lite.cli",
    "nezha_lite.evaluation.study",
    "nezha_lite.datasets",
    "nezha_lite.semantic_ids.tokenizer",
]


def run_command(arguments: Sequence[str], log: Path) -> None:
    os.setsid()
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["nezha-lite", *arguments]
    main()


class Forked:
    """A command in a process of a server that has imported what it needs: imports take longest."""

    context = get_context("forkserver")

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.context.set_forkserver_preload(ROOMS)
        self.process = self.context.Process(target=run_command, args=(arguments, log))
        self.process.start()
        self.pid = self.process.pid

    def ended(self, seconds: float) -> int | None:
        self.process.join(seconds)
        return self.process.exitcode


@pytest.fixture(scope="module")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("shop"))


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(small_shop: Path, tmp_path: Path) -> None:
    tried = kill_and_resume(train_command(small_shop), trained, 3, Forked, tmp_path)
    assert tried.kept == len(tried.moments) == 3, tried


@pytest.mark.slow
def test_a_killed_study_ends_with_the_same_table(small_shop: Path, tmp_path: Path) -> None:
    command = study_command(small_shop, "sasrec")
    tried = kill_and_resume(command, studied, 2, Forked, tmp_path)
    assert tried.kept == len(tried.moments) == 2, tried


# Ends otherwise where it was begun before.
FORGETFUL = 'mkdir "$0" || mkdir "$0/again"; sleep 0.4; ls "$0" >"$0/end"'
STEADY = 'mkdir -p "$0"; touch "$0/begun"; sleep 0.4; echo same >"$0/end"'


@pytest.mark.parametrize(("script", "kept"), [(FORGETFUL, 0), (STEADY, 3)])
@pytest.mark.slow
def test_a_run_that_ends_otherwise_is_counted_as_such(
    script: str, kept: int, tmp_path: Path
) -> None:
    tried = kill_and_resume(
        lambda folder: ["sh", "-c", script, str(folder)],
        lambda folder: (folder / "end").read_text(),
        3,
        lambda arguments, log: Started(arguments, log, program=()),
        tmp_path,
        in_one_run=2,
    )
    assert (len(tried.moments), tried.kept) == (3, kept)
    assert set(tried.moments) == {"before the first checkpoint"}


def test_a_command_that_is_not_resumed_is_counted_as_such(tmp_path: Path) -> None:
    once = 'mkdir "$0" || exit 2; sleep 0.4; echo same >"$0/end"'
    tried = kill_and_resume(
        lambda folder: ["sh", "-c", once, str(folder)],
        lambda folder: (folder / "end").read_text(),
        1,
        lambda arguments, log: Started(arguments, log, program=()),
        tmp_path,
    )
    assert (len(tried.moments), tried.kept) == (1, 0)
