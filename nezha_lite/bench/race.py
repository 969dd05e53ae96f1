"""Decoders side by side on one batch of prompts, a piece of work at a time, so that a caller can
show progress and cancel."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from nezha_lite.bench.decoders import DECODERS
from nezha_lite.bench.interleaved import QUICK_MS, Case
from nezha_lite.bench.timing import time_calls
from nezha_lite.common.checks import check
from nezha_lite.common.memory import out_of_memory
from nezha_lite.decoding import Decoder, DecodeResult, ExactDecoder, Verification
from nezha_lite.decoding.exact import Under
from nezha_lite.model import NezhaModel, Prompts
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.verifiers import Verifier

NO_MEMORY = "There is too little memory for it."
EXACT: Mapping[str, Under] = {"exact-draft": "draft", "exact-backbone": "backbone"}
RACERS: Mapping[str, tuple[str, Verification | None]] = {
    "nezha": ("nezha", None),
    "nezha-unchecked": ("nezha", "off"),
    "parallel-heads": ("parallel-heads", None),
    "autoregressive": ("autoregressive", None),
    "speculative": ("speculative", None),
    "generate-constrained": ("generate-constrained", "prefix"),
    "generate": ("generate", "off"),
    **{name: (name, "prefix") for name in EXACT},
}
"""Names in a race: the decoder each stands for (nothing is compiled), and its verification mode,
None where the race decides."""


@dataclass(frozen=True, eq=False)
class Finish:
    """The result of one decoder.

    Attributes:
        decoder: its name in the benches.
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
        verification: where the name leaves it open.

    Raises:
        ValueError: for an unknown name.
    """
    check(name in RACERS, "decoder", name, f"one of {', '.join(RACERS)}")
    decoder, implied = RACERS[name]
    return decoder, implied or verification


class Race:
    """Times decoders on the same prompts, in turns, so that a slow moment affects all.

    Decoders are made once: what `generate` and the exact ones prepare is no part of a decode.

    Args:
        model: in eval mode.
        semantic_ids: the catalogue.
        verifier: of the same catalogue.
    """

    def __init__(self, model: NezhaModel, semantic_ids: SemanticIds, verifier: Verifier) -> None:
        self.model, self.semantic_ids, self.verifier = model, semantic_ids, verifier
        self._decoders: dict[tuple[str, Verification], Decoder] = {}

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
            names: of `RACERS`; two that stand for the same decoder are one.
            verification: where a name leaves it open.
            prompts: B prompts, on the model's device.
            beam: K.
            turns: how many turns each decoder has.
            calls: timed in each turn; only one of a decoder that needs 0.1 s or more.

        Yields:
            Before each piece of work: pieces done, of how many, and what comes next.

        Returns:
            One `Finish` for each decoder, in the order of `names`. One that cannot decode this
            model, or lacks the memory, has failed; the others still run.
        """
        entries = list(dict.fromkeys(entry(name, verification) for name in names))
        total, device = len(entries) * (1 + turns), self.model.device
        finishes: list[Finish] = []
        cases: list[Case | None] = []
        for number, (name, mode) in enumerate(entries):
            yield number, total, f"Warming up {name} ({mode})"
            case: Case | None = None
            try:
                decoder = self._decoder(name, mode)
                finish = Finish(name, mode, result=decoder.decode(prompts, beam))
                case = Case(name, mode, None, beam, decoder, [prompts])
                quick = time_calls(case.call, 1, 0, device)[0] < QUICK_MS
                case.planned = turns * (calls if quick else 1)
            except (ValueError, MemoryError, RuntimeError) as error:
                if not isinstance(error, ValueError) and not out_of_memory(error):
                    raise
                case, finish = None, Finish(name, mode, failure=str(error) or NO_MEMORY)
            finishes.append(finish)
            cases.append(case)
        for turn in range(turns):
            for number, case in enumerate(cases, len(cases) * (1 + turn)):
                if case is not None:
                    yield number, total, f"Timing {case}, turn {turn + 1} of {turns}"
                    case.take_turn(turn, turns, device)
        return [
            finish if case is None else replace(finish, times=tuple(case.times))
            for finish, case in zip(finishes, cases, strict=True)
        ]

    def _decoder(self, name: str, verification: Verification) -> Decoder:
        if (name, verification) not in self._decoders:
            if name in EXACT:
                decoder: Decoder = ExactDecoder(self.model, self.semantic_ids, EXACT[name])
            else:
                make = DECODERS[name].make
                decoder = cast(Decoder, make(self.model, self.verifier, verification))
            self._decoders[name, verification] = decoder
        return self._decoders[name, verification]
