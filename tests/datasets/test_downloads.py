"""Downloads against a local server: good, short, altered, slow, missing and refused files."""

import hashlib
import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from nezha_lite.datasets.download import BASE_URL, REGISTRY, fetch, matches
from tests.helpers.local_server import LocalServer, serving

CONTENT = {
    "item": b'{"1": {"title": "Mug"}}',
    "index": b'{"1": ["<a_1>"]}',
    "inter": b'{"u": [1, 1, 1]}' + b" " * 200_000,  # several chunks
}


PINS = {part: hashlib.sha256(content).hexdigest() for part, content in CONTENT.items()}
# A git blob id, as two of the real files have.
BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT["item"]) + CONTENT["item"]).hexdigest()
REGISTERED = {"tiny": {**PINS, "item": BLOB}}
ALL = ["tiny.index.json", "tiny.inter.json", "tiny.item.json"]


class Server(LocalServer):
    """Serves CONTENT as /Tiny/Tiny.<part>.json, or as `faults` says; keeps the paths asked for."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.requested: list[str] = []
        self.faults: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    server: Server
    parts: ClassVar = {f"/Tiny/Tiny.{part}.json": part for part in CONTENT}

    def do_GET(self) -> None:
        self.server.requested.append(self.path)
        part = self.parts[self.path]
        content, fault = CONTENT[part], self.server.faults.get(part)
        if fault == "silent":
            self.server.stopped.wait(20)
            return
        if fault in ("404", "503"):
            self.send_error(int(fault))
            return
        if fault == "altered":
            content = content.replace(b"1", b"2", 1)
        self.send_response(200)
        if fault != "no length":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault in ("short", "stalling", "no length"):
            content = content[: len(content) // 2]
        self.wfile.write(content)
        if fault == "stalling":
            self.wfile.flush()
            self.server.stopped.wait(20)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(Server(), monkeypatch) as running:
        yield running


def get(server: Server, folder: Path, timeout: float = 10.0) -> list[Path]:
    return fetch("tiny", folder, server.url, REGISTERED, timeout, progressbar=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_arrive_whole_and_inter_comes_last(server: Server, tmp_path: Path) -> None:
    paths = get(server, tmp_path / "new" / "tiny")
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert names(tmp_path / "new" / "tiny") == ALL
    assert server.requested == [f"/Tiny/Tiny.{part}.json" for part in CONTENT]


def test_a_second_call_sends_no_request(server: Server, tmp_path: Path) -> None:
    first = get(server, tmp_path)
    server.requested.clear()
    assert get(server, tmp_path) == first
    assert server.requested == []


def test_only_what_is_missing_or_changed_is_fetched(server: Server, tmp_path: Path) -> None:
    get(server, tmp_path)
    server.requested.clear()
    (tmp_path / "tiny.item.json").unlink()
    (tmp_path / "tiny.index.json").write_bytes(b"edited")
    get(server, tmp_path)
    assert server.requested == ["/Tiny/Tiny.item.json", "/Tiny/Tiny.index.json"]
    assert (tmp_path / "tiny.index.json").read_bytes() == CONTENT["index"]


FAULTS = [
    ("404", FileNotFoundError, r"Tiny.inter.json answered HTTP 404; place tiny.inter.json in"),
    ("503", ConnectionError, r"Tiny.inter.json answered HTTP 503.*try again later"),
    ("short", ConnectionError, r"Tiny.inter.json could not be read to its end"),
    (
        "no length",
        ValueError,
        r"Tiny.inter.json did not send the file.*: its hash is not",
    ),
    (
        "altered",
        ValueError,
        r"Tiny.inter.json did not send the file.*: its hash is not",
    ),
    ("stalling", TimeoutError, r"Tiny.inter.json sent nothing for 0.3 seconds"),
    ("silent", TimeoutError, r"Tiny.inter.json sent nothing for 0.3 seconds"),
]


@pytest.mark.parametrize(("fault", "kind", "message"), FAULTS, ids=[row[0] for row in FAULTS])
@pytest.mark.parametrize("old", [None, b"an older version"])
def test_a_failure_keeps_the_old_state_and_the_next_call_goes_on(
    server: Server,
    tmp_path: Path,
    fault: str,
    kind: type[Exception],
    message: str,
    old: bytes | None,
) -> None:
    if old is not None:
        (tmp_path / "tiny.inter.json").write_bytes(old)
    server.faults["inter"] = fault
    with pytest.raises(kind, match=message) as caught:
        get(server, tmp_path, timeout=0.3)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == (ALL if old is not None else [ALL[0], ALL[2]])
    if old is not None:
        assert (tmp_path / "tiny.inter.json").read_bytes() == old

    server.faults.clear()
    server.requested.clear()
    get(server, tmp_path)
    assert server.requested == ["/Tiny/Tiny.inter.json"]
    assert (tmp_path / "tiny.inter.json").read_bytes() == CONTENT["inter"]
    assert names(tmp_path) == ALL


def test_a_failure_of_the_first_file_leaves_an_empty_folder(server: Server, tmp_path: Path) -> None:
    server.faults["item"] = "altered"
    with pytest.raises(ValueError, match="did not send the file that was pinned"):
        get(server, tmp_path)
    assert names(tmp_path) == []
    assert len(server.requested) == 1


@pytest.mark.parametrize("digits", [40, 64])
def test_another_hash_is_refused(server: Server, tmp_path: Path, digits: int) -> None:
    (tmp_path / "tiny.item.json").write_bytes(b"old")
    with pytest.raises(ValueError, match="its hash is not 000"):
        fetch("tiny", tmp_path, server.url, {"tiny": {"item": "0" * digits}}, progressbar=False)
    assert names(tmp_path) == ["tiny.item.json"]
    assert (tmp_path / "tiny.item.json").read_bytes() == b"old"


def test_files_may_be_read_by_whom_new_files_may(server: Server, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    assert {path.stat().st_mode for path in get(server, tmp_path)} == {
        (tmp_path / "new").stat().st_mode
    }


def test_a_refused_connection_is_one_sentence(tmp_path: Path, server: Server) -> None:
    with Server() as closed:
        url = closed.url
    with pytest.raises(ConnectionError, match=r"Tiny.item.json could not be read.*check the net"):
        fetch("tiny", tmp_path, url, REGISTERED, progressbar=False)
    assert names(tmp_path) == []


@pytest.mark.parametrize("step", ["rename", "replace"])  # pooch's, and ours for a git blob id
def test_an_interrupt_leaves_nothing_half_written(
    step: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path)
    assert names(tmp_path) == []


def test_a_progress_bar_goes_to_stderr(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch("tiny", tmp_path, server.url, REGISTERED)
    captured = capsys.readouterr()
    assert "100%" in captured.err
    assert captured.out == ""


def test_bad_arguments_are_refused_before_any_request(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name is 'toys', but must be one of tiny"):
        fetch("toys", tmp_path, server.url, REGISTERED)
    with pytest.raises(ValueError, match="timeout is 0, but must be above 0 seconds"):
        fetch("tiny", tmp_path, server.url, REGISTERED, timeout=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        fetch("tiny", tmp_path / "file", server.url, REGISTERED)
    assert server.requested == []


def test_the_registry_pins_every_file_to_one_commit() -> None:
    commit = BASE_URL.rsplit("/", 2)[1]
    assert BASE_URL.startswith("https://")
    assert len(commit) == 40
    assert set(commit) <= set("0123456789abcdef")
    assert list(REGISTRY) == ["beauty", "instruments", "yelp"]
    for pins in REGISTRY.values():
        assert list(pins) == ["item", "index", "inter"]
        assert all(len(bytes.fromhex(digest)) in (20, 32) for digest in pins.values())
    hashes = [digest for pins in REGISTRY.values() for digest in pins.values()]
    assert len(set(hashes)) == 9
    assert [len(digest) for digest in hashes].count(40) == 2, "all others have a SHA-256"


@pytest.mark.parametrize(("part", "indent"), [("index", None), ("inter", 4)])
def test_the_pinned_beauty_files_are_the_real_ones(
    tmp_path: Path, part: str, indent: int | None
) -> None:
    """A copy at hand may be laid out differently: written as the authors did, the hash fits."""
    local = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("NEZHA_REAL_DATA", local)) / "beauty" / f"beauty.{part}.json"
    if not path.is_file():
        pytest.skip("the real data set is not here")
    (tmp_path / "copy").write_text(json.dumps(json.loads(path.read_text()), indent=indent))
    assert matches(tmp_path / "copy", REGISTRY["beauty"][part])
