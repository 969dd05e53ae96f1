"""Semantic IDs and item vectors that another program made, brought into a data set's order by name.

Nothing is taken by its position alone: a file without names needs a file that names its rows.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nezha_lite.common.files import damage_named, parse_json, read_tensors
from nezha_lite.datasets import InteractionDataset
from nezha_lite.datasets.id_tokens import IdParser
from nezha_lite.semantic_ids.catalogue import SemanticIds
from nezha_lite.semantic_ids.files import SEMANTIC_IDS_FILE
from nezha_lite.semantic_ids.quantizers.base import check_vectors
from nezha_lite.semantic_ids.spreadsheet import read_sid_map

ID_FILES = ".json, .csv (written by `map`), .npy (with --names) or .safetensors"
VECTOR_FILES = (".npy", ".safetensors", ".parquet")
_DAMAGED = "does not hold valid semantic IDs"


def load_ids(
    path: str | Path,
    dataset: InteractionDataset,
    names: str | Path | None = None,
    radices: Sequence[int] | None = None,
) -> SemanticIds:
    """The semantic IDs in a file or a folder, in the order of the data set's items.

    Args:
        path: what `SemanticIds.save`, `ItemTokenizer.save` or `write_sid_map` wrote; JSON with an
            ID for each item, see `IdParser`; or codes (N, L) as .npy.
        dataset: whose items are named; a file may name more, which are left out with a warning.
        names: the items of a .npy file's rows, see `read_names`.
        radices: codes per level, one number for all levels or one for each, of a file that does not
            say them; default: the largest code plus one at each level.

    Raises:
        ValueError: naming the file and what is wrong or missing.
    """
    path = Path(path)
    path = path / SEMANTIC_IDS_FILE if path.is_dir() else path
    if path.suffix == ".npy":
        array = _array(path)
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise ValueError(
                f"{path} holds {array.dtype} of shape {array.shape}, but codes are whole numbers "
                "of shape (items, levels)."
            )
        items: Sequence[str] = _names_of_rows(path, names, len(array))
        codes = torch.from_numpy(array.astype(np.int64))
    elif path.suffix == ".json" and _is_index(content := _content(path)):
        items = list(content)
        with damage_named(path, _DAMAGED):
            codes = torch.tensor(_parse_index(content), dtype=torch.int64)
    elif path.suffix in (".json", ".csv", ".safetensors"):
        if radices or names:
            raise ValueError(f"{path} itself says what its items and radices are: name no others.")
        ids = (read_sid_map if path.suffix == ".csv" else SemanticIds.load)(path)
        items, codes, radices = ids.items, ids.codes, ids.radices
    else:
        raise ValueError(f"{path} cannot be read as semantic IDs: valid are files {ID_FILES}.")
    rows = rows_by_name(items, dataset, path)
    if radices is not None and len(radices) == 1:
        radices = [*radices] * codes.shape[1]
    with damage_named(path, _DAMAGED):
        whole = SemanticIds.from_codes(codes, radices, items)
    return SemanticIds(whole.codes[rows], whole.radices, dataset.items)


def read_vectors(
    path: str | Path, dataset: InteractionDataset, names: str | Path | None = None
) -> Tensor:
    """Item vectors from a file, in the order of the data set's items: (N, D) float32.

    Args:
        path: .npy (N, D), which needs `names`; .safetensors with one matrix, and the items as a
            JSON list in its metadata or in `names`; or .parquet with a column `item` (or a single
            column of text) and a column of lists, or one column of numbers for each dimension.
        dataset: as of `load_ids`.
        names: the items of the rows, see `read_names`.

    Raises:
        ValueError: naming the file and what is wrong or missing.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not a file: name item vectors as {', '.join(VECTOR_FILES)}.")
    items: list[str] | None = None
    if path.suffix == ".npy":
        matrix = _array(path)
    elif path.suffix == ".safetensors":
        with damage_named(path, "does not hold item vectors"):
            tensors, metadata = read_tensors(path)
            items = parse_json(metadata["items"]) if "items" in metadata else None
            matrices = [tensor for tensor in tensors.values() if tensor.ndim == 2]
            if len(matrices) != 1:
                raise ValueError(f"it has {len(matrices)} matrices, but one is needed")
            matrix = matrices[0].float().numpy()
    elif path.suffix == ".parquet":
        items, matrix = _parquet(path)
    else:
        raise ValueError(f"{path} cannot be read as vectors: valid are {', '.join(VECTOR_FILES)}.")
    if items is None or names is not None:
        items = _names_of_rows(path, names, len(matrix))
    with damage_named(path, "does not hold item vectors"):
        vectors = check_vectors(matrix)
    if len(items) != len(vectors):
        raise ValueError(f"{path} has {len(vectors)} rows, but names {len(items)} items.")
    return vectors[rows_by_name(items, dataset, path)]


