"""What the tests of the command line share: a folder of data, small settings, an answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nezha_lite.datasets import InteractionDataset

SMALL = [
    *("--epochs", "2", "--batch-rows", "8", "--learning-rate", "0.01"),
    *("--levels", "2", "--codes", "4", "--max-items", "6"),
]


@dataclass
class Answer:
    status: int
    out: str
    err: str


Run = Callable[..., Answer]


def write_dataset(folder: Path, dataset: InteractionDataset) -> Path:
    folder.mkdir()
    histories = {
        user: [dataset.items[item] for item in sequence]
        for user, sequence in zip(dataset.users, dataset.sequences, strict=True)
    }
    texts = {
        item: {"title": text.title, "categories": list(text.categories)}
        for item, text in zip(dataset.items, dataset.texts or (), strict=True)
    }
    (folder / f"{folder.name}.inter.json").write_text(json.dumps(histories))
    (folder / f"{folder.name}.item.json").write_text(json.dumps(texts))
    return folder
