"""What the model reads: the vocabulary's layout and the prompts.

    [BOS] c1 … cL (item 1) … c1 … cL (item N) <SP_1> … <SP_L>

The placeholders stand where the answer's codes would, at the same positions. One pass over such a
prompt gives h_0 (the last history token) and h_1 … h_L (the placeholders): all that the draft head
needs. The autoregressive decoder reads the same prompt without its placeholders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nezha_lite.semantic_ids import SemanticIds


@dataclass(frozen=True)
class Vocabulary:
    """Token numbers: [offset] PAD, BOS, SP_1 … SP_L, then each level's codes, level by level.

    Attributes:
        radices: T_1 … T_L.
        offset: first free token number; the size of the vocabulary that a pretrained backbone
            brings along, 0 for a backbone built from scratch.
    """

    radices: tuple[int, ...]
    offset: int = 0

    @property
    def levels(self) -> int:
        """L, the number of codes in an ID."""
        return len(self.radices)

    @property
    def pad(self) -> int:
        """Padding token, never attended to."""
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

    def tokens_of(self, codes: Tensor) -> Tensor:
        """(..., L) int64 codes → (..., L) int64 tokens."""
        return codes + torch.tensor(self.level_offsets, device=codes.device)


@dataclass(frozen=True, eq=False)
class Prompts:
    """A batch of prompts, padded on the left so that the placeholders are the last L columns.

    Attributes:
        input_ids: (B, T) int64.
        attention_mask: (B, T) int64, 0 on padding.
        position_ids: (B, T) int64, 0 at BOS.
        levels: L.
        padded: whether any row may hold padding. Known without asking the device: where none does,
            attention needs no mask.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    levels: int
    padded: bool = True

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def without_placeholders(self) -> Prompts:
        """The history alone: what an autoregressive decoder continues."""
        end = self.input_ids.shape[1] - self.levels
        return Prompts(
            self.input_ids[:, :end],
            self.attention_mask[:, :end],
            self.position_ids[:, :end],
            levels=0,
            padded=self.padded,
        )

    def padded_to(self, rows: int, width: int, pad: int) -> Prompts:
        """The same prompts in a larger fixed shape: (rows, width), filled up with token `pad`."""
        more_rows, more_columns = rows - len(self), width - self.input_ids.shape[1]
        if more_rows < 0 or more_columns < 0:
            raise ValueError(
                f"Prompts of shape {tuple(self.input_ids.shape)} do not fit into ({rows}, {width})."
            )
        if more_rows == more_columns == 0:
            return self
        beside = (more_columns, 0, 0, more_rows)  # on the left, and below
        return Prompts(
            F.pad(self.input_ids, beside, value=pad),
            F.pad(self.attention_mask, beside),
            F.pad(self.position_ids, beside),
            self.levels,
            padded=True,
        )

    def visible(self) -> Tensor | None:
        """The attention mask that backbones take as it is: (B, 1, T, T) bool, True where seen.

        Causal, without padding; a padding token sees itself alone, so that no row is empty. None
        where nothing is padded: the backbone's own causal attention is the fastest then.
        """
        if not self.padded:
            return None
        width = self.input_ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=self.input_ids.device).tril()
        seen = causal & self.attention_mask.bool()[:, None, :]  # (B, T, T)
        itself = torch.eye(width, dtype=torch.bool, device=self.input_ids.device)
        return (seen | itself).unsqueeze(1)

    def to(self, device: torch.device | str) -> Prompts:
        """The same prompts on another device."""
        return Prompts(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.position_ids.to(device),
            self.levels,
            self.padded,
        )


def build_prompts(
    histories: Sequence[Sequence[int]],
    semantic_ids: SemanticIds,
    vocabulary: Vocabulary,
    max_items: int,
) -> Prompts:
    """Histories of item indices → prompts with placeholders.

    Args:
        histories: B users' items in time order; only the last `max_items` of each are read. An
            empty history is allowed: the prompt is then BOS and the placeholders.
        semantic_ids: the catalogue; its radices must be the vocabulary's.
        vocabulary: token layout.
        max_items: longest history that the model was trained on, in items.

    Raises:
        ValueError: for an empty batch, an unknown item, or IDs of another shape than the
            vocabulary's.
    """
    if len(histories) == 0:
        raise ValueError("histories is empty, but at least one history is needed.")
    check_same_space(semantic_ids, vocabulary)
    rows = []
    for row, history in enumerate(histories):
        recent = list(history)[-max_items:] if max_items else []
        recent = semantic_ids.known_items(recent, f"History {row}")
        codes = semantic_ids.codes[torch.tensor(recent, dtype=torch.int64)]  # (n, L)
        tokens = vocabulary.tokens_of(codes).flatten()
        rows.append(
            torch.cat(
                [torch.tensor([vocabulary.bos]), tokens, torch.tensor(vocabulary.placeholders)]
            )
        )
    width = max(len(row) for row in rows)
    input_ids = torch.full((len(rows), width), vocabulary.pad)  # (B, T)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.int64)
    for index, row_tokens in enumerate(rows):
        input_ids[index, width - len(row_tokens) :] = row_tokens
        attention_mask[index, width - len(row_tokens) :] = 1
    position_ids = (attention_mask.cumsum(dim=1) - 1).clamp_min(0)
    padded = any(len(row_tokens) < width for row_tokens in rows)
    return Prompts(input_ids, attention_mask, position_ids, vocabulary.levels, padded)


def check_same_space(semantic_ids: SemanticIds, vocabulary: Vocabulary) -> None:
    """Raise ValueError unless the IDs' radices are those that the vocabulary was laid out for."""
    if semantic_ids.radices != vocabulary.radices:
        raise ValueError(
            f"These semantic IDs have radices {semantic_ids.radices}, but the model was built for "
            f"{vocabulary.radices}: use the semantic IDs that were saved beside the model."
        )
