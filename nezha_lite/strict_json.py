"""JSON as other people's files hold it: what Python's reader lets through or trips over."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

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
