"""The beam search that all decoders share: decoders differ in where log-probabilities come from."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from nezha_lite.decoding.base import Decoder, DecodeResult, Verification, check_verifier
from nezha_lite.decoding.trace import DecodeTrace, LevelTrace
from nezha_lite.model.prompts import Prompts
from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers import Candidates, RequestFilter, Verifier, child_keys

PhaseCallback = Callable[[str], None]


def ignore_phase(phase: str) -> None:
    """The phase callback that does nothing."""


@dataclass(frozen=True, eq=False)
class Step:
    """Where the beams of a level come from.

    Attributes:
        parents: (B, W) int64, numbers of the beams before the step.
        codes: (B, W) int64, the codes that extend them.
    """

    parents: Tensor
    codes: Tensor


@dataclass(eq=False)
class BeamSearch:
    """A beam search over semantic IDs, one `step` per level.

    Shapes depend on the arguments alone, and nothing waits for the device: a whole search can be
    compiled, or captured as one CUDA graph.

    >>> search = BeamSearch(1, beam=2, radices=(2, 3), device=torch.device("cpu"))
    >>> search.step(torch.tensor([[[0.25, 0.75]]]).log()).codes
    tensor([[1, 0]])
    >>> search.step(torch.tensor([[[0.2, 0.3, 0.5]]]).log()).parents
    tensor([[0, 0]])
    >>> search.keys, search.scores.exp()  # the IDs (1, 2) and (1, 1), whose keys are 1 + 2·code
    (tensor([[5, 3]]), tensor([[0.3750, 0.2250]]))

    Args:
        batch: B.
        beam: K, beams to keep; while fewer candidates than K exist, all of them are kept.
        radices: T_1 … T_L.
        device: of the log-probabilities.
        verifier: the catalogue; None only with verification "off".
        verification: "off", "final" (finished IDs only) or "prefix" (every level).
        requests: which IDs each prompt may receive.
        record: keep what a `DecodeTrace` needs.
        on_phase: called with a phase's name when the phase ends; see `BeamSearchDecoder`.

    Attributes:
        scores: (B, K) float32 or wider, best first. Dead beams stay as padding with score -inf and
            key -1.
        keys: (B, K) int64, the beams' prefix keys.
        level: how many codes the beams have.
    """

    batch: InitVar[int]
    beam: int
    radices: tuple[int, ...]
    device: InitVar[torch.device]
    verifier: Verifier | None = None
    verification: Verification = "off"
    requests: RequestFilter | None = None
    record: InitVar[bool] = False
    on_phase: PhaseCallback = ignore_phase

    def __post_init__(self, batch: int, device: torch.device, record: bool) -> None:
        self.scores = torch.zeros(batch, 1, device=device)
        self.keys = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        self.level = 0
        self.levels: list[LevelTrace] | None = [] if record else None
        self._next: Candidates | None = None  # of the next step, once they are known
        self.accepted: Tensor | None = None  # set by speculative decoding, see `DecodeResult`

    def step(self, log_probs: Tensor) -> Step:
        """Extend every beam by a code, verify, and keep the best.

        Args:
            log_probs: (B, K, C) float32 or wider, of the next code after each beam; (B, 1, C) where
                they are the same after all beams.
        """
        self.level += 1
        candidates, self._next = self._next or self._candidates(self.level), None
        exists, admitted = candidates.exists, self._admitted(candidates)  # (B, F)
        if exists is not None and admitted is not None:
            exists = exists & admitted
        self.on_phase("verify")

        allowed = exists if self.verification == "prefix" else admitted
        log_probs = log_probs.expand(-1, self.scores.shape[1], -1)  # (B, K, C)
        parents, codes, scores = self._best(log_probs, candidates, allowed)  # (B, W)
        keys = self._child_keys(parents, codes)
        dead = scores == -torch.inf  # NaN is not dead: `decode` reports it
        if self.verification == "final" and self.level == len(self.radices):
            assert self.verifier is not None
            dead = dead | ~(self.verifier.contains(keys) | scores.isnan())
            order = dead.byte().argsort(dim=1, stable=True)  # padding comes last
            parents, codes, keys, dead, scores = (
                column.gather(1, order) for column in (parents, codes, keys, dead, scores)
            )
            scores = scores.masked_fill(dead, -torch.inf)
        if self.levels is not None:
            totals = self.scores.unsqueeze(-1) + log_probs  # (B, K, C)
            exists = torch.ones_like(totals, dtype=torch.bool) if exists is None else exists
            candidate_keys = child_keys(self.keys, self.level, self.radices)  # (B, K, C)
            grids = totals, candidate_keys, exists.view_as(candidate_keys)
            kept = (parents * log_probs.shape[-1] + codes).masked_fill(dead, -1)
            self.levels.append(LevelTrace(self.level, *grids, kept))
        self.scores, self.keys = scores, keys.masked_fill(dead, -1)
        self.on_phase("select")
        return Step(parents, codes)

    def existing(self) -> Tensor | None:
        """Which codes continue each beam, before the next step: (B, K, C) bool.

        None unless the verification is "prefix". Requests have no say in it.
        """
        if self.verification != "prefix":
            return None
        self._next = self._candidates(self.level + 1)
        batch, beams = self.keys.shape
        return self._next.grid(batch, beams, self.radices[self.level])

    def result(self, backbone_calls: int) -> DecodeResult:
        """The finished lists, padded to `beam` columns."""
        columns = (0, self.beam - self.keys.shape[1])
        trace = None
        if self.levels is not None:
            verified = self.verifier is not None
            trace = DecodeTrace(tuple(self.levels), backbone_calls, verified)
        return DecodeResult(
            pad(self.keys, columns, value=-1),
            pad(self.scores, columns, value=-torch.inf),
            backbone_calls,
            trace,
            self.accepted,
        )

    def _candidates(self, level: int) -> Candidates:
        """The continuations to rank at a level. `exists` is None where nothing reads it."""
        recording = self.levels is not None
        if self.verifier is None or (self.verification != "prefix" and not recording):
            return Candidates(exists=None)
        if not recording:
            return self.verifier.candidates(level, self.keys)
        # A trace also shows what was rejected, which needs all K · C continuations.
        keys = child_keys(self.keys, level, self.radices)
        return Candidates(self.verifier.prefix_contains(level, keys).flatten(1))

    def _admitted(self, candidates: Candidates) -> Tensor | None:
        """(B, F) bool, which candidates the requests admit; None without requests."""
        if self.requests is None:
            return None
        if candidates.index is None or candidates.parents is None:
            return self.requests.admits_children(self.level, self.keys)
        codes = candidates.index - candidates.parents * self.radices[self.level - 1]
        return self.requests.admits(self.level, self._child_keys(candidates.parents, codes))

    def _best(
        self, log_probs: Tensor, candidates: Candidates, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Parents, codes and scores of the best allowed candidates, sorted: all (B, W)."""
        n_codes, index, parents = log_probs.shape[-1], candidates.index, candidates.parents
        if index is None or parents is None:
            scores = (self.scores.unsqueeze(-1) + log_probs).flatten(1)  # (B, F), F = K · C
        else:  # far fewer additions
            scores = self.scores.gather(1, parents) + log_probs.flatten(1).gather(1, index)
        if allowed is not None:
            scores = torch.where(allowed, scores, -torch.inf)
        best = scores.topk(min(self.beam, scores.shape[1]))
        numbers = best.indices if index is None else index.gather(1, best.indices)
        best_parents = numbers // n_codes
        return best_parents, torch.add(numbers, best_parents, alpha=-n_codes), best.values

    def _child_keys(self, parents: Tensor, codes: Tensor) -> Tensor:
        """Prefix keys of beams extended by codes, (B, F); negative after some dead beams."""
        stride = radix_strides(self.radices)[self.level - 1]
        return torch.add(self.keys.gather(1, parents), codes, alpha=stride)


