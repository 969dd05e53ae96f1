"""A catalogue that has grown: a data set over more items than it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nezha_lite.datasets.dataset import InteractionDataset
from nezha_lite.datasets.item_text import ItemText
from nezha_lite.datasets.sequences import Sequences


def over_catalogue(
    dataset: InteractionDataset, items: Sequence[str], new_texts: Mapping[str, ItemText]
) -> InteractionDataset:
    """The same interactions over these items, in this order; they hold all of the data set's.

    Args:
        items: N names.
        new_texts: texts of items that the data set does not have.
    """
    position = {name: row for row, name in enumerate(items)}
    rows = np.array([position[name] for name in dataset.items])
    texts = {**new_texts, **dict(zip(dataset.items, dataset.texts or (), strict=False))}
    return replace(
        dataset,
        items=tuple(items),
        sequences=Sequences(dataset.sequences.offsets, rows[dataset.sequences.values]),
        texts=tuple(texts.get(name, ItemText("")) for name in items) if texts else None,
        released_codes=None,
    )
