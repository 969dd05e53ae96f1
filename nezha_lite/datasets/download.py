"""Download the public data sets, pinned to one commit and checked byte for byte.

The files are Amazon and Yelp reviews in the form prepared by LETTER's authors (Wang et al., CIKM
2024). They are for research use and carry no licence to redistribute, so this repository holds
only their addresses and hashes.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from nezha_lite.common.checks import check

BASE_URL = (
    "https://raw.githubusercontent.com/HonghuiBao2000/LETTER/"
    "8d0154e28de37dbb6e24871c508ad8ddb1921cda/data"
)

LARGEST = 2**28  # bytes, far more than any pinned file has, so that an endless answer ends

# Name → part → hash: a SHA-256 of 64 digits, or a git blob id of 40 digits (the SHA-1 of
# "blob <size>\0" and the content) for the two files of which only that is published.
# The inter file comes last: where it exists in a folder, the download before it was complete.
REGISTRY: Mapping[str, Mapping[str, str]] = {
    "beauty": {
        "item": "098205baf4a483b818507dc98c4b9bc9151a69f0",
        "index": "be3fb890e59b5443824cdebc560ef349191b97f20d3aecad4727de2d6b212c82",
        "inter": "8809584b8b78fa6561771c88911ed65bd716fc9926fca1e581e6a1ab578ccfd5",
    },
    "instruments": {
        "item": "e1b565483dc55f63dc260aab13d0b3e1d73420fd",
        "index": "33c87e28c52ae367985bdf494cb49d676d181e13a39497b4ad035f46111546dd",
        "inter": "0a11d47791d90483005da93c36d826679e20e4592d1d2b86518d5f56f218e743",
    },
    "yelp": {
        "item": "8f58a9d54111fc10ccd675f99e6f2afe988cd0ee70b40f1e37d04f9aea764c2d",
        "index": "7468278b33ae2174c0d230d5e49d0c93e1dedd9cdc8c5f58c983574c14a62b2b",
        "inter": "22069fef8afd1d53fe9e0aaa385a6c93f7b43e43574fb10f5f5155fa2c869a97",
    },
}

_Downloader = Callable[[str, str, Any], None]  # pooch's interface: address, file to write, pooch


def fetch(
    name: str,
    folder: str | Path,
    base_url: str = BASE_URL,
    registry: Mapping[str, Mapping[str, str]] = REGISTRY,
    timeout: float = 30.0,
    progressbar: bool = True,
) -> list[Path]:
    """Make `folder` hold the data set's files as `<name>.<part>.json`; returns their paths.

    A file that exists and is intact is used as it is, so a second call sends no request and a call
    after a failure continues at the first missing file. A file gets its name only after its hash
    was checked. `timeout` is in seconds: to connect, and between two reads of the server's answer.

    Raises ValueError for an unknown name or altered content, FileNotFoundError where the server
    has no such file, TimeoutError, and ConnectionError for every other failure of the network.
    """
    check(name in registry, "name", name, f"one of {', '.join(registry)}")
    check(timeout > 0, "timeout", timeout, "above 0 seconds")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give a folder to download {name} into.")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for part, digest in registry[name].items():
        path = folder / f"{name}.{part}.json"
        if not (path.is_file() and matches(path, digest)):
            url = f"{base_url}/{name.capitalize()}/{name.capitalize()}.{part}.json"
            _download(url, path, digest, timeout, progressbar)
        paths.append(path)
    return paths


def matches(path: Path, digest: str) -> bool:
    """Whether a file's content has this hash, a SHA-256 or a git blob id as in REGISTRY."""
    content = path.read_bytes()
    if len(digest) == 64:
        return hashlib.sha256(content).hexdigest() == digest
    blob = b"blob %d\0" % len(content) + content
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == digest


def _download(url: str, path: Path, digest: str, timeout: float, progressbar: bool) -> None:
    """Download one file; it gets its name when it is complete and right."""
    try:
        _retrieve(url, path, digest, _downloader(timeout, progressbar))
    except OSError as error:
        if hasattr(error, "response"):  # an error of requests, which has no errno
            raise _network_error(error, url, path, timeout) from None
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}; nothing was kept", str(path)) from None
    except ValueError as error:
        raise ValueError(
            f"{url} did not send the file that was pinned: {error}; nothing was kept, try again "
            "later."
        ) from None


def _retrieve(url: str, path: Path, digest: str, downloader: _Downloader) -> None:
    # Imported here so that reading the sample does not wait for it.
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # the progress bar says enough
    # pooch cannot check a git blob id: it downloads to another name, and the check is ours.
    part = path.with_name(f".{uuid4().hex[:16]}.part")
    try:
        pooch.retrieve(url, None, part.name, part.parent, downloader=downloader)
        if not matches(part, digest):
            raise ValueError(f"its hash is not {digest}")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class _LimitedFile(io.BufferedWriter):
    """A file that refuses to become larger than any pinned file is."""

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        return super().write(content)


def _downloader(timeout: float, progressbar: bool) -> _Downloader:
    import pooch

    def download(url: str, file: str, _: object) -> None:
        answers: list[Any] = []  # also those that redirect: all must be closed

        def note(answer: Any, **_: object) -> None:
            answers.append(answer)
            # pooch reads the length for its progress bar only, but fails on one that is no number.
            if not re.fullmatch("[0-9]{1,18}", answer.headers.get("content-length", "0")):
                del answer.headers["content-length"]

        http = pooch.HTTPDownloader(progressbar, 2**16, timeout=timeout, hooks={"response": note})
        os.unlink(file)  # only its owner may read the one that pooch made; a new one is as usual
        try:
            with _LimitedFile(io.FileIO(file, "w")) as output:
                http(url, output, None)
        finally:
            for answer in answers:
                answer.close()

    return download


def _network_error(error: Any, url: str, path: Path, timeout: float) -> OSError:
    if error.response is not None and not error.response.ok:
        status = error.response.status_code
        kind = FileNotFoundError if status in (404, 410) else ConnectionError
        return kind(
            f"{url} answered HTTP {status}; place {path.name} in {path.parent} by hand, "
            "or try again later."
        )
    if "timed out" in str(error):
        return TimeoutError(
            f"{url} sent nothing for {timeout:g} seconds; run it again to go on at this file, or "
            "pass a larger timeout."
        )
    return ConnectionError(
        f"{url} could not be read to its end ({type(error).__name__}); check the network and run "
        "it again to go on at this file."
    )
