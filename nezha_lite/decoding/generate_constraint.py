"""The constraint that `generate` asks for beam by beam: what may follow a prefix, by dictionary."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nezha_lite.model.prompts import Vocabulary
from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers import RequestFilter, Verifier, child_keys

Prefix = tuple[int, ...]  # tokens written so far
Following = dict[Prefix, list[int]]  # the tokens after every prefix
Allowed = Callable[[int, Prefix], Sequence[int]]  # of prompt b, after a prefix: the next tokens

_AT_ONCE = 4096  # prefixes looked at together while listing the catalogue


def existing_keys(verifier: Verifier, device: torch.device) -> Tensor:
    """All IDs that a verifier knows, found level by level: (M,) int64."""
    prefixes = torch.zeros(1, dtype=torch.int64, device=device)
    for level in range(1, len(verifier.radices) + 1):
        existing = []
        for some in prefixes.split(_AT_ONCE):
            children = child_keys(some, level, verifier.radices).flatten()
            existing.append(children[verifier.prefix_contains(level, children)])
        prefixes = torch.cat(existing)
    return prefixes


def following_tokens(keys: Tensor, vocabulary: Vocabulary) -> Following:
    """Every prefix of these IDs → the tokens that continue it to one of them.

    Args:
        keys: (M,) int64.
        vocabulary: token layout.
    """
    strides = torch.tensor(radix_strides(vocabulary.radices), device=keys.device)
    radices = torch.tensor(vocabulary.radices, device=keys.device)
    tokens = vocabulary.tokens_of(keys.unsqueeze(-1) // strides % radices)  # (M, L)
    following: dict[Prefix, dict[int, None]] = {}
    for row in tokens.tolist():
        for level, token in enumerate(row):
            following.setdefault(tuple(row[:level]), {})[token] = None
    return {prefix: list(after) for prefix, after in following.items()}


def admitted_among(
    keys: Tensor, vocabulary: Vocabulary, requests: RequestFilter
) -> list[Following]:
    """`following_tokens` of those IDs that each row of the requests admits."""
    admitted = requests.admits(vocabulary.levels, keys.expand(len(requests), -1))  # (B, M)
    return [following_tokens(keys[row], vocabulary) for row in admitted]


def admitted_codes(
    vocabulary: Vocabulary, requests: RequestFilter, device: torch.device
) -> Allowed:
    """Without a catalogue: the codes of the next level that the prompt's row admits."""
    radices, firsts = vocabulary.radices, vocabulary.level_offsets
    strides = radix_strides(radices)

    def allowed(prompt: int, prefix: Prefix) -> Sequence[int]:
        level = len(prefix)
        codes = [token - first for token, first in zip(prefix, firsts, strict=False)]
        if any(code < 0 for code in codes):  # padding: nothing was left
            return ()
        key = sum(code * stride for code, stride in zip(codes, strides, strict=False))
        children = child_keys(torch.tensor([key], device=device), level + 1, radices)  # (1, C)
        found = requests.admits(level + 1, children.expand(len(requests), -1))
        row = found[prompt % len(requests)]  # one row serves all prompts
        return [firsts[level] + code for code in row.nonzero().flatten().tolist()]

    return allowed
