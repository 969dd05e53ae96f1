"""Files: written whole or not at all; JSON and tensors read strictly."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from nezha_lite.common.memory import out_of_memory

# An escaped backslash, a whole surrogate pair, or (as group 1) half of one.
_ESCAPES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def parse_json(text: str) -> Any:
    """What JSON text holds; raises nothing but a ValueError that says what is wrong and where.

    Also wrong: a key that stands twice in an object, of which Python would keep the last; half a
    surrogate pair, which no file could be written with; and lists nested thousands deep.
    """
    for escape in _ESCAPES.finditer(text):
        if escape[1]:
            line = text.count("\n", 0, escape.start()) + 1
            raise ValueError(f"{escape[1]} in line {line} is half a character")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        if "Exceeds the limit" not in str(error):
            raise
        raise ValueError("a number in it has more than 4,300 digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        key, times = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {key!r} occurs {times} times in one object")
    return unique


def atomic_write(path: str | Path, content: bytes | str) -> None:
    """Replace `path` by `content` (text as UTF-8) in one step; a failure leaves the old file.

    Raises OSError naming `path`: its folder is missing or a file, the disk is full, and so on.
    """
    path = Path(path)
    # Each writer has a name of its own, threads included; a short one, for `path.name` may be as
    # long as a name can be.
    unfinished = path.with_name(f".{uuid4().hex[:16]}.part")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(unfinished, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}; nothing was written", str(path)) from None
    finally:
        with suppress(OSError):  # nothing to delete where its folder is missing or a file
            unfinished.unlink(missing_ok=True)


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises FileNotFoundError; ValueError naming the file if it is not JSON, see `parse_json`.
    """
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file by name, and its metadata (empty where it has none).

    Raises FileNotFoundError, or SafetensorError for a damaged file; see `damage_named`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file in one step; raises what `atomic_write` does."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    atomic_write(path, save(whole, dict(metadata) if metadata else None))


@contextmanager
def damage_named(path: str | Path, sentence: str) -> Iterator[None]:
    """Whatever fails while a file's content is read becomes ValueError "PATH SENTENCE: reason".

    An OSError and a lack of memory pass: the file is missing, or large, but not damaged.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or out_of_memory(error):
            raise
        # PyTorch's messages have many lines.
        reason = " ".join(str(error).split())
        if isinstance(error, AttributeError | LookupError):
            reason = f"{type(error).__name__}: {reason}"
        raise ValueError(f"{path} {sentence}: {reason:.300}") from error
