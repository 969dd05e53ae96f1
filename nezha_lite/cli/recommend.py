"""`nezha-lite recommend`: one list with titles, or every user's list in a file; and `export`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nezha_lite.cli.options import (
    Beam,
    Data,
    Device,
    Folder,
    Verified,
    existing_names,
    in_run,
    load_run,
    oom_hint,
)
from nezha_lite.datasets import InteractionDataset, load_dataset, plain_text, shown_text
from nezha_lite.decoding.captured import cpp_compiler
from nezha_lite.decoding.list_files import ListOptions, UserLists, processes, write_lists
from nezha_lite.decoding.programs import ProgramShape, export_programs
from nezha_lite.decoding.recommender import Recommender, find_device
from nezha_lite.semantic_ids.outside import read_names

COMPILE_FROM = 100_000  # users, for whom the minutes of compiling pay


@oom_hint("--beam")
def recommend(
    folder: Folder,
    dataset: Data,
    user: str | None = None,
    item: list[str] | None = None,
    all: Annotated[bool, typer.Option("--all")] = False,
    users: Annotated[Path | None, typer.Option(dir_okay=False)] = None,
    out: Annotated[Path | None, typer.Option(dir_okay=False)] = None,
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen")] = False,
    deny: list[str] | None = None,
    category: list[str] | None = None,
    k: Annotated[int, typer.Option("-k", "--k")] = 10,
    beam: Beam = 50,
    verification: Verified = "prefix",
    device: Device = "auto",
    compile: bool | None = None,
    without: Annotated[Path | None, typer.Option(dir_okay=False)] = None,
) -> None:
    """Recommend items, with their titles, to a user or after a history, or to all users in a file.

    Args:
        user: a user of the data set, by name
        item: or a history: item names, oldest first, repeated
        all: or all users, whose lists go into the file --out; a stopped run goes on when repeated
        users: or the users named in this file, one a line
        out: a file in .parquet, .csv or .jsonl with the lists of --all or --users
        exclude_seen: nothing that is in the history
        deny: an item, by name, that must not come, or a file of such names, one a line; repeated
        category: only items whose categories include this one; repeated, one of these
        k: length of a list
        compile: compile the decoder first, as a service would; by default for 100,000 users or more
        without: file of items that exist no more, one name a line
    """
    ways = [user is not None, item is not None, all, users is not None]
    if sum(ways) != 1 or (out is not None) != (all or users is not None):
        raise ValueError(
            "Name either a --user or the --item names of a history, and not both; or --all or a "
            "file of --users, with the file to write as --out."
        )
    data = in_run(load_dataset(dataset), folder)
    denied = [name for value in deny or () for name in _names_of(value, data.items)]
    denied += [] if without is None else existing_names(without, data.items)
    options = ListOptions(
        k,
        beam,
        verification,
        allow=None if category is None else _of_categories(data, category),
        deny=_numbers(denied, data.items, "Item", data.name),
        exclude_seen=exclude_seen,
    )
    if out is not None:
        named = data.users if users is None else read_names(users, unique=False)
        wanted = _numbers([*dict.fromkeys(named)], data.users, "User", data.name)
        processes(find_device(device))  # gives each process a GPU of its own
        able = len(wanted) >= COMPILE_FROM and cpp_compiler() is not None
        trained = load_run(data, folder, device, able if compile is None else compile)
        report = write_lists(trained, data, out, options, wanted, progress=True)
        if report is not None:
            print(f"{report.users:,} users, {report.rows:,} rows: {out}")
            for reason, count in report.empty.items():
                print(f"{count:,} users have an empty list: {reason}.")
        return
    if user is not None:
        history = data.sequences[_numbers([user], data.users, "User", data.name)[0]]
    else:
        history = tuple(_numbers(item or (), data.items, "Item", data.name))
    trained = load_run(data, folder, device, bool(compile))
    lists = UserLists(trained, data, options)
    print("History, oldest first:")
    for past_item in history[-trained.model.config.max_items :]:
        print(f"      {data.title(past_item)}")
    print("Recommended:")
    (ranked,) = lists.ranked([history])
    for rank, best in enumerate(ranked, start=1):
        name, title = shown_text(best.name), data.title(best.item)
        print(f"  {rank:2d}. {title}  (item {name}, {best.score:.2f})")
    if not ranked:
        print(f"      nothing: {lists.why_empty(history)}")


def _numbers(names: Sequence[str], valid: Sequence[str], what: str, dataset: str) -> list[int]:
    numbers = {name: number for number, name in enumerate(valid)}
    unknown = [name for name in names if name not in numbers]
    if unknown:
        more = len(unknown) - 1
        others = f" nor {'is 1 other' if more == 1 else f'are {more:,} others'}," if more else ""
        raise ValueError(
            f"{what} {unknown[0]!r} is not in data set {dataset!r},{others} which names them like "
            f"{valid[0]!r}."
        )
    return [numbers[name] for name in names]


def _names_of(value: str, items: Sequence[str]) -> list[str]:
    """An item's name, or those in a file of this name."""
    is_name = value in items or not Path(value).is_file()
    return [value] if is_name else read_names(value, unique=False)


def _of_categories(dataset: InteractionDataset, categories: Sequence[str]) -> list[int]:
    paths = [{*map(plain_text, text.categories)} for text in dataset.texts or ()]
    counts = Counter(name for path in paths for name in path)
    for category in categories:
        if category not in counts:
            names = ", ".join(repr(name) for name, _ in counts.most_common(3))
            hint = f"whose most frequent ones are {names}" if names else "whose items have none"
            raise ValueError(f"Category {category!r} is not in data set {dataset.name!r}, {hint}.")
    return [item for item, path in enumerate(paths) if not path.isdisjoint(categories)]


@oom_hint("--batch", "--beam")
def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(dir_okay=False)],
    batch: list[int] | None = None,
    beam: list[int] | None = None,
    items: list[int] | None = None,
    filter_width: list[int] | None = None,
) -> None:
    """Compile decoding for `Recommender.load(FOLDER, programs=OUT)`, which then starts at once.

    Each combination of the options becomes a program, which takes half a minute. Smaller batches,
    histories and sets are padded to it.

    Args:
        out: file to write, such as programs.pt2
        batch: histories decoded together; by default 1; repeated
        beam: beam width; by default 50; repeated
        items: items of the longest history; by default the model's longest; repeated
        filter_width: longest list of items to exclude or allow, at least 32; by default 0, lists
            without such sets; repeated
    """
    trained = Recommender.load(folder)
    ids, longest = trained.semantic_ids, trained.model.config.max_items
    shapes = [
        ProgramShape(rows, length, min(width, ids.n_distinct), keys)
        for rows in batch or (1,)
        for length in items or (longest,)
        for width in beam or (50,)
        for keys in filter_width or (0,)
    ]
    export_programs(trained.model, ids, out, shapes)
    print(f"{len(shapes)} programs: {out}, {out.stat().st_size / 2**20:.1f} MiB")
