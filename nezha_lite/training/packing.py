"""Training batches: every prefix of a user at once.

The authors' recipe makes one row per training prefix: history, then placeholders. A user of n items
then pays for its history n − 1 times. Here one row holds the history once, followed by one block of
placeholders per target, and the attention mask lets the block of target t see just what it would
see alone: BOS, the items before t, and itself. Positions are those of inference.

    [BOS] i0 i1 i2 i3 | SP SP SP (t=1) | SP SP SP (t=2) | SP SP SP (t=3)

Loss and gradients are those of one prefix per row. To keep that exact, only prefixes whose history
starts at the same item share a row. A user longer than the history limit therefore costs a row per
window start; `stride` says how far the window jumps when a target no longer fits. Stride 1 is the
authors' sliding window, always the last `max_items` items; a stride of S lets S targets share a
row, their histories being max_items − S + 1 … max_items items long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from nezha_lite.datasets import Split
from nezha_lite.model.prompts import Vocabulary, check_same_space
from nezha_lite.semantic_ids import SemanticIds


@dataclass(frozen=True)
class TrainingRow:
    """Items that share a row, and which of them (by position ≥ 1) are its targets."""

    items: tuple[int, ...]
    targets: tuple[int, ...]

    def n_tokens(self, levels: int, placeholders: bool = True) -> int:
        """Length of the row in tokens: BOS, the items but for the last code, the placeholders."""
        return levels * (len(self.items) + placeholders * len(self.targets))


def one_prefix_per_row(sequence: Sequence[int], max_items: int, stride: int) -> list[TrainingRow]:
    """The authors' recipe: each target in a row of its own, after at most `max_items` items."""
    rows = []
    for target in range(1, len(sequence)):
        start = window_start(target, max_items, stride)
        rows.append(TrainingRow(tuple(sequence[start : target + 1]), (target - start,)))
    return rows


def packed_prefixes(sequence: Sequence[int], max_items: int, stride: int) -> list[TrainingRow]:
    """The same targets after the same histories, one row per window start."""
    rows = []
    first = 1  # the first target of the row being filled
    while first < len(sequence):
        start = window_start(first, max_items, stride)
        end = min(start + max_items + 1, len(sequence))  # the first target that no longer fits
        rows.append(
            TrainingRow(tuple(sequence[start:end]), tuple(range(first - start, end - start)))
        )
        first = end
    return rows


