"""Runs a study's jobs: several at once, resumed where they stopped."""

from __future__ import annotations

import logging
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

log = logging.getLogger("nezha_lite")

EXPECTED_ERRORS = (ValueError, OSError, MemoryError, FloatingPointError)
PRIOR_SECONDS = 60.0  # damps the pace: one quick job says little about the others


@dataclass(frozen=True)
class Status:
    """What is done of a study, and what is left.

    Attributes:
        done, left: the jobs.
        pace: the time that jobs took on this machine over their expected time; near 1 while few are
            finished.
    """

    done: tuple[Job, ...]
    left: tuple[Job, ...]
    pace: float = 1.0

    def seconds_left(self, workers: int) -> float:
        """An estimate: the work that is left over the workers, at least that of the longest job."""
        each = [job.expected * self.pace for job in self.left]
        return max(sum(each) / workers, max(each, default=0.0))

    def sentence(self, workers: int) -> str:
        """The status in plain text."""
        total = len(self.done) + len(self.left)
        if not self.left:
            return f"All {total} jobs are done."
        minutes = self.seconds_left(workers) / 60
        names = ", ".join(map(str, self.left[:4]))
        more = f" and {len(self.left) - 4} more" if len(self.left) > 4 else ""
        return (
            f"{len(self.done)} of {total} jobs done, about {minutes:.0f} min left: {names}{more}."
        )


def status(
    dataset: InteractionDataset, config: StudyConfig, study: str | Path, only: Sequence[str] = ()
) -> Status:
    """What is done of a study, and what `run_study` still has to do.

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
) -> None:
    """Run all jobs that are left; the same call finishes what was interrupted.

    Every job runs in a process of its own, on a CPU with one thread: figures do not depend on the
    number of workers. A job that fails, or is killed, does not stop the others; if the study is
    killed, its jobs end too. After every job a sentence is logged.

    Args:
        only: names of systems, see `study_jobs`.
        workers: jobs at a time; on a CPU as many as there are cores.
        device: where trained models decode, see `Recommender.load`.

    Raises:
        ValueError: if there is no worker or no such device, or as `status`: no job is run then.
        ValueError, OSError, MemoryError, FloatingPointError: after all jobs, naming those that
            failed and the first one's error. Its class is that of the first error, or
            ChildProcessError, an OSError, if that is none of these or the job was killed.
    """
    check(workers >= 1, "workers", workers, "at least 1")
    find_device(device)
    now = status(dataset, config, study, only)
    log.info(now.sentence(workers))
    started, failed = time.perf_counter(), {}
    todo, done, left = now.left, list(now.done), list(now.left)
    spent = expected = 0.0
    pool = ThreadPoolExecutor(workers)  # a thread waits for one process
    try:

        def submit(job: Job) -> Future[float]:
            return pool.submit(_alone, Work(job, dataset, config, Path(study), device))

        for job, future in _completed(todo, submit):
            left.remove(job)
            if error := future.exception():
                failed[job] = error
                log.info(f"{job} failed: {_reason(error)}")
                continue
            done.append(job)
            spent, expected = spent + future.result(), expected + job.expected
            pace = (spent + PRIOR_SECONDS) / (expected + PRIOR_SECONDS)
            now = Status(tuple(done), tuple(left), pace)
            minutes = (time.perf_counter() - started) / 60
            log.info(f"{minutes:.0f} min: {job} done. {now.sentence(workers)}")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failed:
        first, error = next(iter(failed.items()))
        names = ", ".join(map(str, failed))
        # Not the error's own class: some cannot be made from a sentence alone.
        kinds = (kind for kind in EXPECTED_ERRORS if isinstance(error, kind))
        raise next(kinds, ChildProcessError)(
            f"{len(failed)} of {len(todo)} jobs failed ({names}); {first.name}: {_reason(error)}"
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
    """Run a job in a process of its own: its peak memory and its crash affect no other job.

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
    """Without this, a job could write to its folder while the next call runs the same job."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
