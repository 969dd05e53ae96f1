"""What several commands share: their arguments, and reading what they name.

The package's heavier rooms are imported inside functions, here and in the commands, so that
`--help` does not wait for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from nezha_lite.datasets import InteractionDataset
    from nezha_lite.recommender import Recommender

Verification = Literal["off", "final", "prefix"]
Data = Annotated[str, typer.Argument(help="sample, beauty, instruments, yelp, or a folder")]
Folder = Annotated[Path, typer.Argument(help="folder written by `train`")]
Results = Annotated[Path | None, typer.Option(help="also write the figures to this JSON file")]
Beam = Annotated[int, typer.Option(help="beam width")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Verified = Annotated[Verification, typer.Option(help="when drafts are checked")]


def load(dataset: str, folder: Path, device: str) -> tuple[InteractionDataset, Recommender]:
    """A data set and the model trained on it; ValueError if they are of different catalogues."""
    from nezha_lite.datasets import load_dataset
    from nezha_lite.recommender import Recommender

    found = load_dataset(dataset)
    trained = Recommender.load(folder, device)
    if trained.semantic_ids.items != found.items:
        raise ValueError(
            f"{folder} was trained on another catalogue ({trained.semantic_ids.n_items} items) "
            f"than {found.name!r} ({found.n_items} items): name the data set it was trained on."
        )
    return found, trained
