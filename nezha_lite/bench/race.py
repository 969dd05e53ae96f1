"""Decoders side by side on one batch of prompts, a piece of work at a time, so that it can be
watched and cancelled."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nezha_lite.bench.decoders import CAPTURED, GENERATES
from nezha_lite.bench.interleaved import QUICK_MS, Case
from nezha_lite.bench.timing import time_calls
from nezha_lite.common.memory import out_of_memory
from nezha_lite.decoding import (
    Decoder,
    DecodeResult,
    ExactDecoder,
    GenerateDecoder,
    SpeculativeDecoder,
    Verification,
)
from nezha_lite.decoding.exact import Under
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import Verifier

EXACT: dict[str, Under] = {"exact-draft": "draft", "exact-backbone": "backbone"}
UNCHECKED = {"nezha-unchecked": "nezha"}
NO_MEMORY = "There is too little memory for it."
RACERS = (
    "nezha",
    *UNCHECKED,
    "parallel-heads",
    "autoregressive",
    "speculative",
    *reversed(GENERATES),
    *EXACT,
)
"""All names: those of the bench, but nothing is compiled, and some that the bench leaves out."""


@dataclass(frozen=True, eq=False)
class Finish:
    """How one decoder came through.

    Attributes:
        decoder: its name in the bench's figures.
        verification: how its drafts were checked; "prefix" for an exact decoder.
        times: milliseconds of the timed calls; empty if it failed.
        result: what it decoded, without trace; None if it failed.
        failure: why it did not run, in a sentence; None if it did.
    """

    decoder: str
    verification: Verification
    times: tuple[float, ...] = ()
    result: DecodeResult | None = None
    failure: str | None = None

    @property
    def median_ms(self) -> float:
        """The median of `times`, in milliseconds; nan if it failed."""
        return float(np.median(self.times)) if self.times else float("nan")


def entry(name: str, verification: Verification) -> tuple[str, Verification]:
    """The decoder that a racer's name stands for, and how its drafts are checked.

    Args:
        name: one of `RACERS`.
        verification: of those that leave it open; `generate`, exact and unchecked ones do not.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in RACERS:
        raise ValueError(f"decoder is {name!r}, but must be one of {RACERS}.")
    if name in UNCHECKED:
        return UNCHECKED[name], "off"
    if name in EXACT:
        return name, "prefix"
    return name, GENERATES.get(name, verification)


class Race:
    """Times decoders on the same prompts; they take turns, so that a slow moment hits all.

    Decoders are made once: what `generate` and the exact ones prepare is no part of a decode.

    Args:
        model: in eval mode.
        semantic_ids: the catalogue.
        verifier: of the same catalogue.
    """

    def __init__(self, model: NezhaModel, semantic_ids: SemanticIds, verifier: Verifier) -> None:
        self.model, self.semantic_ids, self.verifier = model, semantic_ids, verifier
        self._made: dict[tuple[str, Verification], Decoder] = {}

    def run(
        self,
        names: Sequence[str],
        verification: Verification,
        prompts: Prompts,
        beam: int,
        turns: int = 5,
        calls: int = 4,
    ) -> Generator[tuple[int, int, str], None, list[Finish]]:
        """Warm every decoder up, then time all of them, some calls in each turn.

        Args:
            names: of `RACERS`; two that come to the same decoder are one.
            verification: of those that leave it open.
            prompts: B prompts, on the model's device.
            beam: K.
            turns: how often each decoder's turn comes.
            calls: timed in each turn; only one of a decoder that needs 0.1 s or more.

        Yields:
            Before each piece of work: pieces done, of how many, and what comes next.

        Returns:
            One `Finish` for each decoder, in the order of `names`. One that cannot decode this
            model, or lacks the memory, has failed; the others still run.
        """
        entries = list(dict.fromkeys(entry(name, verification) for name in names))
        total = len(entries) * (1 + turns)
        done, device = 0, self.model.device
        finishes, cases = [], []
        for decoder, checked in entries:
            yield done, total, f"Warming up {decoder} ({checked})"
            done += 1
            case: Case | None = None
            try:
                made = self._decoder(decoder, checked)
                finish = Finish(decoder, checked, result=made.decode(prompts, beam))
                case = Case(decoder, checked, None, beam, made, [prompts])
                quick = time_calls(case.call, 1, 0, device)[0] < QUICK_MS
                case.planned = turns * (calls if quick else 1)
            except (ValueError, MemoryError, RuntimeError) as error:
                if not isinstance(error, ValueError) and not out_of_memory(error):
                    raise
                case, finish = None, Finish(decoder, checked, failure=str(error) or NO_MEMORY)
            finishes.append(finish)
            cases.append(case)
        for turn in range(turns):
            for case in cases:
                done += 1
                if case is not None:
                    yield done - 1, total, f"Timing {case}, turn {turn + 1} of {turns}"
                    case.take_turn(turn, turns, device)
        return [
            finish if case is None else replace(finish, times=tuple(case.times))
            for finish, case in zip(finishes, cases, strict=True)
        ]

    def _decoder(self, name: str, verification: Verification) -> Decoder:
        if (name, verification) not in self._made:
            self._made[name, verification] = self._make(name, verification)
        return self._made[name, verification]

    def _make(self, name: str, verification: Verification) -> Decoder:
        if name in EXACT:
            return ExactDecoder(self.model, self.semantic_ids, EXACT[name])
        if name in GENERATES:
            return GenerateDecoder(self.model, self.verifier, verification)
        kind = CAPTURED.get(name, SpeculativeDecoder)
        return kind(self.model, self.verifier, verification)
