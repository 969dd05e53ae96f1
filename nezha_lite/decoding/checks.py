"""What every decoder refuses, each in one sentence."""

from __future__ import annotations

from transformers import PreTrainedConfig

from nezha_lite.decoding.base import VERIFICATIONS, Verification
from nezha_lite.prompts import Prompts
from nezha_lite.verifiers import RequestFilter, Verifier


def check_verifier(
    radices: tuple[int, ...], verifier: Verifier | None, verification: Verification
) -> None:
    """Raise ValueError for an unknown mode, a missing verifier, or one of other radices."""
    if verification not in VERIFICATIONS:
        raise ValueError(f"verification is {verification!r}, but must be one of {VERIFICATIONS}.")
    if verifier is None and verification != "off":
        raise ValueError(f"verification {verification!r} needs a verifier, but it is None.")
    if verifier is not None and verifier.radices != radices:
        raise ValueError(
            f"The verifier's radices are {verifier.radices}, but the model's are {radices}."
        )


def check_writes_codes(config: PreTrainedConfig) -> None:
    """Raise ValueError for a model whose backbone was taught nothing about next codes."""
    if config.next_code_weight == 0:
        raise ValueError(
            "next_code_weight is 0: this model's backbone was not trained to write codes, so only "
            "its draft head can decode."
        )


def check_call(prompts: Prompts, beam: int, requests: RequestFilter | None) -> None:
    """Raise ValueError if `beam` is below 1, or `requests` are for another number of prompts."""
    if beam < 1:
        raise ValueError(f"beam is {beam}, but must be at least 1.")
    if requests is not None and len(requests) not in (1, len(prompts)):
        raise ValueError(
            f"requests holds sets for {len(requests)} prompts, but there are {len(prompts)}."
        )
