"""What is decoded in a bench: a catalogue, and prompts of exactly one length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nezha_lite.datasets import InteractionDataset
from nezha_lite.model import NezhaModel
from nezha_lite.model.prompts import Prompts, build_prompts
from nezha_lite.semantic_ids import SemanticIds, radix_strides
from nezha_lite.verifiers import child_keys

ENOUGH = 32  # users with long histories: fewer, and other users' are made longer


def synthetic_ids(items: int, radices: Sequence[int], seed: int = 0) -> SemanticIds:
    """A catalogue of `items` distinct random IDs.

    Raises:
        ValueError: for no items, or more than the space holds.
    """
    space = math.prod(radices)
    if not 1 <= items <= space:
        raise ValueError(
            f"items is {items:,}, but {' × '.join(map(str, radices))} codes name 1 to {space:,}."
        )
    keys = random_keys(items, space, seed)
    strides, counts = torch.tensor(radix_strides(radices)), torch.tensor(list(radices))
    codes = keys.unsqueeze(1) // strides % counts  # (N, L)
    return SemanticIds.from_codes(codes, radices)


def histories_of(
    length: int, count: int, n_items: int, dataset: InteractionDataset | None, seed: int
) -> tuple[list[list[int]], str]:
    """`count` histories of exactly `length` items, and where they come from.

    From a data set: the last `length` items of random test users who have as many, of each once
    before anybody comes again. Where hardly anybody has, other users' histories are repeated until
    they are long enough. Without a data set: random items.

    Raises:
        ValueError: if no user of the data set has three items.
    """
    draw = np.random.default_rng(seed)
    if dataset is None:
        return draw.integers(0, n_items, (count, length)).tolist(), "random"
    known = dataset.split("test").histories
    if not known:
        raise ValueError(f"Data set {dataset.name!r} has no user with a history to decode.")
    known = tuple(known[user] for user in draw.permutation(len(known)))
    chosen = [history for history in known if len(history) >= length]
    short = [history for history in known if len(history) < length]
    origin = "test users"
    if short and len(chosen) < min(count, ENOUGH):
        origin = "test users, short histories repeated"
        chosen += short
    chosen = [chosen[row % len(chosen)] for row in range(count)]
    return [list(h * math.ceil(length / len(h)))[-length:] for h in chosen], origin


def prompts_of(
    model: NezhaModel, semantic_ids: SemanticIds, histories: Sequence[Sequence[int]], batch: int
) -> list[Prompts]:
    """Histories of one length as prompts of `batch` rows each, on the model's device."""
    return [
        build_prompts(
            histories[start : start + batch],
            semantic_ids,
            model.vocabulary,
            max_items=len(histories[0]),
        ).to(model.device)
        for start in range(0, len(histories), batch)
    ]


N_BEAMS = 16  # different ones, taken in turn: no decode asks about the same beams twice
CHANGES = 3
CHANGED = 1_000  # IDs that leave and come back together


def random_keys(n: int, space: int, seed: int) -> Tensor:
    """(n,) int64 distinct keys below `space` in random order, made with 9 bytes a key.

    Raises:
        ValueError: if there are not so many, or the space is too large for int64 keys.
    """
    if not 1 <= n <= space:
        raise ValueError(f"n is {n:,}, but the space has 1 to {space:,} keys.")
    if space > 2**63 - 1:
        raise ValueError(
            f"The ID space has {space:,} keys, but int64 allows at most {2**63 - 1:,}: use fewer "
            "levels or codes."
        )
    draw = np.random.default_rng(seed)
    if 2 * n > space:
        return torch.from_numpy(draw.permutation(space)[:n].copy())
    keys = draw.integers(0, space, n)
    while True:
        keys.sort()
        again = np.flatnonzero(keys[1:] == keys[:-1])
        if not len(again):
            break
        keys[again] = draw.integers(0, space, len(again))
    draw.shuffle(keys)
    return torch.from_numpy(keys)


@dataclass(frozen=True, eq=False)
class BeamStep:
    """What every structure is asked.

    Attributes:
        level: of the codes to be chosen, the last one.
        prefixes: (1, K) int64, existing prefixes of one code less.
        continuations: (1, K, C) int64, their keys.
        changed: (M,) int64, IDs that leave and come back.
    """

    level: int
    prefixes: list[Tensor]
    continuations: list[Tensor]
    changed: list[Tensor]

    @classmethod
    def of(
        cls, keys: Tensor, radices: Sequence[int], beam: int, seed: int, device: torch.device
    ) -> BeamStep:
        """Beams among the prefixes of a catalogue in random order, and IDs of it to change."""
        draw = torch.Generator().manual_seed(seed)
        level = len(radices)
        known = torch.unique(keys[: 4 * N_BEAMS * beam] % radix_strides(radices)[-1])
        # A catalogue with fewer prefixes than the beam is wide has some of them twice.
        known = known.repeat(-(-beam // len(known)))
        prefixes = [
            known[torch.randperm(len(known), generator=draw)[:beam]].unsqueeze(0).to(device)
            for _ in range(N_BEAMS)
        ]
        return cls(
            level,
            prefixes,
            [child_keys(some, level, radices) for some in prefixes],
            [keys[torch.randperm(len(keys), generator=draw)[:CHANGED]] for _ in range(CHANGES)],
        )
