"""Fetch the public data sets, pinned to one commit and checked byte for byte.

The files are Amazon and Yelp reviews in the form prepared by LETTER's authors (Wang et
al., CIKM 2024). They are for research use and carry no licence to redistribute, so this
repository holds only their addresses and hashes.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    import requests

BASE_URL = (
    "https://raw.githubusercontent.com/HonghuiBao2000/LETTER/"
    "8d0154e28de37dbb6e24871c508ad8ddb1921cda/data"
)

LARGEST = 2**28  # bytes, far more than any pinned file has, so that an endless answer ends


@dataclass(frozen=True)
class PinnedFile:
    """One file of a data set: its part ("inter", "item" or "index") and what its bytes hash to.

    ``blob`` is git's object id, the SHA-1 of ``"blob <size>\\0"`` followed by the content; it is
    known for every file because the source is a git commit. ``sha256`` is checked where known.
    """

    part: str
    blob: str
    sha256: str | None = None

    def matches(self, path: Path) -> bool:
        """Whether ``path`` holds exactly this file."""
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return blob.hexdigest() == self.blob and (
            self.sha256 is None or hashlib.sha256(content).hexdigest() == self.sha256
        )


# The inter file comes last: where it lies in a folder, the download before it was complete.
REGISTRY: Mapping[str, tuple[PinnedFile, ...]] = {
    "beauty": (
        PinnedFile("item", "098205baf4a483b818507dc98c4b9bc9151a69f0"),
        PinnedFile(
            "index",
            "6711ba430c7a6889e60f908554f72aae8a038039",
            "be3fb890e59b5443824cdebc560ef349191b97f20d3aecad4727de2d6b212c82",
        ),
        PinnedFile(
            "inter",
            "9378c6e88224ebd22e57325d89edb8cfb73291ac",
            "8809584b8b78fa6561771c88911ed65bd716fc9926fca1e581e6a1ab578ccfd5",
        ),
    ),
    "instruments": (
        PinnedFile("item", "e1b565483dc55f63dc260aab13d0b3e1d73420fd"),
        PinnedFile(
            "index",
            "aacb28a8d908a4432c9eba9792b466436497da98",
            "33c87e28c52ae367985bdf494cb49d676d181e13a39497b4ad035f46111546dd",
        ),
        PinnedFile(
            "inter",
            "89733901ab247616059e03c620bf3edff59bc549",
            "0a11d47791d90483005da93c36d826679e20e4592d1d2b86518d5f56f218e743",
        ),
    ),
    "yelp": (
        PinnedFile(
            "item",
            "5e19bf60af056342e80a564cd6a8859a4faa236e",
            "8f58a9d54111fc10ccd675f99e6f2afe988cd0ee70b40f1e37d04f9aea764c2d",
        ),
        PinnedFile(
            "index",
            "6198e401fc8733f8cf26051a8a5133f3fee0b3ed",
            "7468278b33ae2174c0d230d5e49d0c93e1dedd9cdc8c5f58c983574c14a62b2b",
        ),
        PinnedFile(
            "inter",
            "c80dd3c4131613d694e6be909f0485fcec3b87e3",
            "22069fef8afd1d53fe9e0aaa385a6c93f7b43e43574fb10f5f5155fa2c869a97",
        ),
    ),
}


def fetch(
    name: str,
    folder: str | Path,
    base_url: str = BASE_URL,
    registry: Mapping[str, tuple[PinnedFile, ...]] = REGISTRY,
    timeout: float = 30.0,
    progressbar: bool = True,
) -> list[Path]:
    """Make ``folder`` hold the data set's files as ``<name>.<part>.json``; returns their paths.

    A file that is there and intact is used as it is, so a second call sends no request and a call
    after a failure goes on at the first missing file. A file only takes its place once it is
    verified. ``timeout`` is in seconds: to connect, and between two reads of the server's answer.

    Raises ValueError for an unknown name or altered content, FileNotFoundError where the server
    has no such file, TimeoutError, and ConnectionError for everything else that a network does.
    """
    if name not in registry:
        raise ValueError(f"name is {name!r}; what can be fetched is {', '.join(registry)}.")
    if not timeout > 0:
        raise ValueError(f"timeout is {timeout}; it must be above 0 seconds.")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give a folder to download {name} into.")
    folder.mkdir(parents=True, exist_ok=True)
    stem = name.capitalize()
    paths = []
    for file in registry[name]:
        path = folder / f"{name}.{file.part}.json"
        if not (path.is_file() and file.matches(path)):
            url = f"{base_url}/{stem}/{stem}.{file.part}.json"
            _fetch_file(url, path, file, timeout, progressbar)
        paths.append(path)
    return paths


def _fetch_file(url: str, path: Path, file: PinnedFile, timeout: float, progressbar: bool) -> None:
    # Imported here so that reading the sample neither needs nor waits for the network libraries.
    import requests
    from urllib3.exceptions import HTTPError as StreamError

    temporary = path.with_name(f".{uuid4().hex[:16]}.part")  # a name of its own for each download
    answers: list[requests.Response] = []  # those that redirect, too: all are to be closed
    hooks = {"response": lambda answer, **_: answers.append(answer)}
    try:
        try:
            answer = requests.get(url, stream=True, timeout=timeout, hooks=hooks)
        except requests.RequestException:
            raise
        except ValueError as error:  # a length or a new address that cannot be read
            raise requests.RequestException from error
        answer.raise_for_status()
        _write_body(answer, temporary, progressbar)
        if not file.matches(temporary):
            raise ValueError(
                f"{url} is not the file that was pinned: {temporary.stat().st_size} bytes came, "
                f"and their hash differs from {file.blob}; nothing was kept, try again later."
            )
        os.replace(temporary, path)
    except requests.HTTPError as error:
        status = error.response.status_code
        kind = FileNotFoundError if status in (404, 410) else ConnectionError
        raise kind(
            f"{url} answered HTTP {status}; place {path.name} in {path.parent} by hand, "
            "or try again later."
        ) from None
    except (requests.RequestException, StreamError) as error:
        if _timed_out(error):
            raise TimeoutError(
                f"{url} sent nothing for {timeout:g} seconds; run it again to go on at this "
                "file, or pass a larger timeout."
            ) from None
        raise ConnectionError(
            f"{url} could not be read to its end ({type(error).__name__}); check the network and "
            "run it again to go on at this file."
        ) from None
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}; nothing was kept", str(path)) from None
    finally:
        for answer in answers:
            answer.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_body(answer: "requests.Response", path: Path, progressbar: bool) -> None:
    """The answer's content to a file; ValueError once it is larger than any file could be."""
    from tqdm import tqdm

    length = answer.headers.get("content-length", "")
    total = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
    with (
        path.open("wb") as file,
        tqdm(total=total, unit="B", unit_scale=True, disable=not progressbar) as bar,
    ):
        for chunk in answer.iter_content(1 << 16):
            file.write(chunk)
            bar.update(len(chunk))
            if file.tell() > LARGEST:
                raise ValueError(
                    f"{answer.url} is not the file that was pinned: it has more than {LARGEST:,} "
                    "bytes; nothing was kept, try again later."
                )


def _timed_out(error: Exception) -> bool:
    """requests reports a stall inside the body as ConnectionError around urllib3's timeout."""
    import requests
    from urllib3.exceptions import TimeoutError as StreamTimeout

    inner = error.args[0] if error.args else None
    return isinstance(error, requests.Timeout | StreamTimeout) or isinstance(inner, StreamTimeout)
