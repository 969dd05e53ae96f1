"""Data sets as folders of JSON files; a problem is reported with its file and place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from nezha_lite.common.files import (
    atomic_write,
    damage_named,
    parse_json,
    read_tensors,
    write_tensors,
)
from nezha_lite.common.memory import without_garbage_collection
from nezha_lite.datasets.dataset import InteractionDataset
from nezha_lite.datasets.id_tokens import IdParser
from nezha_lite.datasets.item_text import ItemText
from nezha_lite.datasets.own_tables import in_order
from nezha_lite.datasets.sequences import Sequences, offsets_of

Parsed = TypeVar("Parsed")


@without_garbage_collection()
def load_folder(folder: str | Path) -> InteractionDataset:
    """Read a folder in the layout of `nezha_lite.datasets`.

    NAME is the folder's name, or that of its only inter file. The catalogue is every item that a
    file names: in numeric order if all names are decimal integers, else in alphabetical order.

    Raises:
        FileNotFoundError: without the folder or its inter file.
        NotADirectoryError: for a file.
        ValueError: for malformed content.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist; give a folder with NAME.inter.json.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give its folder, with NAME.inter.json.")
    name = folder.resolve().name
    inter_file = part_file(folder, name, "inter")
    if inter_file is None:
        others = list(folder.glob("*.inter.json"))
        if len(others) != 1:
            has = f"it has {len(others)} files *.inter.json"
            raise FileNotFoundError(f"{folder} must hold {name}.inter.json; {has}.")
        inter_file = others[0]
        name = inter_file.name.removesuffix(".inter.json")
    item_file, index_file, times_file = (
        part_file(folder, name, part) for part in ("item", "index", "times")
    )
    histories = _read(inter_file, "user", _history)
    texts = read_texts(item_file) if item_file else None
    codes = _read(index_file, "item", IdParser()) if index_file else None
    taken = list(chain.from_iterable(histories.values()))
    items = in_order({*taken, *(texts or ()), *(codes or ())})
    if not items:
        raise ValueError(f"{inter_file} names no item; a data set needs at least one.")
    if codes is not None and (lacking := [item for item in items if item not in codes]):
        where = f"{index_file}, item {lacking[0]!r}"
        raise ValueError(f"{where}: no semantic ID; add one, or drop the file.")
    row = {item: index for index, item in enumerate(items)}
    offsets = offsets_of([*map(len, histories.values())])
    return InteractionDataset(
        name=name,
        items=tuple(items),
        users=tuple(histories),
        sequences=Sequences(offsets, np.fromiter(map(row.__getitem__, taken), np.int64)),
        texts=None if texts is None else tuple(texts.get(item, ItemText("")) for item in items),
        released_codes=None if codes is None else tuple(codes[item] for item in items),
        times=None if times_file is None else _read_times(times_file, offsets),
    )


def part_file(folder: Path, name: str, part: str) -> Path | None:
    """NAME.part.json in any capitalisation (LETTER's files are "Beauty.inter.json").

    The part "times" is NAME.times.safetensors.
    """
    exact = f"{name}.{part}.{'safetensors' if part == 'times' else 'json'}"
    paths = [path for path in folder.iterdir() if path.name.casefold() == exact.casefold()]
    return min(paths, key=lambda path: (path.name != exact, path.name), default=None)


def _read(path: Path, noun: str, parse: Callable[[Any], Parsed]) -> dict[str, Parsed]:
    """The file's one object with every value parsed; errors name the file and the place."""
    if not path.is_file():  # reading a pipe would never end
        raise ValueError(f"{path} is not a file that can be read: mend or delete it.")
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # it names line and column, or the byte
        raise ValueError(f"{path} must be a JSON object in UTF-8, but {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a JSON object with one entry per {noun}.")
    parsed = {}
    for key, value in content.items():
        try:
            parsed[key] = parse(value)
        except ValueError as error:
            raise ValueError(f"{path}, {noun} {key!r}: {error}.") from None
    return parsed


