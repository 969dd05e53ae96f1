"""Fair timing of several decoders: all are warmed up, then timed in turns, some calls in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nezha_lite.bench.decoders import TimedDecoder
from nezha_lite.bench.timing import MIN_CALLS, PhaseClock, peak_bytes, time_calls
from nezha_lite.decoding import Verification
from nezha_lite.decoding.beam_search import BeamSearchDecoder, ignore_phase
from nezha_lite.model.prompts import Prompts

QUICK_MS = 100.0  # below it, a call's first turn after others is colder than those that follow
MARKED_PASSES = 20


@dataclass
class Case:
    """A decoder at one beam on the prompts of a batch size and history.

    Attributes:
        decoder: its name.
        verification: None for a bare forward pass.
        structure: of the verifier; None where there is none.
        beam: None for a bare forward pass.
        timed: the decoder itself.
        prompts: batches, decoded in turn.
        times: milliseconds of the timed calls so far.
        planned: how many calls will be timed.
        phases: medians of a marked pass, where the decoder can be marked.
        peak: bytes of memory, where the device counts them.
        backbone_calls: of every call so far.
        accepted: likewise, of speculative decoding.
        failure: why there is no row.
    """

    decoder: str
    verification: Verification | None
    structure: str | None
    beam: int | None
    timed: TimedDecoder
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
        mode = f"{self.verification}, {self.structure}" if self.structure else self.verification
        return f"{self.decoder} ({mode}) at beam {self.beam}"

    def call(self, index: int) -> None:
        """Decode one batch of the prompts."""
        result = self.timed.decode(self.prompts[index % len(self.prompts)], self.beam or 1)
        if result is not None:
            self.backbone_calls.append(result.backbone_calls)
            if result.accepted is not None:
                self.accepted.append(result.accepted)

    def warm_up(self, calls: int, repeats: int, seconds: float, device: torch.device) -> None:
        """Call the decoder until it is warm, and plan how many calls will be timed.

        The first call may compile; the others stop early after a fifth of `seconds`.
        """
        if device.type == "cuda":  # a captured graph allocates while it is made, and never again
            self.peak = peak_bytes(lambda: self.call(0), device)
        else:
            self.call(0)
        warm = time_calls(lambda i: self.call(i + 1), calls, 0, device, seconds / 5, least=1)
        if device.type == "cpu":
            self.peak = peak_bytes(lambda: self.call(0), device)
        self.planned = max(min(repeats, int(1e3 * seconds / min(warm))), min(repeats, MIN_CALLS))

    def take_turn(self, turn: int, turns: int, device: torch.device) -> None:
        """The share of the planned calls that belongs to this turn."""
        begin, end = (self.planned * number // turns for number in (turn, turn + 1))
        if begin == end:
            return
        quick = not self.times or self.times[-1] < QUICK_MS
        self.times += time_calls(lambda i: self.call(begin + i), end - begin, quick, device)

    def split(self, device: torch.device) -> None:
        """Decode some more with a clock on every phase, where the decoder can be marked."""
        if not isinstance(self.timed, BeamSearchDecoder):
            return
        clock = PhaseClock(device)
        self.timed.on_phase = clock
        for index in range(min(self.planned, MARKED_PASSES)):
            clock.start()
            self.call(index)
        self.timed.on_phase = ignore_phase
        self.phases = clock.medians()

    def counts(self) -> dict[str, float]:
        """Metrics that are no times: peak_mib, backbone_calls and accepted, where there are any."""
        counts: dict[str, float] = {}
        if self.peak is not None:
            counts["peak_mib"] = round(self.peak / 2**20, 2)
        if self.backbone_calls:
            counts["backbone_calls"] = sum(self.backbone_calls) / len(self.backbone_calls)
        if self.accepted:
            counts["accepted"] = float(torch.cat(self.accepted).mean())
        return counts
