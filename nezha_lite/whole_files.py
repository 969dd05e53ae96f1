"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


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
