"""Semantic IDs as programs write them in JSON: tokens, whole numbers, or one string."""

from __future__ import annotations

import re
from string import ascii_lowercase
from typing import Any

_TOKEN = re.compile("<([^<>]*?)([0-9]{1,9})>|()([0-9]{1,9})")
_FIRST = re.compile("(.*)a([^a-z]*)")  # the prefix of level 1 where letters number the levels


class IdParser:
    """Reads the IDs of one file, which are all written alike.

    An ID is a list of tokens such as "<a_1>" or "<s_a_1>", a list of whole numbers, or one string:
    "<a_1><b_2>", "1 2" or "1,2". What stands before the code is the same for a level in all IDs;
    letters that differ between levels are a, b, c and so on.

    >>> parse = IdParser()
    >>> parse(["<s_a_1>", "<s_b_2>"]), parse("<s_a_0><s_b_7>")
    ((1, 2), (0, 7))
    """

    def __init__(self) -> None:
        self._levels: int | None = None
        self._prefixes: list[str | None] = []  # of each level; as the first ID is written

    def __call__(self, value: Any) -> tuple[int, ...]:
        """The codes of an ID; ValueError, without a full stop, says what is wrong with it."""
        tokens = _tokens(value) if isinstance(value, str) else value
        if not isinstance(tokens, list) or not 0 < len(tokens) <= len(ascii_lowercase):
            raise ValueError(
                f'the semantic ID is {value!r:.40}; write a list such as ["<a_183>"] or [183], or '
                'one text such as "<a_183><b_70>"'
            )
        if self._levels not in (None, len(tokens)):
            raise ValueError(f"it must have {self._levels} tokens, as others do")
        codes = []
        for level, token in enumerate(tokens):
            match = _TOKEN.fullmatch(str(token)) if type(token) in (int, str) else None
            prefix = match[1] if match else None  # None for a plain number
            if match and level == len(self._prefixes):
                lettered = _FIRST.fullmatch(self._prefixes[0] or "") if level else None
                if lettered and prefix != self._prefixes[0]:
                    prefix = f"{lettered[1]}{ascii_lowercase[level]}{lettered[2]}"
                self._prefixes.append(prefix)
            if not match or match[1] != self._prefixes[level]:
                raise ValueError(f"the token {token!r:.40} must read {self._valid(level)}")
            codes.append(int(match[2] or match[4]))
        self._levels = len(codes)
        return tuple(codes)

    def _valid(self, level: int) -> str:
        default = f"{ascii_lowercase[level]}_"
        prefix = self._prefixes[level] if level < len(self._prefixes) else default
        example = "183, as others do" if prefix is None else f"<{prefix}183>"
        return f"{example}, with any code below a billion"


def _tokens(text: str) -> list[str]:
    joined = "".join(text.split())
    tokens = re.findall("<[^<>]*>", joined)
    return tokens if "".join(tokens) == joined else re.split(r"[\s,]+", text.strip())
