"""The beam search that all decoders share: decoders differ in where log-probabilities come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nezha_lite.decoding.base import DecodeResult, Verification, check_call, check_verifier
from nezha_lite.decoding.trace import DecodeTrace, LevelTrace
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts
from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers import Candidates, RequestFilter, Verifier, child_keys


@dataclass(frozen=True, eq=False)
class Step:
    """Where the surviving beams came from: both (B, W) int64.

    `parents` index the beams before the step, `codes` are what they chose.
    """

    parents: Tensor
    codes: Tensor


Mark = Callable[[str], None]


def no_mark(phase: str) -> None:
    """Where nobody measures."""


class BeamSearch:
    """A beam search over semantic IDs, one `step` per level.

    Shapes depend on the arguments alone, and nothing waits for the device: a whole search can be
    compiled, or captured as one CUDA graph.

    Args:
        batch: B.
        beam: K, beams to keep; while fewer candidates than K exist, all of them are kept.
        radices: T_1 … T_L.
        verifier: the catalogue; None only with verification "off".
        verification: "off", "final" (finished IDs only) or "prefix" (every level).
        record: keep what a `DecodeTrace` needs.
        device: where the log-probabilities will be.
        requests: what each prompt may be given.
        mark: called with a phase's name when it ends, for `bench`; see `BeamSearchDecoder`.
    """

    def __init__(
        self,
        batch: int,
        beam: int,
        radices: tuple[int, ...],
        verifier: Verifier | None,
        verification: Verification,
        record: bool,
        device: torch.device,
        requests: RequestFilter | None = None,
        mark: Mark = no_mark,
    ) -> None:
        self.beam = beam
        self.radices = radices
        self.strides = radix_strides(radices)
        self.verifier = verifier
        self.verification = verification
        self.requests = requests
        self.mark = mark
        self.scores = torch.zeros(batch, 1, device=device)  # (B, K) float32
        self.keys = torch.zeros(batch, 1, dtype=torch.int64, device=device)  # (B, K)
        self.level = 0
        self.levels: list[LevelTrace] | None = [] if record else None

    def step(self, log_probs: Tensor) -> Step:
        """Extend every beam, verify, keep the best.

        Args:
            log_probs: (B, K, C) float32 or wider, of the next code after each live beam; or
                (B, 1, C) where they are the same after all.

        A beam without any existing continuation keeps its place with score -inf and key -1.
        """
        self.level += 1
        n_codes = self.radices[self.level - 1]
        totals = (self.scores.unsqueeze(-1) + log_probs).flatten(1)  # (B, K·C)
        candidates, exists = self._candidates()
        index = candidates.index
        scores = totals if index is None else totals.gather(1, index)  # (B, F)
        allowed = exists if self.verification == "prefix" else None
        if self.requests is not None:
            admitted = (
                self.requests.admits_children(self.level, self.keys)
                if index is None
                else self.requests.admits(self.level, self._keys_of(index, n_codes))
            )
            allowed = admitted if allowed is None else allowed & admitted
            exists = None if exists is None else exists & admitted
        self.mark("verify")

        width = min(self.beam, scores.shape[1])
        ranked = scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)
        best = ranked.topk(width)  # (B, W), sorted
        chosen = best.indices if index is None else index.gather(1, best.indices)  # (B, W)
        chosen_scores = best.values
        chosen_keys = self._keys_of(chosen, n_codes)
        alive = torch.isfinite(chosen_scores)
        last = self.level == len(self.radices)
        if self.verification == "final" and last and self.verifier is not None:
            alive &= self.verifier.contains(chosen_keys)
            # Rejected drafts leave holes: the accepted ones close ranks, in order.
            order = (~alive).to(torch.int8).argsort(dim=1, stable=True)
            chosen, chosen_scores = chosen.gather(1, order), chosen_scores.gather(1, order)
            chosen_keys, alive = chosen_keys.gather(1, order), alive.gather(1, order)
        if self.levels is not None:
            self.levels.append(self._record(totals, exists, chosen.masked_fill(~alive, -1)))
        self.scores = chosen_scores.masked_fill(~alive, -torch.inf)
        self.keys = chosen_keys.masked_fill(~alive, -1)
        self.mark("select")
        return Step(chosen // n_codes, chosen % n_codes)

    def result(self, backbone_calls: int) -> DecodeResult:
        """The finished lists, all `beam` places wide."""
        missing = self.beam - self.keys.shape[1]
        keys = torch.nn.functional.pad(self.keys, (0, missing), value=-1)
        scores = torch.nn.functional.pad(self.scores, (0, missing), value=-torch.inf)
        trace = None
        if self.levels is not None:
            verified = self.verifier is not None
            trace = DecodeTrace(tuple(self.levels), backbone_calls, verified)
        return DecodeResult(keys, scores, backbone_calls, trace)

    def _candidates(self) -> tuple[Candidates, Tensor | None]:
        """What can follow the beams, and which of it exists: None if nobody needs to know."""
        verifier, recording = self.verifier, self.levels is not None
        if verifier is None or (self.verification != "prefix" and not recording):
            return Candidates(exists=None), None
        if not recording:
            candidates = verifier.candidates(self.level, self.keys)
            return candidates, candidates.exists
        # A trace shows what was rejected too: that takes the whole grid.
        keys = child_keys(self.keys, self.level, self.radices)
        exists = verifier.prefix_contains(self.level, keys).flatten(1)
        return Candidates(exists), exists

    def _keys_of(self, numbers: Tensor, n_codes: int) -> Tensor:
        """Prefix keys of candidates by number, (B, F); -1 after dead beams."""
        parents = self.keys.gather(1, numbers // n_codes)
        keys = parents + numbers % n_codes * self.strides[self.level - 1]
        return keys.masked_fill(parents < 0, -1)

    def _record(self, totals: Tensor, exists: Tensor | None, kept: Tensor) -> LevelTrace:
        grid = (*self.keys.shape, self.radices[self.level - 1])  # (B, K, C)
        return LevelTrace(
            level=self.level,
            scores=totals.view(grid),
            keys=child_keys(self.keys, self.level, self.radices),
            exists=torch.ones_like(totals, dtype=torch.bool).view(grid)
            if exists is None
            else exists.view(grid),
            proposed=totals.topk(kept.shape[1]).indices,
            kept=kept,
        )


class BeamSearchDecoder(ABC):
    """What beam-search decoders share: a model, a verifier, and when to use it.

    A decoder adds `run`. Setting `mark` to a function has it called with "forward", "head",
    "verify" or "select" whenever such a phase ends: that is how `bench` splits the time.

    Args:
        model: a trained `NezhaModel` in eval mode.
        verifier: the catalogue; may be None with verification "off".
        verification: "off" trusts the drafts, "final" rejects finished drafts that do not exist
            (the list gets shorter), "prefix" never follows a prefix that no item has.

    Raises:
        ValueError: for an unknown mode, a missing verifier, or one of other radices.
    """

    static: ClassVar[bool] = True
    """Whether what it does depends on shapes alone, so that `CapturedDecoder` can run it."""

    def __init__(
        self,
        model: NezhaModel,
        verifier: Verifier | None = None,
        verification: Verification = "prefix",
    ) -> None:
        check_verifier(model.head.radices, verifier, verification)
        self.model, self.verifier, self.verification = model, verifier, verification
        self.mark: Mark = no_mark

    def search(
        self, prompts: Prompts, beam: int, record: bool, requests: RequestFilter | None
    ) -> BeamSearch:
        """A beam search at its start.

        Raises:
            ValueError: if `beam` is below 1, or `requests` are for another number of prompts.
        """
        check_call(prompts, beam, requests)
        return BeamSearch(
            len(prompts),
            beam,
            self.model.head.radices,
            self.verifier,
            self.verification,
            record,
            self.model.device,
            requests,
            self.mark,
        )

    @torch.inference_mode()
    def decode(
        self,
        prompts: Prompts,
        beam: int,
        trace: bool = False,
        requests: RequestFilter | None = None,
    ) -> DecodeResult:
        """See `Decoder.decode`."""
        search = self.search(prompts, beam, trace, requests)
        return search.result(self.run(prompts, search))

    @abstractmethod
    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """Step the search to its end, by this decoder's log-probabilities.

        Returns:
            How often the backbone ran.
        """
