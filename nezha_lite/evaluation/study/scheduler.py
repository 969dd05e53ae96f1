"""Runs a study's jobs: several at once, resumed where they stopped."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import torch

from nezha_lite.common.checks import check
from nezha_lite.datasets import InteractionDataset
from nezha_lite.decoding.recommender import find_device
from nezha_lite.evaluation.study.config import StudyConfig
from nezha_lite.evaluation.study.job_runner import Job, Work, check_study, study_jobs

Say = Callable[[str], None]

EXPECTED_ERRORS = (ValueError, OSError, MemoryError, FloatingPointError)
PRIOR_SECONDS = 60.0  # damps the pace: one quick job says little about the others


@dataclass(frozen=True)
class Status:
    """What is done of a study, and what is left.

    Attributes:
        done, left: the jobs.
        pace: how much longer jobs took than was expected of them, here and now; near 1 while few
            are finished.
    """

    done: tuple[Job, ...]
    left: tuple[Job, ...]
    pace: float = 1.0

    def seconds_left(self, workers: int) -> float:
        """An estimate: the work that is left, shared out, but no less than the longest job."""
        each = [job.expected * self.pace for job in self.left]
        return max(sum(each) / workers, max(each, default=0.0))

    def sentence(self, workers: int) -> str:
        """For people."""
        total = len(self.done) + len(self.left)
        if not self.left:
            return f"All {total} jobs are done."
        minutes = self.seconds_left(workers) / 60
        names = ", ".join(f"{job.name} (seed {job.seed})" for job in self.left[:4])
        more = f" and {len(self.left) - 4} more" if len(self.left) > 4 else ""
        return (
            f"{len(self.done)} of {total} jobs done, about {minutes:.0f} min left: {names}{more}."
        )


def status(
    dataset: InteractionDataset, config: StudyConfig, study: str | Path, only: Sequence[str] = ()
) -> Status:
    """What `run_study` would find done, and still have to do.

    Raises:
        ValueError: if a folder holds a run of other data or settings, or `only` names no system.
    """
    jobs = study_jobs(dataset, config, only)
    check_study(dataset, config, Path(study))
    left = tuple(job for job in jobs if job.missing(Path(study)))
    return Status(tuple(job for job in jobs if job not in left), left)


def run_study(
    dataset: InteractionDataset,
    config: StudyConfig,
    study: str | Path,
    only: Sequence[str] = (),
    workers: int = 1,
    device: str = "cpu",
    say: Say = print,
) -> None:
    """Run all jobs that are left; the same call finishes what was interrupted.

    Every job has a process of its own, and on a CPU one thread: figures do not depend on how many
    work at once. A job that fails, or is killed, does not stop the others; a study that is killed
    takes its jobs with it.

    Args:
        only: names of systems, see `study_jobs`.
        workers: jobs at a time; on a CPU as many as there are cores.
        device: where trained models decode, see `Recommender.load`.
        say: called with a sentence after every job.

    Raises:
        ValueError: if there is no worker or no such device, or as `status`: nothing is run then.
        ValueError, OSError, MemoryError, FloatingPointError: at the end, naming the jobs that
            failed and the first one's reason, which decides the kind; of all others, as of a job
            that was killed, it is a ChildProcessError, an OSError.
    """
    check(workers >= 1, "workers", workers, "at least 1")
    find_device(device)
    first_status = now = status(dataset, config, study, only)
    say(now.sentence(workers))
    started, failed = time.perf_counter(), {}
    done, left = list(now.done), list(now.left)
    spent = expected = 0.0
    pool = ThreadPoolExecutor(workers)  # a thread waits for one process
    try:
        for job, future in _completed(
            first_status.left,
            lambda job: pool.submit(_alone, Work(job, dataset, config, Path(study), device)),
        ):
            left.remove(job)
            if error := future.exception():
                failed[job] = error
                say(f"{job.name} (seed {job.seed}) failed: {_reason(error)}")
                continue
            done.append(job)
            spent, expected = spent + future.result(), expected + job.expected
            pace = (spent + PRIOR_SECONDS) / (expected + PRIOR_SECONDS)
            now = Status(tuple(done), tuple(left), pace)
            minutes = (time.perf_counter() - started) / 60
            say(f"{minutes:.0f} min: {job.name} (seed {job.seed}) done. {now.sentence(workers)}")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failed:
        first, error = next(iter(failed.items()))
        names = ", ".join(f"{job.name} (seed {job.seed})" for job in failed)
        # Not the error's own class: some take more than a sentence.
        kind = next(
            (kind for kind in EXPECTED_ERRORS if isinstance(error, kind)), ChildProcessError
        )
        raise kind(
            f"{len(failed)} of {len(first_status.left)} jobs failed ({names}); {first.name}: "
            f"{_reason(error)}"
        ) from error


def _completed(
    jobs: Sequence[Job], submit: Callable[[Job], Future[float]]
) -> Iterator[tuple[Job, Future[float]]]:
    """The jobs as they end. Those that need a teacher start when all others have ended."""
    for taught in (False, True):
        futures = {submit(job): job for job in jobs if job.taught is taught}
        yield from ((futures[future], future) for future in as_completed(futures))


def _reason(error: BaseException) -> str:
    """On one line; of an unexpected error with its class, which tells more than its sentence."""
    text = " ".join(str(error).split())
    return text if isinstance(error, EXPECTED_ERRORS) else f"{type(error).__name__}: {text}"


def _alone(work: Work) -> float:
    """Work in a process of its own: its peak of memory, and its death, are no other job's.

    Raises:
        ChildProcessError: if the process was killed; else what the work raises.
    """
    spawn = get_context("spawn")  # a forked process cannot use a GPU
    with ProcessPoolExecutor(1, spawn, initializer=_begin) as process:
        try:
            return process.submit(work.run).result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "its process was killed, perhaps because memory ran out; the same call goes on, "
                "with fewer workers if there are several"
            ) from error


def _begin() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Orphaned, a job would go on writing to a folder in which the next call begins it again."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
