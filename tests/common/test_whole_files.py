"""A file is the old one or the new one, never something between."""

import os
from pathlib import Path

import pytest

from nezha_lite.common.files import atomic_write


@pytest.mark.parametrize("content", ["größer", "größer".encode()])
def test_the_new_file_replaces_the_old_one(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, "old and longer")
    atomic_write(path, content)
    assert path.read_text(encoding="utf-8") == "größer"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write", "replace"])
def test_a_failure_leaves_the_old_one(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    atomic_write(path, "old")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(*((Path, "write_bytes") if step == "write" else (os, "replace")), full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
