"""`nezha-lite data`, `import` and `map`: what is in a data set, your tables in, IDs out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nezha_lite.cli.options import Data, SplitBy, TestFrom, load_split, options_of, split_report
from nezha_lite.datasets import InteractionDataset, TableLayout, load_dataset, write_folder
from nezha_lite.datasets.download import REGISTRY
from nezha_lite.datasets.own_tables import OwnTables
from nezha_lite.semantic_ids import SemanticIds, released_semantic_ids
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
from nezha_lite.semantic_ids.spreadsheet import write_sid_map


def show_data(dataset: Data, split: SplitBy = "leave-one-out", test_from: TestFrom = None) -> None:
    """Show what is in a data set and how it is split; download it first where needed."""
    data = load_split(dataset, split, test_from)
    targets = int((data.train_sequences().lengths - 1).clip(0).sum())
    print(
        f"{data.name}: {data.n_users:,} users, {data.n_items:,} items, "
        f"{data.n_interactions:,} interactions, {targets:,} training targets"
    )
    print(split_report(data))
    print(f"item texts: {'yes' if data.texts else 'no'}")
    if data.released_codes is None:
        source = "the texts" if data.texts else "who took what"
        print(f"released semantic IDs: none; `train` builds some from {source}")
    else:
        ids = released_semantic_ids(data)
        print(
            f"released semantic IDs: radices {ids.radices}, {ids.n_distinct:,} distinct, "
            f"collision rate {ids.collision_rate:.4f}"
        )


@options_of("layout", TableLayout, *TableLayout.__dataclass_fields__)
def import_tables(tables: list[Path], folder: Path, layout: dict[str, Any]) -> None:
    """Say how tables are read and what is wrong with them, and make them a data set's folder.

    INTERACTIONS has a row for each time a user took an item; ITEMS, which may be left out, one for
    each item. CSV, JSON lines, Parquet, Excel and the usual public formats are recognised. Nothing
    is written while there are errors.

    Args:
        tables: files with tables: the interactions and, if there is one, the items
        folder: folder for the data set; must not hold one of its name yet
    """
    if len(tables) > 2:
        raise ValueError(
            f"{len(tables)} tables are named, but there are at most two: the interactions, and "
            "the items."
        )
    if str(folder) in ("sample", *REGISTRY):
        raise ValueError(f"'{folder}' is the name of a known data set: name another folder.")
    interactions, items = tables[0], tables[1] if len(tables) == 2 else None
    own = OwnTables(interactions, items, TableLayout(**layout))
    print(own.report)
    write_folder(InteractionDataset(name=folder.name, **own.fields()), folder)
    print(f"Data set written to {folder}. Next: nezha-lite train {folder} runs/{folder.name}")


def sid_map(
    folder: Annotated[Path, typer.Argument(file_okay=False)],
    dataset: Data,
    out: Annotated[Path, typer.Option(dir_okay=False)],
) -> None:
    """Write the map of semantic IDs as a table: item, codes, key, title.

    Args:
        folder: folder written by `train`, or by `tokenize`
        out: CSV file to write; an older one is replaced
    """
    semantic_ids = SemanticIds.load(folder / SEMANTIC_IDS_FILE)
    write_sid_map(out, semantic_ids, load_dataset(dataset))
    print(f"{semantic_ids.n_items:,} items with {semantic_ids.levels} codes each: {out}")
