"""The interface of all decoders, and what every decode shares: checks, evaluation mode, result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.decoding.trace import DecodeTrace
from nezha_lite.model import Prompts
from nezha_lite.verifiers import RequestFilter, Verifier

if TYPE_CHECKING:
    from nezha_lite.model import NezhaModel

Verification = Literal["off", "final", "prefix"]
VERIFICATIONS: tuple[Verification, ...] = get_args(Verification)


@dataclass(frozen=True, eq=False)
class DecodeResult:
    """A ranked list of semantic IDs per prompt.

    Equal scores are a tie, and ties are in no order. The same prompts decoded by another path
    (compiled, batched, cached) round differently, so scores within 1e-5 are ties between paths in
    float32; float64 showed no such tie.

    Attributes:
        keys: (B, K) int64, best first. -1 is padding: a draft was rejected, or fewer IDs exist than
            the beam is wide. Padding comes last.
        scores: (B, K) float32, float64 for a float64 model: summed log-probabilities; -inf for
            padding.
        backbone_calls: forward passes of the backbone for this batch.
        trace: what each level proposed, rejected, pruned and kept; None unless requested.
        accepted: (B, L−1) float32 of speculative decoding: the share of the beams after each level
            but the last that the first draft contained. None for other decoders.
    """

    keys: Tensor
    scores: Tensor
    backbone_calls: int
    trace: DecodeTrace | None = None
    accepted: Tensor | None = None


class Decoder(ABC):
    """A pure function of its model, the prompts, its verifier and the beam width.

    A subclass implements `_decode`. Decoding puts the model into evaluation mode and restores its
    mode afterwards. Threads that share a model should call `model.eval()` before they start.

    Args:
        model: a trained `NezhaModel`.
        verifier: the catalogue; may be None with verification "off".
        verification: "off" does not check the drafts, "final" rejects finished drafts that do not
            exist (the list gets shorter), "prefix" never extends a prefix that no item has.

    Raises:
        ValueError: for an unknown mode, a missing verifier, one of other radices, or a model whose
            backbone never learned to predict codes (next_code_weight 0), if it has to.
    """

    records: ClassVar[bool] = True
    """Whether it can record a `DecodeTrace`."""
    backbone_predicts: ClassVar[bool] = False
    """Whether the backbone predicts the codes, and not the draft head."""

    def __init__(
        self,
        model: NezhaModel,
        verifier: Verifier | None = None,
        verification: Verification = "prefix",
    ) -> None:
        if self.backbone_predicts:
            check_next_code_training(model)
        check_verifier(model.head.radices, verifier, verification)
        self.model, self.verifier, self.verification = model, verifier, verification

    def decode(
        self,
        prompts: Prompts,
        beam: int,
        trace: bool = False,
        requests: RequestFilter | None = None,
    ) -> DecodeResult:
        """Decode a batch of prompts, whose histories may differ in length, with `beam` beams.

        Args:
            prompts: B prompts, on the model's device.
            beam: K, how many IDs to keep at every level and to return.
            trace: record every level; without it recording costs nothing.
            requests: which IDs each prompt may receive; applied at every level.

        Raises:
            ValueError: for a beam below 1, requests for another number of prompts, a trace that
                this decoder cannot record, or a model whose scores are NaN.
        """
        check(beam >= 1, "beam", beam, "at least 1")
        untraced = f"False, as {type(self).__name__} records none"
        check(self.records or not trace, "trace", trace, untraced)
        if requests is not None and len(requests) not in (1, len(prompts)):
            raise ValueError(
                f"requests holds sets for {len(requests)} prompts, but there are {len(prompts)}."
            )
        mode = self.model.evaluating() if self.model.training else nullcontext()
        with torch.inference_mode(), mode:
            result = self._decode(prompts, beam, trace, requests)
        check_numbers(result.scores)
        return result

    @abstractmethod
    def _decode(
        self, prompts: Prompts, beam: int, trace: bool, requests: RequestFilter | None
    ) -> DecodeResult:
        """Decode checked input, in evaluation and inference mode; NaN scores may be returned."""


def check_verifier(
    radices: tuple[int, ...], verifier: Verifier | None, verification: Verification
) -> None:
    """Raise ValueError for an unknown mode, a missing verifier, or one of other radices."""
    check(verification in VERIFICATIONS, "verification", verification, f"one of {VERIFICATIONS}")
    if verifier is None and verification != "off":
        raise ValueError(f"verification {verification!r} needs a verifier, but it is None.")
    if verifier is not None:
        same = verifier.radices == radices
        check(same, "verifier.radices", verifier.radices, f"the model's {radices}")


def check_numbers(scores: Tensor) -> None:
    """Raise ValueError if a score is NaN."""
    if scores.isnan().any():
        raise ValueError(
            "scores is NaN, but must be numbers: the model's weights hold NaN or infinity, or its "
            "precision overflows."
        )


def check_next_code_training(model: NezhaModel) -> None:
    """Raise ValueError if the backbone was not trained to predict the next code."""
    if model.config.next_code_weight == 0:
        raise ValueError(
            "next_code_weight is 0: this model's backbone was not trained to write codes, so only "
            "its draft head can decode."
        )
