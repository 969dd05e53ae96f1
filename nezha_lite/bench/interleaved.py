"""Measuring fairly: all cases are warmed up, then all are timed, some calls in each turn."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nezha_lite.bench.decode_config import DecodeBench
from nezha_lite.bench.decoders import CAPTURED, GENERATES, UNCAPTURABLE, Contestant
from nezha_lite.bench.timing import LEAST_CALLS, PhaseClock, peak_bytes, time_calls
from nezha_lite.common.memory import out_of_memory
from nezha_lite.decoding import Verification
from nezha_lite.decoding.beam_search import BeamSearchDecoder, ignore_phase
from nezha_lite.model.prompts import Prompts

log = logging.getLogger("nezha_lite")
TURNS = 5


def measure_in_turns(cases: Sequence[Case], config: DecodeBench, device: torch.device) -> None:
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
                log.info(f"Left out: {case}: {case.failure}.")

    def warm_up(case: Case) -> None:
        case.failure = case.refusal(config.generate_tokens)
        if case.failure is None:
            log.info(f"Warming up {case}.")
            case.warm_up(config.warmup, config.repeats, config.seconds, device)

    each(warm_up)
    for turn in range(TURNS):
        log.info(f"Timing, turn {turn + 1} of {TURNS}.")
        each(lambda case: case.take_turn(turn, TURNS, device))  # noqa: B023
    if config.phases:
        each(lambda case: case.split(device))


def collect(device: torch.device) -> None:
    """Give back what nobody holds any more, captured graphs above all."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


QUICK_MS = 100.0  # below it, a call's first turn after others is colder than those that follow
MARKED_PASSES = 20


@dataclass
class Case:
    """A decoder at one beam on the group's prompts.

    Attributes:
        decoder: its name.
        verification: None for a bare forward pass.
        structure: of the verifier; None where it has none.
        beam: None for a bare forward pass.
        contestant: what is timed.
        prompts: batches, taken in turn.
        times: milliseconds of the timed calls so far.
        planned: how many there shall be.
        phases: medians of a marked pass, where the decoder can be marked.
        peak: bytes of memory, where it can be told.
        backbone_calls: of every call so far.
        accepted: likewise, of speculative decoding.
        failure: why there is no row.
    """

    decoder: str
    verification: Verification | None
    structure: str | None
    beam: int | None
    contestant: Contestant
    prompts: Sequence[Prompts]
    times: list[float] = field(default_factory=list)
    planned: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    peak: int | None = None
    backbone_calls: list[int] = field(default_factory=list)
    accepted: list[Tensor] = field(default_factory=list)
    failure: str | None = None

    def __str__(self) -> str:
        if self.beam is None:
            return self.decoder
        checked = f"{self.verification}, {self.structure}" if self.structure else self.verification
        return f"{self.decoder} ({checked}) at beam {self.beam}"

    def call(self, index: int) -> None:
        """Decode one batch of the prompts."""
        result = self.contestant.decode(self.prompts[index % len(self.prompts)], self.beam or 1)
        if result is not None:
            self.backbone_calls.append(result.backbone_calls)
            if result.accepted is not None:
                self.accepted.append(result.accepted)

    def warm_up(self, calls: int, repeats: int, seconds: float, device: torch.device) -> None:
        """Call it until it is warm, and plan how often it shall be timed.

        The first call may compile; the others stop early after a fifth of `seconds`.
        """
        if device.type == "cuda":  # a captured graph allocates while it is made, and never again
            self.peak = peak_bytes(lambda: self.call(0), device)
        else:
            self.call(0)
        warm = time_calls(lambda i: self.call(i + 1), calls, 0, device, seconds / 5, least=1)
        if device.type == "cpu":
            self.peak = peak_bytes(lambda: self.call(0), device)
        self.planned = max(min(repeats, int(1e3 * seconds / min(warm))), min(repeats, LEAST_CALLS))

    def take_turn(self, turn: int, turns: int, device: torch.device) -> None:
        """The share of the planned calls that belongs to this turn."""
        begin, end = (self.planned * number // turns for number in (turn, turn + 1))
        if begin == end:
            return
        quick = not self.times or self.times[-1] < QUICK_MS
        self.times += time_calls(lambda i: self.call(begin + i), end - begin, quick, device)

    def split(self, device: torch.device) -> None:
        """Decode some more, with a clock on every phase, where the decoder can be marked."""
        if not isinstance(self.contestant, BeamSearchDecoder):
            return
        clock = PhaseClock(device)
        self.contestant.on_phase = clock
        for index in range(min(self.planned, MARKED_PASSES)):
            clock.start()
            self.call(index)
        self.contestant.on_phase = ignore_phase
        self.phases = clock.medians()

    def refusal(self, most_tokens: int) -> str | None:
        """Why it is not even tried, if so."""
        if self.decoder in CAPTURED and self.structure in UNCAPTURABLE:
            return f"a verifier of kind {self.structure!r} waits for the device"
        # `generate` reads a copy of the prompt for every beam.
        tokens = self.prompts[0].input_ids.numel() * (self.beam or 1)
        if self.decoder in GENERATES and tokens > most_tokens:
            return f"it would read {tokens:,} tokens at once, more than {most_tokens:,}"
        return None
