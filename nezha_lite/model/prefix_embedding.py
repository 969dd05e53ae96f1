"""Embeddings of whole prefixes and IDs, beside those of their codes.

Items that share codes share the codes' embeddings, so a small model cannot tell them apart. Two
parts of `NezhaModel` give each ID that exists in training parameters of its own:

- item memory: a vector added to the last code's token of every item in the history, an n-gram
  embedding over the ID;
- candidate embeddings: at the last levels the head chooses among the continuations that exist below
  a prefix, and each adds <e, h_l + s_l> + b to its code's logit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nezha_lite.semantic_ids import SemanticIds

QUERIES = 8  # of one parent, multiplied by its continuations' vectors together


class PrefixEmbedding(nn.Module):
    """A vector and a bias for each prefix of one level that existed in training; zero for others.

    Prefixes are numbered parent · T_l + code, so that the continuations of a parent are neighbours.

    >>> catalogue = SemanticIds.from_codes([[0, 1], [0, 3], [2, 1]], radices=(3, 4))
    >>> embedding = PrefixEmbedding(level=2, radix=4, n_prefixes=3, most_children=2, width=8)
    >>> embedding.set_catalogue(catalogue)
    >>> embedding.rows(torch.tensor([1, 3, 2]))  # (0, 1) and (0, 3) exist, (0, 2) does not
    tensor([1, 2, 0])
    >>> rows, codes = embedding.continuations(torch.tensor([0, 2, -1]))
    >>> rows.tolist(), codes.tolist()
    ([[1, 2], [3, 0], [0, 0]], [[1, 3], [1, 0], [0, 0]])

    Args:
        level: l, 1 … L.
        radix: T_l.
        n_prefixes: distinct prefixes of l codes in the catalogue.
        most_children: the most of them that share their first l−1 codes.
        width: D.
        max_rows: above this many prefixes, several share a vector and a bias.
        bias: whether there are biases, which only `scores` reads.

    Attributes:
        numbers: (n_prefixes,) int64, ascending, of the prefixes that existed in training.
    """

    numbers: Tensor

    def __init__(
        self,
        level: int,
        radix: int,
        n_prefixes: int,
        most_children: int,
        width: int,
        max_rows: int = 1 << 24,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.level, self.radix, self.most_children = level, radix, most_children
        self.register_buffer("numbers", torch.arange(n_prefixes))
        n_rows = min(n_prefixes, max_rows)
        self.vectors = nn.Embedding(n_rows + 1, width, padding_idx=0)
        self.biases = nn.Embedding(n_rows + 1, 1, padding_idx=0) if bias else None

    def set_catalogue(self, semantic_ids: SemanticIds) -> None:
        """Take the catalogue's prefixes as those that exist in training."""
        self.numbers.copy_(prefix_numbers(semantic_ids, self.level))

    def rows(self, numbers: Tensor) -> Tensor:
        """Rows of the embeddings for prefixes by number, 0 for those unknown: (...) int64."""
        index = torch.searchsorted(self.numbers, numbers).clamp_max(len(self.numbers) - 1)
        row = 1 + index % (self.vectors.num_embeddings - 1)
        return row.masked_fill(self.numbers[index] != numbers, 0)

    def continuations(self, parents: Tensor) -> tuple[Tensor, Tensor]:
        """The continuations of prefixes of l−1 codes, by key: (...) int64 → two of (..., F) int64.

        The first are rows of the embeddings, 0 on padding; the second are codes, 0 on padding. F is
        `most_children`.
        """
        start = torch.searchsorted(self.numbers, parents * self.radix)
        slots = start.unsqueeze(-1) + torch.arange(self.most_children, device=parents.device)
        slots = slots.clamp_max(len(self.numbers) - 1)
        numbers = self.numbers[slots]
        own = numbers // self.radix == parents.unsqueeze(-1)
        # The last slot is repeated where a parent's range ends the table.
        own[..., 1:] &= slots[..., 1:] != slots[..., :-1]
        rows = 1 + slots % (self.vectors.num_embeddings - 1)
        return rows.masked_fill(~own, 0), (numbers % self.radix).masked_fill(~own, 0)

    def scores(self, rows: Tensor, query: Tensor) -> Tensor:
        """<e, q> + b of rows (..., F) for one query each, (..., D): (..., F), 0 for row 0."""
        assert self.biases is not None
        return (self.vectors(rows) @ query.unsqueeze(-1) + self.biases(rows)).squeeze(-1)

    def log_probs(
        self, logits: Tensor, query: Tensor, prefixes: Tensor, exists: Tensor | None
    ) -> Tensor:
        """The softmax over the codes that continue a prefix, each with its own vector and bias.

        Args:
            logits: (..., T_l), of the codes alone.
            query: (..., D).
            prefixes: (...) int64, keys of prefixes of l−1 codes.
            exists: (..., T_l) bool, which codes continue them; None: those of the training.

        Returns:
            (..., T_l), -inf for codes that do not.
        """
        rows, codes = self.continuations(prefixes)  # (..., F)
        own = self.scores(rows, query).to(logits.dtype)
        logits = logits.scatter_add(-1, codes, own)  # padding adds 0 to code 0
        if exists is None:
            exists = torch.zeros_like(logits).scatter_add(-1, codes, (rows > 0).to(logits)) > 0
        log_probs = logits.masked_fill(~exists, -torch.inf).log_softmax(-1)
        return log_probs.masked_fill(~exists, -torch.inf)  # NaN where nothing exists

    def continuation_logits(
        self, parents: Tensor, query: Tensor, classifier: nn.Linear
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of all continuations, for many queries of which several share a parent.

        Each parent's vectors are gathered once for several queries, which costs a third.

        Args:
            parents: (Q,) int64, keys of prefixes of l−1 codes.
            query: (Q, D).
            classifier: gives the codes' own logits.

        Returns:
            Logits (Q, F), and rows and codes as `continuations`.
        """
        assert self.biases is not None
        order = parents.argsort()
        ordered = parents[order]
        nth = torch.arange(len(order), device=order.device)  # of its parent's queries
        nth = nth - torch.searchsorted(ordered, ordered)
        group = (nth % QUERIES == 0).cumsum(0) - 1  # so many queries of one parent together
        rows, codes = self.continuations(ordered[nth % QUERIES == 0])  # (G, F)
        grid = query.new_zeros(len(rows), QUERIES, query.shape[-1])
        grid = grid.index_put((group, nth % QUERIES), query[order])
        vectors = self.vectors(rows) + classifier.weight[codes]  # (G, F, D)
        biases = self.biases(rows).squeeze(-1) + classifier.bias[codes]  # (G, F)
        logits = grid @ vectors.mT + biases.unsqueeze(1)  # (G, QUERIES, F)
        group, nth = group[order.argsort()], nth[order.argsort()]
        return logits[group, nth % QUERIES], rows[group], codes[group]


def prefix_numbers(semantic_ids: SemanticIds, level: int) -> Tensor:
    """The catalogue's distinct prefixes of `level` codes, as parent · T_l + code, ascending."""
    keys = semantic_ids.prefix_keys(level)
    stride, radix = semantic_ids.strides[level - 1], semantic_ids.radices[level - 1]
    return (keys % stride * radix + keys // stride).sort().values


def catalogue_shape(semantic_ids: SemanticIds) -> dict[str, list[int]]:
    """Per level, the number of prefixes and the most that share a parent: fields of the config."""
    numbers = [prefix_numbers(semantic_ids, level + 1) for level in range(semantic_ids.levels)]
    parents = [row // radix for row, radix in zip(numbers, semantic_ids.radices, strict=True)]
    most = [int(torch.unique_consecutive(row, return_counts=True)[1].max()) for row in parents]
    return {"n_prefixes": [len(row) for row in numbers], "most_children": most}
