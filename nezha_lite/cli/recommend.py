"""`nezha-lite recommend`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from nezha_lite.cli.options import Beam, Data, Device, Folder, Verified, load, oom_hint
from nezha_lite.datasets import InteractionDataset, plain_text, shown_text


@oom_hint("--beam")
def recommend(
    folder: Folder,
    dataset: Data,
    user: str | None = None,
    item: list[str] | None = None,
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen")] = False,
    deny: list[str] | None = None,
    category: str | None = None,
    k: Annotated[int, typer.Option("-k")] = 10,
    beam: Beam = 50,
    verification: Verified = "prefix",
    device: Device = "auto",
    compile: Annotated[bool, typer.Option("--compile")] = False,
) -> None:
    """Recommend items, with their titles, to a user or after a history.

    Args:
        user: a user of the data set, by name
        item: or a history: item names, oldest first, repeated
        exclude_seen: nothing that is in the history
        deny: an item, by name, that must not come; repeated
        category: only items whose categories include this one
        k: length of the list
        compile: compile the decoder first, as a service would
    """
    if (user is None) == (item is None):
        raise ValueError("Name either a --user or the --item names of a history, and not both.")
    data, trained = load(dataset, folder, device, compile)
    history = (
        data.sequences[_number(user, data.users, "User", data.name)]
        if user is not None
        else [_number(name, data.items, "Item", data.name) for name in item or ()]
    )
    denied = [_number(name, data.items, "Item", data.name) for name in deny or ()]
    allowed = None if category is None else [_of_category(data, category)]
    print("History, oldest first:")
    for past_item in history[-trained.model.config.max_items :]:
        print(f"      {data.title(past_item)}")
    print("Recommended:")
    (ranked,) = trained.recommend(
        [history],
        k,
        beam,
        verification,
        data.popularity(),
        allow=allowed,
        deny=[denied],
        exclude_seen=exclude_seen,
    )
    for rank, best in enumerate(ranked, start=1):
        name, title = shown_text(best.name), data.title(best.item)
        print(f"  {rank:2d}. {title}  (item {name}, {best.score:.2f})")


def _number(name: str, names: tuple[str, ...], what: str, dataset: str) -> int:
    if name not in names:
        raise ValueError(
            f"{what} {name!r} is not in data set {dataset!r}, which names them like {names[0]!r}."
        )
    return names.index(name)


def _of_category(dataset: InteractionDataset, category: str) -> list[int]:
    paths = [tuple(map(plain_text, text.categories)) for text in dataset.texts or ()]
    items = [item for item, path in enumerate(paths) if category in path]
    if not items:
        common = Counter(name for path in paths for name in path).most_common(3)
        names = ", ".join(repr(name) for name, _ in common)
        hint = f"whose most frequent ones are {names}" if common else "whose items have none"
        raise ValueError(f"Category {category!r} is not in data set {dataset.name!r}, {hint}.")
    return items