def read_names(path: str | Path, unique: bool = True) -> list[str]:
    """Names, one a line, or a JSON list; blank lines do not count.

    Raises:
        ValueError: if there are none, or, where they must be unique, one stands twice or is empty.
        OSError: if the file cannot be read.
    """
    path = Path(path)
    with damage_named(path, "is not a text file in UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json":
        with damage_named(path, "must hold a JSON list of names"):
            names = [str(name) for name in parse_json(text)]
    else:  # names may hold other separators of lines
        names = [line.removesuffix("\r") for line in text.split("\n") if line.strip("\r")]
    if not names:
        raise ValueError(f"{path} holds no names; write one on each line.")
    if unique:
        _check_unique(names, path)
    return names


def rows_by_name(items: Sequence[str], dataset: InteractionDataset, path: Path) -> list[int]:
    """For each item of the data set, the position of its name among `items`.

    Raises:
        ValueError: if no name is the data set's, or one of its items is missing.

    Warns:
        UserWarning: if more are named than the data set has.
    """
    _check_unique(items, path)
    position = {name: row for row, name in enumerate(items)}
    missing = [name for name in dataset.items if name not in position]
    sentence = (
        f"{path} names {len(items)} items, but not the {dataset.n_items} of data set "
        f"{dataset.name!r}"
    )
    if len(missing) == dataset.n_items:
        example = f"one is called {items[0]!r:.40} there and " if items else ""
        raise ValueError(f"{sentence}: no name matches; {example}{missing[0]!r:.40} here.")
    if missing:
        raise ValueError(f"{sentence}: {len(missing)} are missing, such as {missing[0]!r:.40}.")
    if more := len(items) - dataset.n_items:
        own = set(dataset.items)
        example = next(name for name in items if name not in own)
        warnings.warn(
            f"{path} names {more} items that data set {dataset.name!r} does not have, such as "
            f"{example!r:.40}; they are left out.",
            stacklevel=3,
        )
    return [position[name] for name in dataset.items]


def _names_of_rows(path: Path, names: str | Path | None, n_rows: int) -> list[str]:
    if names is None:
        raise ValueError(
            f"{path} does not name the items of its {n_rows} rows: give a file with one name a "
            "line as --names."
        )
    items = read_names(names)
    if len(items) != n_rows:
        raise ValueError(f"{names} names {len(items)} items, but {path} has {n_rows} rows.")
    return items


def _check_unique(names: Sequence[str], path: str | Path) -> None:
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1 or "" in names:
        what = f"names {name!r:.40} {times} times" if times > 1 else "has an empty name"
        raise ValueError(f"{path} {what}, but each item has a name of its own.")


def _array(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"{path} is not a file.")
    with damage_named(path, "is not a NumPy file of numbers"):
        array = np.load(path)  # numbers alone: pickles are refused by default
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
            raise ValueError(f"it holds {getattr(array, 'dtype', type(array).__name__)}")
        return array


def _content(path: Path) -> Any:
    with damage_named(path, _DAMAGED):
        return parse_json(path.read_text(encoding="utf-8"))


def _is_index(content: Any) -> bool:
    return isinstance(content, dict) and not {"codes", "radices", "items"} <= content.keys()


def _parse_index(content: dict[str, Any]) -> list[tuple[int, ...]]:
    parse, codes = IdParser(), []
    for item, value in content.items():
        with damage_named(f"item {item!r}", "cannot be used"):
            codes.append(parse(value))
    return codes


def _parquet(path: Path) -> tuple[list[str], Any]:
    import polars as pl

    with damage_named(path, "does not hold item vectors"):
        table = pl.read_parquet(path)
        texts = [name for name, kind in table.schema.items() if kind == pl.String]
        name = "item" if "item" in table.columns else texts[0] if len(texts) == 1 else None
        if name is None:
            raise ValueError(f"no column is called 'item'; it has {table.columns[:9]}")
        lists = [one for one, kind in table.schema.items() if kind.is_nested()]
        if len(lists) == 1:
            matrix = np.array(table[lists[0]].to_list(), dtype=np.float32)
        else:
            matrix = table.select(pl.selectors.numeric().exclude(name)).to_numpy()
        return [str(item) for item in table[name]], matrix
