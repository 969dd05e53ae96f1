"""`nezha-lite import` and `map`: your tables in, the map of semantic IDs out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nezha_lite.cli.options import Data


def import_tables(
    tables: Annotated[
        list[Path],
        typer.Argument(help="tables in CSV: the interactions and, if there is one, the items"),
    ],
    folder: Annotated[
        Path, typer.Argument(help="folder for the data set; must not hold one of its name yet")
    ],
    user: Annotated[str, typer.Option(help="column of the interactions: who")] = "user",
    item: Annotated[str, typer.Option(help="column of both tables: what")] = "item",
    time: Annotated[
        str, typer.Option(help="column of the interactions: unix time or ISO 8601")
    ] = "time",
    title: Annotated[str, typer.Option(help="column of the items")] = "title",
    brand: Annotated[str, typer.Option(help="column of the items")] = "brand",
    categories: Annotated[
        str, typer.Option(help="column of the items: all of an item's in one cell")
    ] = "categories",
    description: Annotated[str, typer.Option(help="column of the items")] = "description",
    separator: Annotated[
        str, typer.Option(help="between cells: one character, or the word tab")
    ] = ",",
    category_separator: Annotated[
        str, typer.Option(help="between the categories of an item")
    ] = ",",
) -> None:
    """Check CSV tables, say what is wrong with them, and make them a data set's folder.

    INTERACTIONS.csv has a row for each time somebody took something; ITEMS.csv, which may be left
    out, one for each item. Nothing is written while there are errors.
    """
    from nezha_lite.datasets import TableLayout, check_tables, read_tables, write_folder
    from nezha_lite.datasets.download import REGISTRY

    if len(tables) > 2:
        raise ValueError(
            f"{len(tables)} tables are named, but there are at most two: the interactions, and "
            "the items."
        )
    if str(folder) in ("sample", *REGISTRY):
        raise ValueError(f"'{folder}' is the name of a known data set: name another folder.")
    layout = TableLayout(
        user=user,
        item=item,
        time=time,
        title=title,
        brand=brand,
        categories=categories,
        description=description,
        separator="\t" if separator == "tab" else separator,
        category_separator=category_separator,
    )
    interactions, items = tables[0], tables[1] if len(tables) == 2 else None
    report = check_tables(interactions, items, layout)
    print(report)
    report.check()
    write_folder(read_tables(interactions, items, layout), folder)
    print(f"Data set written to {folder}. Next: nezha-lite train {folder} runs/{folder.name}")


def sid_map(
    folder: Annotated[
        Path, typer.Argument(help="folder written by `train`, or by `tokenize`", file_okay=False)
    ],
    dataset: Data,
    out: Annotated[
        Path, typer.Option(help="CSV file to write; an older one is replaced", dir_okay=False)
    ],
) -> None:
    """Write the map of semantic IDs as a table: item, codes, key, title."""
    from nezha_lite.datasets import load_dataset
    from nezha_lite.semantic_ids import SemanticIds
    from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
    from nezha_lite.semantic_ids.spreadsheet import write_sid_map

    semantic_ids = SemanticIds.load(folder / SEMANTIC_IDS_FILE)
    write_sid_map(out, semantic_ids, load_dataset(dataset))
    print(f"{semantic_ids.n_items:,} items with {semantic_ids.levels} codes each: {out}")
