"""Measuring fairly: all cases are warmed up, then all are timed, some calls in each turn."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch

from nezha_lite.bench.cases import Case
from nezha_lite.bench.decode_config import DecodeBench
from nezha_lite.out_of_memory import out_of_memory

TURNS = 5
Report = Callable[[str], None]


def silent(line: str) -> None:
    """For callers that do not want to be told."""


def measure_in_turns(
    cases: Sequence[Case], config: DecodeBench, device: torch.device, report: Report
) -> None:
    """Fill in every case, or say why not; they take turns at being timed."""

    def each(step: Callable[[Case], None]) -> None:
        for case in cases:
            if case.failure is not None:
                continue
            try:
                step(case)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                case.failure = "there is too little memory for it"
                collect(device)
            if case.failure is not None:
                if case.decoder == "forward":
                    raise MemoryError("There is too little memory for one forward pass.")
                report(f"Left out: {case}: {case.failure}.")

    def warm_up(case: Case) -> None:
        case.failure = case.refusal(config.generate_tokens)
        if case.failure is None:
            report(f"Warming up {case}.")
            case.warm_up(config.warmup, config.repeats, config.seconds, device)

    each(warm_up)
    for turn in range(TURNS):
        report(f"Timing, turn {turn + 1} of {TURNS}.")
        each(lambda case: case.take_turn(turn, TURNS, device))  # noqa: B023
    if config.phases:
        each(lambda case: case.split(device))


def collect(device: torch.device) -> None:
    """Give back what nobody holds any more, captured graphs above all."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
