"""A synthetic shop of any size as two tables: `python tools/make_million.py OUT --users 1000000`.

Items stand in a tree of categories and their titles name it; how often they sell falls off as in
Zipf's law. A user stays in one category for a while, and then goes to another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
import typer

KINDS = ("mug", "pot", "pan", "lamp", "chair", "shelf", "rug", "clock", "vase", "bowl")
MATERIALS = ("clay", "oak", "steel", "glass", "linen", "wool", "brass", "cork", "slate", "pine")
COLOURS = ("red", "blue", "green", "black", "white", "amber", "grey", "teal", "pink", "olive")
START, YEAR = 1_672_531_200, 365 * 86_400  # unix seconds of 2023-01-01


def main(
    out: Path,
    users: Annotated[int, typer.Option(min=1)] = 1_000_000,
    interactions: Annotated[int, typer.Option(min=1)] = 10_000_000,
    items: Annotated[int, typer.Option(min=1)] = 300_000,
    form: Annotated[Literal["csv", "parquet"], typer.Option("--format")] = "csv",
    seed: int = 0,
) -> None:
    """Write OUT/interactions and OUT/items; every user has the same number of them, or one more."""
    rng = np.random.default_rng(seed)
    out.mkdir(parents=True, exist_ok=True)
    groups = max(1, min(1000, items // 10))  # kind, material and colour; item i is of i % groups
    user = np.arange(interactions) % users
    # A user's group changes with a chance of one in five.
    turn = np.arange(interactions) // users
    moved = rng.random(interactions) < 0.2
    group = rng.integers(groups, size=users)[user]
    for step in range(1, int(turn[-1]) + 1):
        now = slice(step * users, min((step + 1) * users, interactions))
        stays = group[now.start - users : now.stop - users]
        group[now] = np.where(moved[now], rng.integers(groups, size=len(stays)), stays)
    sizes = (items - 1 - group) // groups + 1  # items of the group
    place = ((sizes + 1.0) ** rng.random(interactions) - 1).astype(np.int64)  # about 1 / place
    when = START + (turn + rng.random(interactions)) / (turn[-1] + 1) * YEAR
    order = rng.permutation(interactions)
    table = pl.DataFrame(
        {
            "user": user[order],
            "item": (place * groups + group)[order],
            "time": when.astype(np.int64)[order],
        }
    )
    number = np.arange(items)
    words = [
        pl.Series(np.array(names)[number % groups // size % 10])
        for names, size in ((KINDS, 1), (MATERIALS, 10), (COLOURS, 100))
    ]
    catalogue = pl.DataFrame(
        {"item": number, "kind": words[0], "material": words[1], "colour": words[2]}
    ).select(
        "item",
        title=pl.format("{} {} {} no {}", "colour", "material", "kind", pl.col("item") // groups),
        categories=pl.concat_str("kind", "material", separator=", "),
    )
    for name, frame in (("interactions", table), ("items", catalogue)):
        path = out / f"{name}.{form}"
        frame.write_csv(path) if form == "csv" else frame.write_parquet(path)
        print(f"{path}: {len(frame):,} rows, {path.stat().st_size / 2**20:,.0f} MiB")


if __name__ == "__main__":
    typer.run(main)
