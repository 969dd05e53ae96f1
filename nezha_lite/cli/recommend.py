"""`nezha-lite recommend`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from nezha_lite.cli.options import Beam, Data, Device, Folder, Verified, load, lower

if TYPE_CHECKING:
    from nezha_lite.datasets import InteractionDataset


@lower("--beam")
def recommend(
    folder: Folder,
    dataset: Data,
    user: Annotated[str | None, typer.Option(help="a user of the data set, by name")] = None,
    item: Annotated[
        list[str] | None, typer.Option(help="or a history: item names, oldest first, repeated")
    ] = None,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen", help="nothing that is in the history")
    ] = False,
    deny: Annotated[
        list[str] | None, typer.Option(help="an item, by name, that must not come; repeated")
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="only items whose categories include this one")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="length of the list")] = 10,
    beam: Beam = 50,
    verification: Verified = "prefix",
    device: Device = "auto",
    compile: Annotated[
        bool, typer.Option("--compile", help="compile the decoder first, as a service would")
    ] = False,
) -> None:
    """Recommend items, with their titles, to a user or after a history."""
    if (user is None) == (item is None):
        raise ValueError("Name either a --user or the --item names of a history, and not both.")
    from nezha_lite.datasets import shown_text

    found, trained = load(dataset, folder, device, compile)
    history = (
        found.sequences[_number(user, found.users, "User", found.name)]
        if user is not None
        else [_number(name, found.items, "Item", found.name) for name in item or ()]
    )
    denied = [_number(name, found.items, "Item", found.name) for name in deny or ()]
    allowed = None if category is None else [_of_category(found, category)]
    print("History, oldest first:")
    for known in history[-trained.model.config.max_items :]:
        print(f"      {found.title(known)}")
    print("Recommended:")
    (ranked,) = trained.recommend(
        [history],
        k,
        beam,
        verification,
        found.popularity(),
        allow=allowed,
        deny=[denied],
        exclude_seen=exclude_seen,
    )
    for place, best in enumerate(ranked, start=1):
        print(
            f"  {place:2d}. {found.title(best.item)}  "
            f"(item {shown_text(best.name)}, {best.score:.2f})"
        )


def _number(name: str, names: tuple[str, ...], what: str, dataset: str) -> int:
    if name not in names:
        raise ValueError(
            f"{what} {name!r} is not in data set {dataset!r}, which names them like {names[0]!r}."
        )
    return names.index(name)


def _of_category(dataset: InteractionDataset, category: str) -> list[int]:
    from nezha_lite.datasets import plain_text

    paths = [tuple(map(plain_text, text.categories)) for text in dataset.texts or ()]
    found = [item for item, path in enumerate(paths) if category in path]
    if not found:
        common = Counter(name for path in paths for name in path).most_common(3)
        known = (
            f"whose most frequent ones are {', '.join(repr(name) for name, _ in common)}"
            if common
            else "whose items have none"
        )
        raise ValueError(f"Category {category!r} is not in data set {dataset.name!r}, {known}.")
    return found
