"""Downloads that go wrong: the old state or the new one, never between.

Short, missing, stalled and refused answers, and interrupts, are tested in test_downloads.py.
"""

import gc
import gzip
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nezha_lite import datasets
from nezha_lite.datasets import download as downloads
from nezha_lite.datasets.download import fetch
from tests.faults.answers import CONTENT, REGISTERED, Answer, Handler, Server
from tests.faults.promises import refused, tree
from tests.helpers.local_server import serving
from tests.helpers.runs import python

pytestmark = pytest.mark.fault_class("downloads")

OK = b"HTTP/1.0 200 OK\r\n"
OLD = {"tiny.inter.json": b"an older version"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(Server(), monkeypatch) as running:
        yield running


def get(server: Server, folder: Path, timeout: float = 5.0) -> list[Path]:
    return fetch("tiny", folder, server.url, REGISTERED, timeout, progressbar=False)


def fetching(server: Server, folder: Path) -> str:
    """The same as a program of its own."""
    return (
        "from tests.faults.answers import REGISTERED; "
        "from nezha_lite.datasets.download import fetch; "
        f"fetch('tiny', {str(folder)!r}, {server.url!r}, REGISTERED, 20.0, False)"
    )


def moved(status: int, place: str) -> Answer:
    return lambda handler, body: handler.reply(b"", status, Location=place)


def endless(handler: Handler, body: bytes) -> None:
    handler.reply(b"", length=None)
    while not handler.server.stopped.is_set():
        handler.wfile.write(body)


def chunked(*pieces: bytes) -> Answer:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return lambda handler, body: handler.raw(head, *pieces)


def says(length: str) -> Answer:
    return lambda handler, body: handler.reply(body, length=length)


def half_zipped(handler: Handler, body: bytes) -> None:
    zipped = gzip.compress(body)
    handler.reply(zipped[: len(zipped) // 2], Content_Encoding="gzip")


BAD: dict[str, Answer] = {
    "nothing": lambda handler, body: handler.reply(b""),
    "no content": lambda handler, body: handler.reply(b"", 204, None),
    "a part of it": lambda handler, body: handler.reply(body[:500], 206),
    "one bit altered": lambda handler, body: handler.reply(bytes([body[0] ^ 1]) + body[1:]),
    "a byte less": lambda handler, body: handler.reply(body[:-1]),
    "a byte more": lambda handler, body: handler.reply(body + b" "),
    "another file": lambda handler, body: handler.reply(CONTENT["index"]),
    "a page of HTML": lambda handler, body: handler.reply(b"<html>Please sign in</html>"),
    "a length too large": says("999999"),
    "a length of a billion": says(str(10**9)),
    "a length too small": says("5"),
    "a length of letters": lambda handler, body: handler.reply(body[:9], length="many"),
    "no end": endless,
    "zipped and cut": half_zipped,
    "not zipped, but said so": lambda handler, body: handler.reply(body, Content_Encoding="gzip"),
    "chunks that are cut": chunked(b"ff\r\nabc"),
    "chunks of nonsense": chunked(b"zz\r\nabc\r\n0\r\n\r\n"),
    "chunks without end": chunked(b"3\r\nabc\r\n"),
    "a chunk of 2^62 bytes": chunked(b"3fffffffffffffff\r\nabc"),
    "silence": lambda handler, body: handler.raw(),
    "no HTTP": lambda handler, body: handler.raw(b"SSH-2.0-OpenSSH\r\n"),
    "half a head": lambda handler, body: handler.raw(OK + b"Content-Le"),
    "two lengths": lambda handler, body: handler.reply(body, Content_Length="7"),
    "a head of 1000 fields": lambda handler, body: handler.raw(OK, b"X: y\r\n" * 1000, b"\r\n"),
    "a head without line ends": lambda handler, body: handler.raw(OK, b"X" * 100_000),
    "redirected in a circle": moved(302, "/Tiny/Tiny.inter.json"),
    "redirected to nowhere": moved(302, "/elsewhere.index.json"),
    "redirected without a place": lambda handler, body: handler.reply(b"", 302),
    "redirected to a closed port": moved(307, "http://127.0.0.1:1/"),
    "redirected to a file here": moved(302, "file:///etc/hostname"),
    "redirected to another protocol": moved(301, "ftp://127.0.0.1/x"),
    "redirected to no address": moved(302, "http://[::"),
    "redirected to an odd name": moved(302, "http://\u0080.example/"),
    "redirected to a port too high": moved(302, "http://127.0.0.1:99999/"),
    **{
        f"HTTP {status}": lambda handler, body, status=status: handler.reply(b"no", status)
        for status in (400, 401, 403, 404, 407, 410, 418, 429, 451, 500, 502, 503, 504, 599)
    },
}


# Where http.client gives up on a head, it leaves its closed socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("old", [{}, OLD], ids=["new", "older"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_keeps_the_old_state(
    name: str,
    old: dict[str, bytes],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloads, "LARGEST", 2**20)
    folder = tmp_path / "tiny"
    folder.mkdir()
    for part in ("item", "index"):
        (folder / f"tiny.{part}.json").write_bytes(CONTENT[part])
    for file, content in old.items():
        (folder / file).write_bytes(content)
    server.answer = BAD[name]
    words = ("try again", "run it again")
    sentence = refused(lambda: get(server, folder), ("http://127.0.0.1",), tmp_path)
    assert any(remedy in sentence for remedy in words)
    gc.collect()

    server.answer = None
    get(server, folder)
    whole = {f"tiny.{part}.json": content for part, content in CONTENT.items()}
    assert tree(folder) == whole


GOOD: dict[str, Answer] = {
    "slowly": lambda handler, body: handler.raw(
        OK + b"\r\n", body[:1], body[1:2], body[2:9000], body[9000:], pause=0.05
    ),
    "zipped": lambda handler, body: handler.reply(gzip.compress(body), Content_Encoding="gzip"),
    "in chunks": lambda handler, body: chunked(
        b"%x\r\n" % len(body[:7]) + body[:7] + b"\r\n",
        b"%x\r\n" % len(body[7:]) + body[7:] + b"\r\n0\r\n\r\n",
    )(handler, body),
    "with a negative length": says("-1"),
    "with a length of 5000 digits": says("9" * 5000),
    "without a length": lambda handler, body: handler.reply(body, length=None),
    "from another place": moved(302, "/Tiny/../other.right.json"),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_odd_answer_with_the_right_file_is_taken(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONTENT, "right", CONTENT["inter"])
    server.answer = GOOD[name]
    get(server, tmp_path)
    assert (tmp_path / "tiny.inter.json").read_bytes() == CONTENT["inter"]
    assert len(tree(tmp_path)) == 3


def test_two_at_once_both_end_with_whole_files(server: Server, tmp_path: Path) -> None:
    server.answer = GOOD["slowly"]
    with ThreadPoolExecutor(4) as pool:
        for paths in pool.map(lambda _: get(server, tmp_path), range(4)):
            assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert len(tree(tmp_path)) == 3


def test_one_that_fails_beside_another_takes_nothing_from_it(
    server: Server, tmp_path: Path
) -> None:
    """Of two downloads at once the second is cut off; the first still ends with whole files."""
    calls = iter([GOOD["slowly"], BAD["a byte less"]])
    server.answer = lambda handler, body: next(calls)(handler, body)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(get, server, tmp_path) for _ in range(2)]
        ended = [one.exception() for one in asked]
    assert [error is None for error in ended].count(True) == 1
    assert (tmp_path / "tiny.inter.json").read_bytes() == CONTENT["inter"]
    assert len(tree(tmp_path)) == 3


@pytest.mark.slow
def test_two_processes_at_once(server: Server, tmp_path: Path) -> None:
    server.answer = GOOD["slowly"]
    code = fetching(server, tmp_path)
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda _: python("-c", code), range(2)):
            assert done.returncode == 0, done.stderr
    assert tree(tmp_path) == {f"tiny.{part}.json": text for part, text in CONTENT.items()}


def test_a_full_disk_keeps_the_old_state(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.inter.json").write_bytes(OLD["tiny.inter.json"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large; nothing was kept: .*tiny\.inter\.json"):
            get(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "tiny.inter.json").read_bytes() == OLD["tiny.inter.json"]
    assert len(tree(tmp_path)) == 3
    get(server, tmp_path)
    assert (tmp_path / "tiny.inter.json").read_bytes() == CONTENT["inter"]


def test_a_folder_in_a_files_place_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.inter.json").mkdir()
    with pytest.raises(OSError, match=r"tiny\.inter\.json"):
        get(server, tmp_path)
    assert sorted(tree(tmp_path)) == [f"tiny.{part}.json" for part in ("index", "inter", "item")]


def test_a_download_that_failed_is_not_taken_for_a_data_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "REGISTRY", REGISTERED)
    monkeypatch.setattr(datasets, "fetch", lambda name, folder: get(server, folder))
    server.answer = BAD["a byte less"]
    with pytest.raises(ValueError, match="did not send the file that was pinned"):
        datasets.load_dataset("tiny", downloads=tmp_path)
    with pytest.raises(ValueError, match="did not send the file that was pinned"):
        datasets.load_dataset("tiny", downloads=tmp_path)
    server.answer = None
    assert datasets.load_dataset("tiny", downloads=tmp_path).items == ("1",)


def test_a_killed_download_leaves_the_old_files(server: Server, tmp_path: Path) -> None:
    """Killed amid the last file, with no chance to clean up; the next call makes it whole."""
    begun = threading.Event()

    def answer(handler: Handler, body: bytes) -> None:
        handler.reply(body[:70_000], length=str(len(body)))
        begun.set()
        handler.server.stopped.wait(20)

    (tmp_path / "tiny.inter.json").write_bytes(OLD["tiny.inter.json"])
    server.answer = answer
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", fetching(server, tmp_path)], env=environment, stderr=subprocess.PIPE
    )
    try:
        assert begun.wait(60)
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert (tmp_path / "tiny.inter.json").read_bytes() == OLD["tiny.inter.json"]
    server.answer = None
    assert [path.read_bytes() for path in get(server, tmp_path)] == list(CONTENT.values())
