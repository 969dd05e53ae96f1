"""The model's input: the layout of the vocabulary, and the prompts.

    [BOS] c1 … cL (item 1) … c1 … cL (item N) <SP_1> … <SP_L>

The placeholders have the positions of the answer's codes. One forward pass over such a prompt gives
h_0 (at the last history token) and h_1 … h_L (at the placeholders), which the draft head reads. The
autoregressive decoder reads the same prompt without its placeholders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds


@dataclass(frozen=True)
class Vocabulary:
    """Token numbers: from `offset` on PAD, BOS, SP_1 … SP_L, then the codes, level by level.

    >>> vocabulary = Vocabulary(radices=(3, 4))
    >>> vocabulary.pad, vocabulary.bos, vocabulary.placeholders, vocabulary.level_offsets
    (0, 1, (2, 3), (4, 7))
    >>> vocabulary.tokens_of(torch.tensor([[2, 0]]))
    tensor([[6, 7]])

    Attributes:
        radices: T_1 … T_L.
        offset: first token number: the size of a pretrained backbone's own vocabulary, 0 for a
            backbone built from scratch.
    """

    radices: tuple[int, ...]
    offset: int = 0

    @property
    def levels(self) -> int:
        """L, the number of codes in an ID."""
        return len(self.radices)

    @property
    def pad(self) -> int:
        """Padding token, which no other token attends to."""
        return self.offset

    @property
    def bos(self) -> int:
        """First token of every prompt; alone it is the prompt of an empty history."""
        return self.offset + 1

    @property
    def placeholders(self) -> tuple[int, ...]:
        """SP_1 … SP_L."""
        return tuple(self.offset + 2 + level for level in range(self.levels))

    @property
    def level_offsets(self) -> tuple[int, ...]:
        """Token number of code 0 of each level."""
        first = self.offset + 2 + self.levels
        return tuple(first + sum(self.radices[:level]) for level in range(self.levels))

    @property
    def size(self) -> int:
        """Number of tokens, the backbone's own included."""
        return self.offset + 2 + self.levels + sum(self.radices)

    def level_tokens(self, level: int) -> range:
        """The tokens of all codes of level 0 … L−1."""
        first = self.level_offsets[level]
        return range(first, first + self.radices[level])

    def tokens_of(self, codes: Tensor) -> Tensor:
        """Codes of the first l levels → their tokens, both (..., l) int64."""
        offsets = self.level_offsets[: codes.shape[-1]]
        return codes + torch.tensor(offsets, dtype=torch.int64, device=codes.device)


@dataclass(frozen=True, eq=False)
class Prompts:
    """A batch of prompts, padded on the left, so that the placeholders are the last L columns.

    Attributes:
        input_ids: (B, T) int64.
        attention_mask: (B, T) int64, 0 on padding.
        position_ids: (B, T) int64, 0 at BOS.
        levels: L.
        padded: whether a row may hold padding. Without padding, attention needs no mask; reading
            this from the device instead would wait for it.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    levels: int
    padded: bool = True

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def without_placeholders(self) -> Prompts:
        """The history alone, which an autoregressive decoder continues."""
        end = self.input_ids.shape[1] - self.levels
        return self._map(lambda tensor: tensor[:, :end], levels=0)

    def padded_to(self, rows: int, width: int, pad: int) -> Prompts:
        """The same prompts in a larger fixed shape (rows, width), filled up with token `pad`.

        Raises ValueError if they do not fit.
        """
        more_rows, more_columns = rows - len(self), width - self.input_ids.shape[1]
        if more_rows < 0 or more_columns < 0:
            raise ValueError(
                f"Prompts of shape {tuple(self.input_ids.shape)} do not fit into ({rows}, {width})."
            )
        if more_rows == more_columns == 0:
            return self
        left_and_below = (more_columns, 0, 0, more_rows)
        larger = self._map(lambda tensor: F.pad(tensor, left_and_below), padded=True)
        return replace(larger, input_ids=F.pad(self.input_ids, left_and_below, value=pad))

    def to(self, device: torch.device | str) -> Prompts:
        """The same prompts on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor], **fields: Any) -> Prompts:
        names = ("input_ids", "attention_mask", "position_ids")
        fields |= {name: change(getattr(self, name)) for name in names}
        return replace(self, **fields)

    def visible(self) -> Tensor | None:
        """The attention mask for the backbone: (B, 1, T, T) bool, True where a query may look.

        Causal and without padding; a padding token sees itself, so that no row is empty. None where
        nothing is padded: the backbone's own causal attention is fastest.
        """
        if not self.padded:
            return None
        width = self.input_ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=self.input_ids.device).tril()
        seen = causal & self.attention_mask.bool()[:, None, :]  # (B, T, T)
        itself = torch.eye(width, dtype=torch.bool, device=self.input_ids.device)
        return (seen | itself).unsqueeze(1)


def build_prompts(
    histories: Sequence[Sequence[int]],
    semantic_ids: SemanticIds,
    vocabulary: Vocabulary,
    max_items: int,
) -> Prompts:
    """Histories of item indices → prompts with placeholders.

    >>> catalogue = SemanticIds.from_codes([[0, 0], [2, 3]], radices=(3, 4))
    >>> prompts = build_prompts([[1], []], catalogue, Vocabulary((3, 4)), max_items=20)
    >>> prompts.input_ids
    tensor([[ 1,  6, 10,  2,  3],
            [ 0,  0,  1,  2,  3]])

    Args:
        histories: B users' items in time order; only the last `max_items` of each are read. The
            prompt of an empty history is BOS and the placeholders.
        semantic_ids: the catalogue; its radices must be the vocabulary's.
        vocabulary: token layout.
        max_items: longest history that the model was trained on, in items.

    Raises:
        ValueError: for an empty batch, an unknown item, or IDs whose radices are not the
            vocabulary's.
    """
    if len(histories) == 0:
        raise ValueError("histories is empty, but at least one history is needed.")
    check_same_space(semantic_ids, vocabulary)
    recent = [
        semantic_ids.known_items(list(history)[-max_items:] if max_items else [], f"History {row}")
        for row, history in enumerate(histories)
    ]
    codes = semantic_ids.codes[torch.tensor([*chain(*recent)], dtype=torch.int64)]  # (items, L)
    levels = vocabulary.levels
    lengths = torch.tensor([1 + levels * (len(items) + 1) for items in recent])
    width = int(lengths.max())
    attention_mask = (torch.arange(width) >= width - lengths[:, None]).long()  # (B, T)
    position_ids = (attention_mask.cumsum(dim=1) - 1).clamp_min(0)
    input_ids = torch.where(attention_mask.bool(), vocabulary.bos, vocabulary.pad)  # (B, T)
    input_ids[:, :-levels][position_ids[:, :-levels] > 0] = vocabulary.tokens_of(codes).flatten()
    input_ids[:, -levels:] = torch.tensor(vocabulary.placeholders)
    padded = bool(lengths.min() < width)
    return Prompts(input_ids, attention_mask, position_ids, vocabulary.levels, padded)


def check_same_space(semantic_ids: SemanticIds, vocabulary: Vocabulary) -> None:
    """Raise ValueError unless the IDs have the radices of the vocabulary."""
    if semantic_ids.radices != vocabulary.radices:
        raise ValueError(
            f"These semantic IDs have radices {semantic_ids.radices}, but the model was built for "
            f"{vocabulary.radices}: use the semantic IDs that were saved beside the model."
        )
