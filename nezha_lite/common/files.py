"""JSON as other people's files hold it: what Python's reader lets through or trips over."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

# An escaped backslash, a whole surrogate pair, or (as group 1) half of one.
_ESCAPES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def parse_json(text: str) -> Any:
    """What JSON text holds; raises nothing but a ValueError that says what is wrong and where.

    Also wrong: a key that stands twice in an object, of which Python would keep the last; half a
    surrogate pair, which no file could be written with; and lists nested thousands deep.
    """
    if "\\u" in text:
        for found in _ESCAPES.finditer(text):
            if found[1]:
                line = text.count("\n", 0, found.start()) + 1
                raise ValueError(f"{found[1]} in line {line} is half a character")
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
    key, times = Counter(key for key, _ in pairs).most_common(1)[0] if pairs else ("", 0)
    if times > 1:
        raise ValueError(f"the key {key!r} occurs {times} times in one object")
    return dict(pairs)


def write_whole(path: str | Path, content: bytes | str) -> None:
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