class BeamSearchDecoder(Decoder):
    """A model, a verifier, and when to use it. A subclass implements `run`.

    Setting `on_phase` to a function has it called with "forward", "head", "verify" or "select"
    whenever such a phase ends: `bench` measures the phases so. Arguments and errors are those of
    `Decoder`.
    """

    static: ClassVar[bool] = True
    """Whether its operations depend on shapes alone, so that `CapturedDecoder` can run it."""

    on_phase: PhaseCallback = staticmethod(ignore_phase)

    def with_verifier(self, verifier: Verifier) -> Self:
        """The same decoder for another catalogue, such as a changed copy of this one."""
        check_verifier(self.model.head.radices, verifier, self.verification)
        other = copy.copy(self)
        other.verifier = verifier
        return other

    def search(
        self, prompts: Prompts, beam: int, record: bool, requests: RequestFilter | None
    ) -> BeamSearch:
        """A beam search before its first step."""
        return BeamSearch(
            len(prompts),
            beam,
            self.model.head.radices,
            self.model.device,
            self.verifier,
            self.verification,
            requests,
            record,
            self.on_phase,
        )

    def _decode(
        self, prompts: Prompts, beam: int, trace: bool, requests: RequestFilter | None
    ) -> DecodeResult:
        search = self.search(prompts, beam, trace, requests)
        return search.result(self.run(prompts, search))

    @abstractmethod
    def run(self, prompts: Prompts, search: BeamSearch) -> int:
        """Step the search to its end with this decoder's log-probabilities.

        Returns:
            How often the backbone ran.
        """


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Rows by number, prompt by prompt: (B, K, X), (B, W) int64 → (B, W, X).

    >>> gather_rows(torch.tensor([[[1, 2], [3, 4]]]), torch.tensor([[1, 1, 0]]))
    tensor([[[3, 4],
             [3, 4],
             [1, 2]]])
    """
    return rows.gather(1, index.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
