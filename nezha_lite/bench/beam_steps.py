"""Made-up catalogues of any size, and what a decode asks about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nezha_lite.semantic_ids import radix_strides
from nezha_lite.verifiers import child_keys

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
