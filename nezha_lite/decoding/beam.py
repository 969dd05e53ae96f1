"""The beam search that all decoders share: decoders differ in where log-probabilities come from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nezha_lite.decoding.base import VERIFICATIONS, DecodeResult, Verification
from nezha_lite.decoding.trace import DecodeTrace, LevelTrace
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers import Verifier


@dataclass(frozen=True, eq=False)
class Step:
    """Where the surviving beams came from: both (B, W) int64.

    `parents` index the beams before the step, `codes` are what they chose.
    """

    parents: Tensor
    codes: Tensor


class BeamSearch:
    """A beam search over semantic IDs, one `step` per level.

    Args:
        batch: B.
        beam: K, beams to keep; while fewer candidates than K exist, all of them are kept.
        radices: T_1 … T_L.
        verifier: the catalogue; None only with verification "off".
        verification: "off", "final" (finished IDs only) or "prefix" (every level).
        record: keep what a `DecodeTrace` needs.
        device: where the log-probabilities will be.
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
    ) -> None:
        self.beam = beam
        self.radices = radices
        self.strides = radix_strides(radices)
        self.verifier = verifier
        self.verification = verification
        self.scores = torch.zeros(batch, 1, device=device)  # (B, K) float32
        self.keys = torch.zeros(batch, 1, dtype=torch.int64, device=device)  # (B, K)
        self.level = 0
        self.levels: list[LevelTrace] | None = [] if record else None

    def step(self, log_probs: Tensor) -> Step:
        """Extend every beam by every code, verify, keep the best.

        Args:
            log_probs: (B, K, C) float32, of the next code after each live beam.

        A beam without any existing continuation keeps its place with score -inf and key -1.
        """
        n_codes = self.radices[self.level]
        scores = self.scores.unsqueeze(-1) + log_probs  # (B, K, C)
        codes = torch.arange(n_codes, device=scores.device)
        keys = self.keys.unsqueeze(-1) + codes * self.strides[self.level]  # (B, K, C)
        keys = keys.masked_fill((self.keys < 0).unsqueeze(-1), -1)
        last = self.level + 1 == len(self.radices)
        width = min(self.beam, scores[0].numel())

        every_level = self.verification == "prefix"
        exists: Tensor | None = None
        if self.verifier is not None and (every_level or self.levels is not None):
            exists = self.verifier.prefix_contains(self.level + 1, keys)
        allowed = scores
        if every_level and exists is not None:
            allowed = scores.masked_fill(~exists, -torch.inf)
        best = allowed.flatten(1).topk(width)  # (B, W), sorted
        chosen, chosen_scores = best.indices, best.values
        chosen_keys = keys.flatten(1).gather(1, chosen)
        alive = torch.isfinite(chosen_scores)
        if self.verification == "final" and last and self.verifier is not None:
            alive &= self.verifier.contains(chosen_keys)
            # Rejected drafts leave holes: the accepted ones close ranks, in order.
            order = (~alive).to(torch.int8).argsort(dim=1, stable=True)
            chosen, chosen_scores = chosen.gather(1, order), chosen_scores.gather(1, order)
            chosen_keys, alive = chosen_keys.gather(1, order), alive.gather(1, order)

        self.scores = chosen_scores.masked_fill(~alive, -torch.inf)
        self.keys = chosen_keys.masked_fill(~alive, -1)
        self.level += 1
        if self.levels is not None:
            self.levels.append(
                LevelTrace(
                    level=self.level,
                    scores=scores,
                    keys=keys,
                    exists=torch.ones_like(keys, dtype=torch.bool) if exists is None else exists,
                    proposed=scores.flatten(1).topk(width).indices,
                    kept=chosen.masked_fill(~alive, -1),
                )
            )
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


class BeamSearchDecoder:
    """What the decoders here share: a model, a verifier, and when to use it.

    Args:
        model: a trained `NezhaModel` in eval mode.
        verifier: the catalogue; may be None with verification "off".
        verification: "off" trusts the drafts, "final" rejects finished drafts that do not exist
            (the list gets shorter), "prefix" never follows a prefix that no item has.

    Raises:
        ValueError: for an unknown mode, a missing verifier, or one of other radices.
    """

    def __init__(
        self,
        model: NezhaModel,
        verifier: Verifier | None = None,
        verification: Verification = "prefix",
    ) -> None:
        radices = model.head.radices
        if verification not in VERIFICATIONS:
            raise ValueError(
                f"verification is {verification!r}, but must be one of {VERIFICATIONS}."
            )
        if verifier is None and verification != "off":
            raise ValueError(f"verification {verification!r} needs a verifier, but it is None.")
        if verifier is not None and verifier.radices != radices:
            raise ValueError(
                f"The verifier's radices are {verifier.radices}, but the model's are {radices}."
            )
        self.model, self.verifier, self.verification = model, verifier, verification

    def search(self, batch: int, beam: int, record: bool) -> BeamSearch:
        """A beam search at its start, for `batch` prompts; ValueError if `beam` is below 1."""
        if beam < 1:
            raise ValueError(f"beam is {beam}, but must be at least 1.")
        return BeamSearch(
            batch,
            beam,
            self.model.head.radices,
            self.verifier,
            self.verification,
            record,
            self.model.device,
        )
