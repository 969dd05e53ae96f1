"""A file is the old one or the new one, never something between; damage is one sentence."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from nezha_lite.common.files import (
    atomic_write,
    damage_named,
    parse_json,
    read_json,
    read_tensors,
    write_tensors,
)


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


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "folder"
    with pytest.raises(OSError, match=rf"nothing was written.*{re.escape(str(path))}") as caught:
        atomic_write(path, "text")
    assert caught.value.filename == str(path)


# ---- JSON ----------------------------------------------------------------------------------------


def test_json_is_read_as_python_reads_it(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, True, {}], "b": "\U0001f600 \\ud83d", "c": {}}
    path = tmp_path / "file.json"
    for ascii_only in (True, False):
        path.write_text(json.dumps(content, ensure_ascii=ascii_only), encoding="utf-8")
        assert read_json(path) == content


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' occurs 2 times in one object"),
        ('[1,\n "\\ud83d"]', r"\\ud83d in line 2 is half a character"),
        ("[" * 100_000, "it is nested too deeply"),
        ("9" * 5000, "more than 4,300 digits"),
        ("{", "line 1 column 2"),
    ],
)
def test_what_is_not_strict_json_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(ValueError, match=rf"file\.json is not JSON: .*{reason}"):
        read_json(tmp_path / "file.json")


# ---- tensors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [None, {"kind": "toy"}])
def test_tensors_come_back_with_their_metadata(
    metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    tensors = {"codes": torch.arange(6).reshape(2, 3).T, "scale": torch.tensor(0.1)}
    path = tmp_path / "file.safetensors"
    write_tensors(path, tensors, metadata)
    read, read_metadata = read_tensors(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert read_metadata == (metadata or {})
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_tensor_file_is_missing_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    with pytest.raises(FileNotFoundError, match="There is no file"), damage_named(path, "is bad"):
        read_tensors(path)
    path.mkdir()
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_tensors(path)


def test_a_damaged_tensor_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SafetensorError):
        read_tensors(path)
    sentence = r"file\.safetensors is damaged: [^\n]+$"
    with pytest.raises(ValueError, match=sentence), damage_named(path, "is damaged"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("codes are\n  negative"), "FILE is bad: codes are negative"),
        (TypeError("no tensor"), "FILE is bad: no tensor"),
        (RuntimeError("x" * 1000), "FILE is bad: " + "x" * 300),
        (KeyError("levels"), "FILE is bad: KeyError: 'levels'"),
        (AttributeError("items"), "FILE is bad: AttributeError: items"),
    ],
)
def test_damage_is_named_with_its_file(error: Exception, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^FILE is bad") as caught, damage_named("FILE", "is bad"):
        raise error
    assert str(caught.value) == sentence
    assert caught.value.__cause__ is error


def test_errors_that_are_not_of_the_content_pass() -> None:
    with pytest.raises(KeyboardInterrupt), damage_named("FILE", "is bad"):
        raise KeyboardInterrupt
    with pytest.raises(PermissionError), damage_named("FILE", "is bad"):
        raise PermissionError