def window_start(target: int, max_items: int, stride: int) -> int:
    """Where the history of the item at position `target` begins, a multiple of `stride`."""
    return max(0, -(-(target - max_items) // stride) * stride)


class TrainingRows(Dataset[TrainingRow]):
    """Rows of all users, for a `torch.utils.data.DataLoader` or the Trainer.

    Args:
        sequences: users' training sequences of item indices, in time order.
        max_items: history limit, at least 1.
        stride: how far a long user's window jumps, 1 … max_items; 1 is the authors' window.
        packed: packed prefixes, or the authors' one prefix per row.

    Attributes:
        rows: all of them, a user's behind each other.
        users: whose each row is, by the place of the sequence.
    """

    def __init__(
        self,
        sequences: Sequence[Sequence[int]],
        max_items: int,
        stride: int = 1,
        packed: bool = True,
    ) -> None:
        if max_items < 1:
            raise ValueError(f"max_items is {max_items}, but a history needs at least 1 item.")
        if not 1 <= stride <= max_items:
            raise ValueError(f"stride is {stride}, but must be between 1 and {max_items}.")
        make = packed_prefixes if packed else one_prefix_per_row
        made = [make(sequence, max_items, stride) for sequence in sequences]
        self.rows = [row for rows in made for row in rows]
        self.users = [user for user, rows in enumerate(made) for _ in rows]
        if not self.rows:
            raise ValueError(
                "No training sequence has two items or more, so there is nothing to predict."
            )

    @classmethod
    def of_split(cls, split: Split, max_items: int) -> TrainingRows:
        """A row per user of an evaluation split: its target alone, for a validation loss."""
        rows = cls.__new__(cls)
        rows.rows = [
            TrainingRow((*history[-max_items:], target), (min(len(history), max_items),))
            for history, target in zip(split.histories, split.targets, strict=True)
        ]
        rows.users = list(range(len(rows.rows)))
        return rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TrainingRow:
        return self.rows[index]

    @property
    def n_targets(self) -> int:
        """How many (history, next item) pairs one epoch trains."""
        return sum(len(row.targets) for row in self.rows)


class TrainingBatch(TypedDict):
    """What `NezhaModel.forward` takes; M is the number of targets in the batch.

    Flat positions count through the (B, T) batch row by row: b · T + t.
    """

    input_ids: Tensor  # (B, T) int64
    position_ids: Tensor  # (B, T) int64
    attention_mask: Tensor  # (B, 1, T, T) bool, True where a query may look
    draft_slots: Tensor  # (M, L+1) int64, flat positions of h_0 … h_L, or all of h_0
    next_code_slots: Tensor  # (M, L) int64, flat positions whose next token is c_1 … c_L
    codes: Tensor  # (M, L) int64, the targets


class Collator:
    """Training rows → one `TrainingBatch`, padded on the right.

    Args:
        placeholders: False leaves their blocks out, for a model that has no use for them: rows are
            then ordinary next-token rows, and every draft slot is h_0's.
    """

    def __init__(
        self, semantic_ids: SemanticIds, vocabulary: Vocabulary, placeholders: bool = True
    ) -> None:
        check_same_space(semantic_ids, vocabulary)
        self.placeholders = placeholders
        self.vocabulary = vocabulary
        self.codes = semantic_ids.codes
        self.tokens = vocabulary.tokens_of(semantic_ids.codes)  # (N, L)

    def __call__(self, rows: Sequence[TrainingRow]) -> TrainingBatch:
        """Lay the rows out; all sizes follow from the longest row and the number of targets."""
        levels = self.vocabulary.levels
        width = max(row.n_tokens(levels, self.placeholders) for row in rows)
        batch = len(rows)
        input_ids = torch.full((batch, width), self.vocabulary.pad)  # (B, T)
        position_ids = torch.zeros(batch, width, dtype=torch.int64)
        # Two numbers a token say all about the mask: how far it sees into the history, and to
        # which block it belongs (0 the history, 1 … the placeholder blocks, -1 padding).
        horizon = torch.full((batch, width), -1)
        block = torch.full((batch, width), -1)
        placeholders = torch.tensor(self.vocabulary.placeholders)
        draft_slots, next_code_slots = [], []
        target_items: list[int] = []
        for index, row in enumerate(rows):
            n_history = 1 + len(row.items) * levels - 1  # BOS; the last code is never an input
            n_targets = len(row.targets)
            n_blocks = n_targets if self.placeholders else 0
            length = n_history + n_blocks * levels
            tokens = self.tokens[torch.tensor(row.items)].flatten()[:-1]
            input_ids[index, 0] = self.vocabulary.bos
            input_ids[index, 1:n_history] = tokens
            input_ids[index, n_history:length] = placeholders.repeat(n_blocks)

            last_seen = torch.tensor(row.targets) * levels  # position of h_0, per target
            steps = torch.arange(levels)
            history = torch.arange(n_history)
            position_ids[index, :n_history] = history
            horizon[index, :n_history] = history
            block[index, :n_history] = 0
            own = last_seen[:, None].expand(-1, levels)  # (M, L)
            if self.placeholders:
                own = n_history + torch.arange(n_targets * levels).view(n_targets, levels)
                position_ids[index, n_history:length] = (last_seen[:, None] + 1 + steps).flatten()
                horizon[index, n_history:length] = last_seen.repeat_interleave(levels)
                blocks = torch.arange(1, n_targets + 1)
                block[index, n_history:length] = blocks.repeat_interleave(levels)

            start = index * width
            draft_slots.append(start + torch.cat([last_seen[:, None], own], dim=1))
            next_code_slots.append(start + last_seen[:, None] + steps)
            target_items.extend(row.items[target] for target in row.targets)
        return {
            "input_ids": input_ids,
            "position_ids": position_ids,
            "attention_mask": packed_attention_mask(horizon, block),
            "draft_slots": torch.cat(draft_slots),
            "next_code_slots": torch.cat(next_code_slots),
            "codes": self.codes[torch.tensor(target_items)],
        }


def packed_attention_mask(horizon: Tensor, block: Tensor) -> Tensor:
    """The mask of packed prefixes.

    Args:
        horizon: (B, T) int64, last history position that each token may see.
        block: (B, T) int64, 0 for history, 1 … for placeholder blocks, -1 for padding.

    Returns:
        (B, 1, T, T) bool, True where the query (row) may look at the key (column): history up to
        the query's horizon, its own block up to itself, and always itself, so that no row of the
        softmax is empty, not even on padding.
    """
    position = torch.arange(block.shape[1], device=block.device)
    sees_history = (block[:, None, :] == 0) & (position <= horizon[:, :, None])  # (B, T, T)
    causal = position[None, :] <= position[:, None]  # (T, T)
    own_block = (block[:, :, None] == block[:, None, :]) & (block[:, :, None] > 0) & causal
    itself = torch.eye(block.shape[1], dtype=torch.bool, device=block.device)
    return (sees_history | own_block | itself).unsqueeze(1)


class LengthGroupedOrder(Sampler[int]):
    """A shuffled order in which neighbours are of similar length, another one every epoch.

    The order depends on seed and epoch alone, so a resumed run sees the batches it would have seen.
    """

    def __init__(self, lengths: list[int], batch_rows: int, seed: int) -> None:
        self.lengths, self.batch_rows, self.seed, self.epoch = lengths, batch_rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        batches = get_length_grouped_indices(self.lengths, self.batch_rows, generator=generator)
        return iter(batches)
