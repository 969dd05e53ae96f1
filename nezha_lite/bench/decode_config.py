"""What the decode bench measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nezha_lite.bench.decoders import DECODERS, USUAL
from nezha_lite.decoding import VERIFICATIONS, Verification
from nezha_lite.verifiers import VERIFIER_KINDS


@dataclass(frozen=True)
class DecodeBench:
    """What is measured: all combinations of what is listed.

    Attributes:
        decoders: names in `contestants.DECODERS`; "forward" is always measured.
        beams: K.
        batches: B, prompts decoded together.
        histories: items per prompt, exactly.
        contexts: also the shortest histories whose prompts, BOS and placeholders included, have
            this many tokens.
        verifications: of the beam-search decoders; `generate` is off or by prefix by its name.
        structures: verifiers by name, or "auto".
        repeats: timed calls of each.
        warmup: calls before them; the first one, which may compile, is not among them.
        seconds: time for a decoder's timed calls; a slow one is called less often, down to three
            times.
        phases: split eager decoders' time by phase, in calls of their own.
        compile: see `CapturedDecoder`.
        generate_tokens: `generate` is left out where beams × batch × prompt have more tokens.
        seed: of prompts.

    Raises:
        ValueError: naming the field that is out of range.
    """

    decoders: Sequence[str] = USUAL
    beams: Sequence[int] = (10, 50, 512)
    batches: Sequence[int] = (1,)
    histories: Sequence[int] = (20,)
    contexts: Sequence[int] = ()
    verifications: Sequence[Verification] = ("prefix",)
    structures: Sequence[str] = ("auto",)
    repeats: int = 100
    warmup: int = 5
    seconds: float = 5.0
    phases: bool = True
    compile: bool | None = None
    generate_tokens: int = 200_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("decoder", DECODERS),
            ("verification", VERIFICATIONS),
            ("structure", ("auto", *VERIFIER_KINDS)),
        ):
            for value in getattr(self, f"{name}s"):
                if value not in known:
                    raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(known)}.")
        for name, values in (
            ("beam", self.beams),
            ("batch", self.batches),
            ("history", self.histories),
            ("context", self.contexts),
            ("repeats", (self.repeats,)),
            ("warmup", (self.warmup,)),
        ):
            if wrong := [value for value in values if value < 1]:
                raise ValueError(f"{name} is {wrong[0]}, but must be at least 1.")
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds is {self.seconds:g}, but must be a number above 0.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, but must be 0 or more.")
        for name, lists in (
            ("decoders", self.decoders),
            ("beams", self.beams),
            ("batches", self.batches),
            ("histories", (*self.histories, *self.contexts)),
            ("verifications", self.verifications),
            ("structures", self.structures),
        ):
            if not lists:
                raise ValueError(f"{name} is empty, but must name at least one.")

    def items_per_prompt(self, levels: int) -> tuple[int, ...]:
        """Histories and contexts, in items whose IDs have so many levels."""
        contexts = (max(1, math.ceil((tokens - 1) / levels) - 1) for tokens in self.contexts)
        return (*self.histories, *contexts)
