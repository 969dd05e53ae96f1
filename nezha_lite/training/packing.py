"""Training batches: all prefixes of a user in one row, in batches of similar length.

The authors' recipe makes one row per training prefix: history, then placeholders. The history of a
user of n items is then read n − 1 times. Here a row has the history once, followed by one block of
placeholders per target. The attention mask lets the block of target t see what it would see alone:
BOS, the items before t, and itself. Positions are those of inference.

    [BOS] i0 i1 i2 i3 | SP SP SP (t=1) | SP SP SP (t=2) | SP SP SP (t=3)

Loss and gradients equal those of one prefix per row. Therefore only prefixes whose histories start
at the same item share a row, and a user longer than the history limit has a row per window start.
`stride` is how far the window jumps when a target no longer fits. Stride 1 is the authors' sliding
window, always the last `max_items` items. With stride S, up to S targets share a row, and their
histories are max_items − S + 1 … max_items items long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import NotRequired, TypedDict

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from nezha_lite.common.checks import check
from nezha_lite.datasets import Split
from nezha_lite.model.prompts import Vocabulary, check_same_space
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training.teacher_lists import TeacherLists


@dataclass(frozen=True)
class TrainingRow:
    """Items that share a row, and which of them (by position ≥ 1) are its targets.

    `first` counts the targets of the rows before it in `TrainingRows`: a teacher's lists are in
    that order. It is negative outside.

    >>> TrainingRow(items=(7, 8, 9), targets=(1, 2)).n_tokens(levels=3)
    15
    """

    items: tuple[int, ...]
    targets: tuple[int, ...]
    first: int = field(default=-1, repr=False, compare=False)

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
    """The same targets after the same histories, one row per window start.

    >>> packed_prefixes([4, 5, 6, 7], max_items=2, stride=2)  # doctest: +NORMALIZE_WHITESPACE
    [TrainingRow(items=(4, 5, 6), targets=(1, 2)), TrainingRow(items=(6, 7), targets=(1,))]
    """
    rows = []
    first = 1  # the first target of the row
    while first < len(sequence):
        start = window_start(first, max_items, stride)
        end = min(start + max_items + 1, len(sequence))  # the first target of the next row
        targets = tuple(range(first - start, end - start))
        rows.append(TrainingRow(tuple(sequence[start:end]), targets))
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
        rows: all rows, user by user.
        users: the user of each row, as an index of `sequences`.

    Raises:
        ValueError: for a limit or stride outside its range, or if no sequence has two items.
    """

    def __init__(
        self,
        sequences: Sequence[Sequence[int]],
        max_items: int,
        stride: int = 1,
        packed: bool = True,
    ) -> None:
        check(max_items >= 1, "max_items", max_items, "at least 1")
        check(1 <= stride <= max_items, "stride", stride, f"between 1 and {max_items}")
        make_rows = packed_prefixes if packed else one_prefix_per_row
        rows_of_users = [make_rows(sequence, max_items, stride) for sequence in sequences]
        rows = [row for rows in rows_of_users for row in rows]
        starts = accumulate((len(row.targets) for row in rows), initial=0)
        self.rows = [replace(row, first=first) for row, first in zip(rows, starts, strict=False)]
        self.users = [user for user, rows in enumerate(rows_of_users) for _ in rows]
        if not self.rows:
            raise ValueError(
                "No training sequence has two items or more, so there is nothing to predict."
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TrainingRow:
        return self.rows[index]

    @property
    def n_targets(self) -> int:
        """How many (history, next item) pairs one epoch trains."""
        return sum(len(row.targets) for row in self.rows)

    def prefixes(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The user and the history of every target, in the order of the rows."""
        for user, row in zip(self.users, self.rows, strict=True):
            yield from ((user, row.items[:target]) for target in row.targets)


def evaluation_rows(split: Split, max_items: int) -> list[TrainingRow]:
    """A row per user of an evaluation split, with its target alone, for a validation loss."""
    return [
        TrainingRow((*history[-max_items:], target), (min(len(history), max_items),))
        for history, target in zip(split.histories, split.targets, strict=True)
    ]


class TrainingBatch(TypedDict):
    """The arguments of `NezhaModel.forward`; M is the number of targets in the batch.

    Flat positions count through the (B, T) batch row by row: b · T + t. With a teacher's lists of
    J items the last two are there as well.
    """

    input_ids: Tensor  # (B, T) int64
    position_ids: Tensor  # (B, T) int64
    attention_mask: Tensor  # (B, 1, T, T) bool, True where a query may look
    draft_slots: Tensor  # (M, L+1) int64, flat positions of h_0 … h_L, or all of h_0
    next_code_slots: Tensor  # (M, L) int64, flat positions whose next token is c_1 … c_L
    codes: Tensor  # (M, L) int64, the targets
    list_codes: NotRequired[Tensor]  # (M, J, L) int64, the lists' items
    list_weights: NotRequired[Tensor]  # (M, J) float32, their weights, whose sum is 1


class Collator:
    """Training rows → one `TrainingBatch`, padded on the right.

    >>> catalogue = SemanticIds.from_codes([[0, 0], [2, 3]], radices=(3, 4))
    >>> collate = Collator(catalogue, Vocabulary(catalogue.radices))
    >>> batch = collate([TrainingRow(items=(0, 1), targets=(1,))])
    >>> batch["input_ids"]  # BOS, item 0, the first code of item 1, two placeholders
    tensor([[1, 4, 7, 6, 2, 3]])
    >>> batch["draft_slots"], batch["codes"]
    (tensor([[2, 4, 5]]), tensor([[2, 3]]))

    Args:
        semantic_ids: the catalogue; ValueError if its radices are not the vocabulary's.
        vocabulary: token layout.
        placeholders: False omits their blocks, for a model that does not read them: rows are then
            ordinary next-token rows, and every draft slot is h_0's.
        lists: a teacher's, for rows of the `TrainingRows` that they were made for.
    """

    def __init__(
        self,
        semantic_ids: SemanticIds,
        vocabulary: Vocabulary,
        placeholders: bool = True,
        lists: TeacherLists | None = None,
    ) -> None:
        check_same_space(semantic_ids, vocabulary)
        self.lists = lists
        self.placeholders = placeholders
        self.vocabulary = vocabulary
        self.codes = semantic_ids.codes
        self.tokens = vocabulary.tokens_of(semantic_ids.codes)  # (N, L)

    def __call__(self, rows: Sequence[TrainingRow]) -> TrainingBatch:
        """The batch; its sizes follow from the longest row and the number of targets."""
        layouts = [self._layout(row) for row in rows]

        def padded(name: str, value: int) -> Tensor:
            return pad_sequence([layout[name] for layout in layouts], True, value)  # (B, T)

        input_ids = padded("input_ids", self.vocabulary.pad)
        starts = range(0, input_ids.numel(), input_ids.shape[1])  # flat position of each row

        def flat(name: str) -> Tensor:
            pairs = zip(starts, layouts, strict=True)
            return torch.cat([start + layout[name] for start, layout in pairs])

        targets = torch.tensor([row.items[target] for row in rows for target in row.targets])
        batch: TrainingBatch = {
            "input_ids": input_ids,
            "position_ids": padded("position_ids", 0),
            "attention_mask": packed_attention_mask(padded("horizon", -1), padded("block", -1)),
            "draft_slots": flat("draft_slots"),
            "next_code_slots": flat("next_code_slots"),
            "codes": self.codes[targets],
        }
        if self.lists is not None and rows[0].first >= 0:
            numbers = [row.first + index for row in rows for index in range(len(row.targets))]
            batch["list_codes"] = self.codes[self.lists.items[numbers].long()]
            batch["list_weights"] = self.lists.weights[numbers]
        return batch

    def _layout(self, row: TrainingRow) -> dict[str, Tensor]:
        """One row's tokens, positions and mask, (T,), and the slots of its M targets within it.

        The mask as `packed_attention_mask` takes it.
        """
        levels, n_targets = self.vocabulary.levels, len(row.targets)
        n_blocks = n_targets if self.placeholders else 0
        items = self.tokens[torch.tensor(row.items)].flatten()[:-1]  # the last code is no input
        placeholders = torch.tensor(self.vocabulary.placeholders)
        history = torch.arange(1 + len(items))
        last_seen = torch.tensor(row.targets)[:, None] * levels  # (M, 1), position of h_0
        answers = last_seen + 1 + torch.arange(levels)  # (M, L), positions of the targets' codes
        numbers = torch.arange(1, n_blocks + 1)
        slots = len(history) + torch.arange(n_targets * levels).view(n_targets, levels)
        if not self.placeholders:
            slots = last_seen.expand(-1, levels)
        return {
            "input_ids": torch.cat(
                [torch.tensor([self.vocabulary.bos]), items, placeholders.repeat(n_blocks)]
            ),
            "position_ids": torch.cat([history, answers[:n_blocks].flatten()]),
            "horizon": torch.cat([history, last_seen[:n_blocks].repeat_interleave(levels)]),
            "block": torch.cat([history * 0, numbers.repeat_interleave(levels)]),
            "draft_slots": torch.cat([last_seen, slots], dim=1),
            "next_code_slots": answers - 1,
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

    The order depends on seed and epoch alone, so that a resumed run has the batches of a run
    without interruption.
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
