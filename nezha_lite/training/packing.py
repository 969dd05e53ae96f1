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
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NotRequired, Protocol, TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from nezha_lite.common.checks import check
from nezha_lite.datasets import InteractionDataset, Sequences, Split
from nezha_lite.model.prompts import Vocabulary, check_same_space
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.training.config import TrainingConfig

IntegerOrArray = TypeVar("IntegerOrArray", int, NDArray[np.int64])


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


class TrainingRows(Dataset[TrainingRow]):
    """Rows of all users, for a `torch.utils.data.DataLoader` or the Trainer.

    They are made when they are asked for: of a million users only the flat items and five numbers
    a row are kept.

    >>> TrainingRows([[4, 5, 6, 7]], max_items=2, stride=2).rows  # doctest: +NORMALIZE_WHITESPACE
    [TrainingRow(items=(4, 5, 6), targets=(1, 2)), TrainingRow(items=(6, 7), targets=(1,))]

    Args:
        sequences: users' training sequences of item indices, in time order.
        max_items: history limit, at least 1.
        stride: how far a long user's window jumps, 1 … max_items; 1 is the authors' window.
        packed: packed prefixes, a row per window start; or the authors' one prefix per row.

    Attributes:
        users: (R,) int64, the user of each row, as an index of `sequences`.

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
        self._sequences = Sequences.of(sequences)
        lengths = self._sequences.lengths
        counts = np.maximum(lengths - 1, 0)  # one row per target
        if packed:  # one for the first `max_items` targets, another one for every `stride`
            counts = np.where(counts > 0, 1 - -np.maximum(counts - max_items, 0) // stride, 0)
        if not counts.any():
            raise ValueError(
                "No training sequence has two items or more, so there is nothing to predict."
            )
        self.users = np.repeat(np.arange(len(lengths)), counts)
        number = np.arange(len(self.users)) - np.repeat(counts.cumsum() - counts, counts)
        jumped = max_items + 1 + (number - 1) * stride
        self._firsts = np.where(number, jumped, 1) if packed else number + 1  # first targets
        self._starts = window_start(self._firsts, max_items, stride)
        ends = self._starts + max_items + 1 if packed else self._firsts + 1
        self._ends = np.minimum(ends, lengths[self.users])
        n_targets = self._ends - self._firsts
        self._targets_before = n_targets.cumsum() - n_targets

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: int) -> TrainingRow:
        start, end, first = (
            int(column[index]) for column in (self._starts, self._ends, self._firsts)
        )
        items = self._sequences[int(self.users[index])][start:end]
        before = int(self._targets_before[index])
        return TrainingRow(items, tuple(range(first - start, end - start)), before)

    @property
    def rows(self) -> list[TrainingRow]:
        """All rows, user by user."""
        return [self[index] for index in range(len(self))]

    @property
    def n_targets(self) -> int:
        """How many (history, next item) pairs one epoch trains."""
        return int((self._ends - self._firsts).sum())

    @property
    def digest(self) -> str:
        """A hash of all targets and their histories."""
        sequences = (self._sequences.offsets, self._sequences.values)
        columns = (*sequences, self.users, self._starts, self._firsts, self._ends)
        whole = b"".join(np.ascontiguousarray(column).tobytes() for column in columns)
        return sha256(whole).hexdigest()[:16]

    def prefixes(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The user and the history of every target, in the order of the rows."""
        for index in range(len(self)):
            row, user = self[index], int(self.users[index])
            yield from ((user, row.items[:target]) for target in row.targets)

    @property
    def next_items(self) -> list[int]:
        """The items to predict, in the order of `prefixes`."""
        return [row.items[target] for row in self.rows for target in row.targets]

    def n_tokens(self, levels: int, placeholders: bool = True) -> list[int]:
        """`TrainingRow.n_tokens` of every row."""
        targets = placeholders * (self._ends - self._firsts)
        tokens: list[int] = (levels * (self._ends - self._starts + targets)).tolist()
        return tokens


def training_rows(
    dataset: InteractionDataset, config: TrainingConfig, max_items: int
) -> TrainingRows:
    """The rows that a training of this configuration reads."""
    stride = min(config.window_stride, max_items)
    return TrainingRows(dataset.train_sequences(), max_items, stride, config.packed)


def window_start(target: IntegerOrArray, max_items: int, stride: int) -> IntegerOrArray:
    """Where the history of the item at position `target` begins, a multiple of `stride`."""
    return np.maximum(0, -(-(target - max_items) // stride) * stride)


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


class PrefixLists(Protocol):
    """What the collator reads of `TeacherLists`, whose module imports this one."""

    @property
    def items(self) -> Tensor:
        """(T, J) int32, best first, for T training prefixes."""

    @property
    def weights(self) -> Tensor:
        """(T, J) float32, of sum 1."""


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
        lists: `TeacherLists`, for rows of the `TrainingRows` that they were made for.
    """

    def __init__(
        self,
        semantic_ids: SemanticIds,
        vocabulary: Vocabulary,
        placeholders: bool = True,
        lists: PrefixLists | None = None,
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