def read_texts(path: Path) -> dict[str, ItemText]:
    """The texts in an item file, by item; ValueError naming the file and the item."""
    return _read(path, "item", _item_text)


def write_texts(path: Path, texts: Mapping[str, ItemText]) -> None:
    """Write an item file, whole or not at all."""
    atomic_write(path, _object(texts, (json.dumps(vars(text)) for text in texts.values())))


def _history(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"the history is {value!r:.40}; it must be a list of item IDs")
    types = {*map(type, value)}
    if wrong := types - {int, str}:
        index, item = next((i, item) for i, item in enumerate(value) if type(item) in wrong)
        raise ValueError(f"entry {index} is {item!r:.40}; item IDs are integers or strings")
    return [*map(str, value)] if int in types else value


def _item_text(value: Any) -> ItemText:
    if not isinstance(value, dict):
        raise ValueError(f'the entry is {value!r:.40}; write an object such as {{"title": "Mug"}}')
    path = value.get("categories")
    if not isinstance(path, list):
        path = [name.strip() for name in _words("categories", path).split(",")]
    categories = tuple(filter(None, (_words("categories", name) for name in path)))
    words = {key: _words(key, value.get(key)) for key in ("title", "brand", "description")}
    return ItemText(categories=categories, **words)


def _words(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    # Exports made with pandas write a missing text as NaN, others as null.
    if value is None or value != value:
        return ""
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError(f"{key} is {value!r:.40}; it must be a string or a list of strings")
    return " ".join(value)


def write_folder(dataset: InteractionDataset, folder: str | Path) -> Path:
    """Write NAME.inter.json and, where there are some, texts and times; NAME is the folder's.

    The folder is made if it is missing. `load_folder` reads the same data set, but for its name,
    the order of its items and, without texts, items without interactions. The inter file is
    written last: if it exists, the data set is complete. Semantic IDs are not written.

    Raises:
        FileExistsError: if the folder already holds a data set of that name.
        NotADirectoryError: if `folder` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder for the data set.")
    name = folder.resolve().name
    for part in ("inter", "item", "index", "times"):
        if folder.exists() and (path := part_file(folder, name, part)):
            raise FileExistsError(f"{path} already exists: delete it, or name another folder.")
    quoted = [*map(json.dumps, dataset.items)]
    histories = (", ".join(map(quoted.__getitem__, items)) for items in dataset.sequences)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{part}.json" for part in ("item", "inter")]
    times_file = folder / f"{name}.times.safetensors"
    try:
        if dataset.times is not None:
            times = {field: getattr(dataset.times, field) for field in ("offsets", "values")}
            write_tensors(times_file, {key: torch.tensor(array) for key, array in times.items()})
        if dataset.texts is not None:
            write_texts(paths[0], dict(zip(dataset.items, dataset.texts, strict=True)))
        atomic_write(paths[1], _object(dataset.users, (f"[{items}]" for items in histories)))
    except BaseException:
        for path in (times_file, *paths):  # none was there before
            path.unlink(missing_ok=True)
        raise
    return folder


def _read_times(path: Path, offsets: Any) -> Sequences:
    """The times of the interactions, which must be those of the inter file."""
    with damage_named(path, "is damaged, import the data set again or delete it"):
        tensors, _ = read_tensors(path)
        times = Sequences(tensors["offsets"].numpy(), tensors["values"].numpy())
        if not np.array_equal(times.offsets, offsets):
            raise ValueError("it has the times of other histories than the inter file")
    return times


def _object(keys: Iterable[str], rows: Iterable[str]) -> str:
    """JSON with one entry a line, of rows that are JSON already."""
    lines = (f"{json.dumps(key)}: {row}" for key, row in zip(keys, rows, strict=True))
    return "{\n" + ",\n".join(lines) + "\n}\n"
