"""The draft head's loss on several IDs for each prompt, such as those of a teacher's list."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nezha_lite.model.draft_head import DraftHead, at_least_float32


def draft_loss(head: DraftHead, hidden: Tensor, codes: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over M targets and L levels, a scalar.

    Args:
        head: the draft head.
        hidden: (M, L+1, D), h_0 … h_L of M targets.
        codes: (M, L) int64, the targets' codes.
        smoothing: as `code_losses`.
    """
    if len(head.candidates):
        return code_losses(head, hidden, codes[:, None], smoothing).mean()
    level_losses = [
        F.cross_entropy(logits, codes[:, level], label_smoothing=smoothing)
        for level, logits in enumerate(head(hidden, codes))
    ]
    return torch.stack(level_losses).mean()


def code_losses(head: DraftHead, hidden: Tensor, codes: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of IDs of one prompt each, by teacher forcing.

    The prompt's hidden states serve all of its IDs. With candidate embeddings the choices of a
    level are the continuations that exist in training.

    >>> head = DraftHead(radices=(3, 4), width=8)
    >>> code_losses(head, torch.zeros(2, 3, 8), torch.tensor([[[0, 1]], [[2, 3]]])).shape
    torch.Size([2, 1, 2])

    Args:
        head: the draft head.
        hidden: (M, L+1, D), h_0 … h_L of M prompts.
        codes: (M, J, L) int64, J IDs for each, which exist in training.
        smoothing: share of the target distribution that is uniform over the choices.

    Returns:
        (M, J, L) float32 or wider.
    """
    state, prefixes = hidden[:, :1], torch.zeros_like(codes[..., 0])  # (M, 1, D), (M, J)
    stride, losses = 1, []
    for level, radix in enumerate(head.radices):
        target = codes[..., level]  # (M, J)
        query = head.query(hidden[:, level + 1, None], state)  # (M, J, D), at first (M, 1, D)
        losses.append(_level_losses(head, level, query, prefixes, target, smoothing))
        prefixes, stride = prefixes + target * stride, stride * radix
        if level + 1 < head.levels:
            state = head.advance(level, target, state.expand(*target.shape, -1).contiguous())
    return torch.stack(losses, dim=-1)


def _level_losses(
    head: DraftHead, level: int, query: Tensor, prefixes: Tensor, target: Tensor, smoothing: float
) -> Tensor:
    """Cross-entropy of one level: query (M, J or 1, D), prefixes and target (M, J) → (M, J)."""
    candidates, exists = head.candidates_of(level), None
    classifier: Any = head.classifiers[level]
    if candidates is None:
        logits = classifier(query).expand(*target.shape, -1)  # (M, J, C)
    else:
        query = query.expand(*target.shape, -1).flatten(0, -2)
        parts = candidates.continuation_logits(prefixes.flatten(), query, classifier)
        logits, rows, choices = (part.view(*target.shape, -1) for part in parts)  # (M, J, F)
        exists = rows > 0
        logits = logits.masked_fill(~exists, -torch.inf)
        target = ((choices == target.unsqueeze(-1)) & exists).byte().argmax(dim=-1)
    logits = logits.to(at_least_float32(logits.dtype))
    log_probs = logits.log_softmax(dim=-1)
    losses = -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    if smoothing == 0:
        return losses
    counts = logits.shape[-1] if exists is None else exists.sum(dim=-1)
    everywhere = log_probs if exists is None else log_probs.masked_fill(~exists, 0)
    return (1 - smoothing) * losses - smoothing * everywhere.sum(dim=-1) / counts
