"""A data set as a folder of JSON files, which every command and notebook reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nezha_lite.datasets.dataset import InteractionDataset
from nezha_lite.datasets.reading import part_file
from nezha_lite.whole_files import write_whole


def write_folder(dataset: InteractionDataset, folder: str | Path) -> Path:
    """Write NAME.inter.json and, with texts, NAME.item.json; NAME is the folder's.

    The folder is made if it is missing, and `load_folder` reads the data set back from it: under
    the folder's name, its items in `load_folder`'s order and, without texts, only those that
    somebody took. The inter file comes last, so its presence means that all is there. Semantic IDs
    are not written.

    Raises:
        FileExistsError: if the folder already holds a data set of that name.
        NotADirectoryError: if `folder` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder for the data set.")
    name = folder.resolve().name
    for part in ("inter", "item", "index"):
        if folder.exists() and (taken := part_file(folder, name, part)):
            raise FileExistsError(f"{taken} already exists: delete it, or name another folder.")
    histories = {
        user: [dataset.items[item] for item in sequence]
        for user, sequence in zip(dataset.users, dataset.sequences, strict=True)
    }
    contents = {"inter": _object(histories)}
    if dataset.texts is not None:
        texts = {
            item: asdict(text) for item, text in zip(dataset.items, dataset.texts, strict=True)
        }
        contents = {"item": _object(texts), **contents}
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for part, content in contents.items():
            path = folder / f"{name}.{part}.json"
            write_whole(path, content)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink()
        raise
    return folder


def _object(rows: Mapping[str, Any]) -> str:
    """JSON with one entry a line."""
    lines = (f"{json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"
