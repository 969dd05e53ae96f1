"""Kinds of test users: by how popular their target is, and by how long their history."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nezha_lite.datasets import InteractionDataset, Split

Mask = NDArray[np.bool_]
HISTORIES = ((1, 4), (5, 9), (10, 19), (20, None))


def strata(dataset: InteractionDataset, split: Split) -> Iterator[tuple[str, str, Mask]]:
    """Yield what the users are told apart by, the stratum's name, and its users (U,) bool.

    "target" cuts the users into thirds of nearly equal size by how often their target occurs in
    training, so that the tail third holds the rarest; "history" by the number of items.
    Strata without users are left out.
    """
    counts = np.array(dataset.popularity())[np.array(split.targets, dtype=np.int64)]  # (U,)
    low, high = np.quantile(counts, [1 / 3, 2 / 3])
    lengths = np.array([len(history) for history in split.histories])
    found: list[tuple[str, str, Mask]] = [
        ("target", f"tail: seen up to {low:.0f} times", counts <= low),
        ("target", f"middle: up to {high:.0f} times", (counts > low) & (counts <= high)),
        ("target", "head: more often", counts > high),
    ]
    for first, last in HISTORIES:
        name = f"{first} to {last} items" if last else f"{first} items or more"
        found.append(("history", name, (lengths >= first) & (lengths <= (last or np.inf))))
    return (entry for entry in found if entry[2].any())
