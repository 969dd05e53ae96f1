"""What is decoded in a bench: a random catalogue, and prompts of exactly one length."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.datasets import InteractionDataset
from nezha_lite.model import NezhaModel, Prompts, build_prompts
from nezha_lite.semantic_ids import SemanticIds, radix_strides

ENOUGH = 32  # users with long histories; with fewer, short histories are repeated as well


def synthetic_ids(items: int, radices: Sequence[int], seed: int = 0) -> SemanticIds:
    """A catalogue of `items` distinct random IDs.

    Raises:
        ValueError: for no items, or more than the space holds.
    """
    check_fits("items", items, radices)
    keys = random_keys(items, math.prod(radices), seed)
    strides, counts = torch.tensor(radix_strides(radices)), torch.tensor(list(radices))
    codes = keys.unsqueeze(1) // strides % counts  # (N, L)
    return SemanticIds.from_codes(codes, radices)


def check_fits(name: str, items: int, radices: Sequence[int]) -> None:
    """Raise ValueError unless these codes can name as many items."""
    space, codes = math.prod(radices), " × ".join(map(str, radices))
    check(1 <= items <= space, name, items, f"1 to {space:,}, the number of IDs of {codes} codes")


def histories_of(
    length: int, count: int, n_items: int, dataset: InteractionDataset | None, seed: int
) -> tuple[list[list[int]], str]:
    """`count` histories of exactly `length` items, and where they come from.

    From a data set: the last `length` items of random test users who have as many; no user comes
    twice before all have come once. Where too few have, other users' histories are repeated until
    they are long enough. Without a data set: random items.

    Raises:
        ValueError: if no user of the data set has three items.
    """
    draw = np.random.default_rng(seed)
    if dataset is None:
        return draw.integers(0, n_items, (count, length)).tolist(), "random"
    users = dataset.split("test").histories
    if not users:
        raise ValueError(f"Data set {dataset.name!r} has no user with a history to decode.")
    shuffled = [users[user] for user in draw.permutation(len(users))]
    histories = [history for history in shuffled if len(history) >= length]
    short = [history for history in shuffled if len(history) < length]
    origin = "test users"
    if short and len(histories) < min(count, ENOUGH):
        origin = "test users, short histories repeated"
        histories += short
    sampled = [histories[row % len(histories)] for row in range(count)]
    return [list(h * math.ceil(length / len(h)))[-length:] for h in sampled], origin


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


def random_keys(n: int, space: int, seed: int) -> Tensor:
    """(n,) int64 distinct keys below `space` in random order, made with 9 bytes a key.

    Raises:
        ValueError: if the space has fewer keys, or the space is too large for int64 keys.
    """
    check(1 <= n <= space, "n", n, f"1 to {space:,}, the number of keys")
    check(space < 2**63, "space", space, "below 2^63, as keys are int64: use fewer levels or codes")
    draw = np.random.default_rng(seed)
    if 2 * n > space:
        return torch.from_numpy(draw.permutation(space)[:n].copy())
    keys = draw.integers(0, space, n)
    while True:
        keys.sort()
        repeated = np.flatnonzero(keys[1:] == keys[:-1])
        if not len(repeated):
            break
        keys[repeated] = draw.integers(0, space, len(repeated))
    draw.shuffle(keys)
    return torch.from_numpy(keys)
