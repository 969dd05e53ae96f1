"""`nezha-lite recommend`."""

from __future__ import annotations

from typing import Annotated

import typer

from nezha_lite.cli.options import Beam, Data, Device, Folder, Verified, load


def recommend(
    folder: Folder,
    dataset: Data,
    user: Annotated[str | None, typer.Option(help="a user of the data set, by name")] = None,
    item: Annotated[
        list[str] | None, typer.Option(help="or a history: item names, oldest first, repeated")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="length of the list")] = 10,
    beam: Beam = 50,
    verification: Verified = "prefix",
    device: Device = "auto",
) -> None:
    """Recommend items, with their titles, to a user or after a history."""
    if (user is None) == (item is None):
        raise ValueError("Name either a --user or the --item names of a history, and not both.")
    found, trained = load(dataset, folder, device)
    history = (
        found.sequences[_number(user, found.users, "User", found.name)]
        if user is not None
        else [_number(name, found.items, "Item", found.name) for name in item or ()]
    )
    print("History, oldest first:")
    for known in history[-trained.model.config.max_items :]:
        print(f"      {found.title(known)}")
    print("Recommended:")
    (ranked,) = trained.recommend([history], k, beam, verification, found.popularity())
    for place, best in enumerate(ranked, start=1):
        print(f"  {place:2d}. {found.title(best.item)}  (item {best.name}, {best.score:.2f})")


def _number(name: str, names: tuple[str, ...], what: str, dataset: str) -> int:
    if name not in names:
        raise ValueError(
            f"{what} {name!r} is not in data set {dataset!r}, which names them like {names[0]!r}."
        )
    return names.index(name)
