"""The map from items to their semantic IDs as a table for people and other programs.

One CSV row for each item: its name, its codes level by level (a column `code_1_of_64` is level 1,
whose codebook has 64 codes), the key and the title. A cell that a spreadsheet would run as a
formula, because it begins with = + - @ or a control character, gets an apostrophe in front, and so
does one that begins with an apostrophe: `read_sid_map` takes off exactly one.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from nezha_lite.common.files import atomic_write, damage_named
from nezha_lite.datasets import InteractionDataset
from nezha_lite.datasets.tables import quoted_rows
from nezha_lite.semantic_ids.catalogue import SemanticIds

# What spreadsheets read as the start of a formula (OWASP, "CSV injection"), and our own escape.
_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_CODE = re.compile("code_[0-9]{1,4}_of_([0-9]{1,19})")


def sid_map_rows(
    semantic_ids: SemanticIds, dataset: InteractionDataset
) -> Iterator[tuple[str | int, ...]]:
    """The header, then one row for each item in catalogue order, without any escaping.

    Raises:
        ValueError: if the semantic IDs are those of another catalogue.
    """
    if semantic_ids.items != dataset.items:
        raise ValueError(
            f"The semantic IDs name {semantic_ids.n_items} items that are not the "
            f"{dataset.n_items} of data set {dataset.name!r}: take the ones made for it."
        )
    yield tuple(_columns(semantic_ids.radices))
    keys, codes = semantic_ids.keys.tolist(), semantic_ids.codes.tolist()
    for item, name in enumerate(dataset.items):
        yield (name, *codes[item], keys[item], dataset.title(item))


def sid_map_csv(semantic_ids: SemanticIds, dataset: InteractionDataset) -> str:
    """The table as CSV text, safe to open in a spreadsheet; see `sid_map_rows`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in sid_map_rows(semantic_ids, dataset):
        writer.writerow([_safe(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue()


def write_sid_map(path: str | Path, semantic_ids: SemanticIds, dataset: InteractionDataset) -> Path:
    """Write the table, whole or not at all, with the byte order mark by which Excel knows UTF-8.

    Raises:
        ValueError: as `sid_map_rows`.
    """
    path = Path(path)
    atomic_write(path, "\ufeff" + sid_map_csv(semantic_ids, dataset))
    return path


def read_sid_map(path: str | Path) -> SemanticIds:
    """The semantic IDs in a table that `write_sid_map` wrote.

    Raises:
        ValueError: naming file, line and column if it is no such table, or its keys are not those
            of its codes.
    """
    path = Path(path)
    lines, rows = quoted_rows(path)
    header = rows[0] if rows else []
    radices = [int(match[1]) for name in header[1:-2] if (match := _CODE.fullmatch(name))]
    columns = _columns(radices)
    if header != columns or not radices:
        raise ValueError(
            f"{path}, line 1: the columns must be item, code_1_of_…, …, key and title, as "
            "`write_sid_map` writes them."
        )
    names, numbers, lines = [], [], lines[1:]
    for line, (name, *cells, _) in zip(lines, rows[1:], strict=True):
        names.append(name.removeprefix("'"))
        for column, cell in zip(columns[1:-1], cells, strict=True):
            if not re.fullmatch("[0-9]{1,19}", cell):
                raise ValueError(
                    f"{path}, line {line}, column {column!r}: {cell!r:.40} is no code."
                )
        numbers.append([*map(int, cells)])
    with damage_named(path, "does not hold valid semantic IDs"):
        semantic_ids = SemanticIds.from_codes([row[:-1] for row in numbers], radices, names)
    for line, key, row in zip(lines, semantic_ids.keys.tolist(), numbers, strict=True):
        if key != row[-1]:
            raise ValueError(
                f"{path}, line {line}, column 'key': {row[-1]} is not the key of its codes, {key}."
            )
    return semantic_ids


def _columns(radices: Sequence[int]) -> list[str]:
    levels = [f"code_{level}_of_{radix}" for level, radix in enumerate(radices, 1)]
    return ["item", *levels, "key", "title"]


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_RISKY) else cell
