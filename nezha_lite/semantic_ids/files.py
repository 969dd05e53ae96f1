"""Semantic IDs on disk: JSON for people and other programs, safetensors for speed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nezha_lite.common.checks import check
from nezha_lite.common.files import atomic_write, parse_json, read_tensors, write_tensors

SEMANTIC_IDS_FILE = "semantic_ids.safetensors"  # in a folder that training or a tokenizer wrote


def write_semantic_ids(
    path: Path, codes: Tensor, radices: Sequence[int], items: Sequence[str]
) -> None:
    """Write to a .json or .safetensors file, whole or not at all; ValueError for another name."""
    header = {"radices": list(radices), "items": list(items)}
    if path.suffix == ".json":
        content = json.dumps({**header, "codes": codes.tolist()}, ensure_ascii=False)
        atomic_write(path, content + "\n")
    elif path.suffix == ".safetensors":
        metadata = {name: json.dumps(value) for name, value in header.items()}
        write_tensors(path, {"codes": codes}, metadata)
    else:
        raise ValueError(
            f"Semantic IDs are saved as .json or .safetensors, but the path is {path}."
        )


def read_semantic_ids(path: Path) -> tuple[Tensor, list[int], list[str]]:
    """Codes (N, L) of any integer type, radices and names.

    Raises LookupError, TypeError, ValueError or SafetensorError, which do not name the file.
    """
    if path.suffix == ".json":
        header = parse_json(path.read_text(encoding="utf-8"))
        codes = _codes(header["codes"])
    else:
        tensors, metadata = read_tensors(path)
        codes, header = tensors["codes"], {k: parse_json(v) for k, v in metadata.items()}
        whole = not (codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool)
        check(whole, "The dtype of codes", codes.dtype, "one of whole numbers")
    radices, items = _list("radices", header["radices"]), _list("items", header["items"])
    for radix in radices:
        check(type(radix) is int, "A value of radices", radix, "a whole number")
    for name in items:
        check(isinstance(name, str), "A value of items", name, "text")
    if len(set(items)) < len(items):
        name, times = Counter(items).most_common(1)[0]
        raise ValueError(f"items names {name!r:.40} {times} times, but names are unique.")
    return codes, radices, items


def _codes(rows: Any) -> Tensor:
    """Rows of whole numbers, equally many in each."""
    levels = len(_list("codes", rows[0])) if _list("codes", rows) else 0
    for index, row in enumerate(rows):
        if len(_list("codes", row)) != levels:
            raise ValueError(f"row {index} of codes has {len(row)} levels, but row 0 has {levels}.")
        for code in row:
            if type(code) is not int or not -(2**63) <= code < 2**63:
                raise ValueError(f"row {index} of codes holds {code!r:.40}: no whole number.")
    return torch.tensor(rows, dtype=torch.int64)


def _list(name: str, value: Any) -> list[Any]:
    check(isinstance(value, list), name, value, "a list")
    return cast(list[Any], value)


def without_lists(fields: dict[str, Any]) -> dict[str, Any]:
    """A config's fields read from JSON, with tuples for lists: JSON has no tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
