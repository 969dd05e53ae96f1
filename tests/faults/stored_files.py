"""Safetensors files with one fault each, and headers that lie."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

Change = Callable[[dict[str, Tensor], dict[str, str]], object]


def changed(path: Path, change: Change) -> None:
    """Write the file again after `change` has had its tensors and its metadata."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors, metadata)
    path.write_bytes(save({name: value.contiguous() for name, value in tensors.items()}, metadata))


def header_of(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def with_header(path: Path, header: dict[str, Any] | bytes, length: int | None = None) -> None:
    """Put another header before the file's tensors; `length` is what it says its length is."""
    content = path.read_bytes()
    (old,) = struct.unpack("<Q", content[:8])
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    said = len(raw) if length is None else length
    path.write_bytes(struct.pack("<Q", said) + raw + content[8 + old :])


def relabelled(path: Path, name: str, **fields: Any) -> None:
    """Let the header say something else of one tensor."""
    header = header_of(path)
    header[name] |= fields
    with_header(path, header)


def first_tensor(path: Path) -> str:
    return next(name for name in header_of(path) if name != "__metadata__")


def _grown(path: Path, **fields: Any) -> None:
    relabelled(path, first_tensor(path), **fields)


# What any safetensors file can suffer; each changes the file in place.
DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in its length": lambda path: path.write_bytes(path.read_bytes()[:5]),
    "cut in its header": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "cut in its last tensor": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "bytes behind its end": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 8),
    "NUL bytes": lambda path: path.write_bytes(bytes(len(path.read_bytes()))),
    "a pickle": lambda path: path.write_bytes(b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94."),
    "a zip archive": lambda path: path.write_bytes(b"PK\3\4" + bytes(60)),
    "JSON": lambda path: path.write_text('{"codes": [[0, 1]]}'),
    "a header of 2^63 bytes": lambda path: with_header(path, b"{}", 2**63),
    "a header beyond its end": lambda path: with_header(path, b"{}", 10**6),
    "a header that is no JSON": lambda path: with_header(path, b"{'codes'}"),
    "a header that is a list": lambda path: with_header(path, b"[]"),
    "a header in Latin-1": lambda path: with_header(path, b'{"\xe9": 1}'),
    "a header nested deep": lambda path: with_header(path, b'{"a":' * 5000),
    "a billion elements": lambda path: _grown(path, shape=[10**9]),
    "more elements than numbers": lambda path: _grown(path, shape=[2**62, 2**62]),
    "a negative shape": lambda path: _grown(path, shape=[-1, 2]),
    "an unknown type": lambda path: _grown(path, dtype="F12"),
    "offsets that run backwards": lambda path: _grown(path, data_offsets=[8, 0]),
    "offsets beyond its end": lambda path: _grown(path, data_offsets=[0, 2**40]),
    "no tensors": lambda path: path.write_bytes(save({}, {"format": "pt"})),
}
