"""Which training rows share a batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


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
