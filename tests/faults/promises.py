"""What a fault is, and what is promised of it.

Bad input is answered in one sentence that names file, place, value and remedy; the command line
shows no traceback unless `--debug` is given; and no file is made, changed or left half-written.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from nezha_lite.cli import main
from tests.helpers.shops import Run

REFUSALS = (ValueError, OSError)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        name: of the fault, for people.
        make: puts it into an empty folder.
        says: words of the one sentence: the file, the place and the value in it, the remedy.
    """

    name: str
    make: Callable[[Path], object]
    says: tuple[str, ...]


def each(faults: Sequence[Fault]) -> pytest.MarkDecorator:
    """One test for each fault, by its name."""
    names = [fault.name for fault in faults]
    assert len(set(names)) == len(names), "two faults of one name"
    return pytest.mark.parametrize("fault", faults, ids=names)


def tree(folder: Path) -> dict[str, object]:
    """All that lies in a folder: links by their target, files by their bytes."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            content: object = path.readlink()
        else:
            content = path.read_bytes() if path.is_file() else None
        found[path.relative_to(folder).as_posix()] = content
    return found


def refused(read: Callable[[], object], says: Sequence[str], folder: Path) -> str:
    """The one sentence with which `read` refuses, while nothing in `folder` changes."""
    before = tree(folder)
    with pytest.raises(REFUSALS) as caught:
        read()
    assert tree(folder) == before
    sentence = str(caught.value)
    assert sentence.isprintable(), f"more than one line: {sentence!r}"
    assert len(sentence.replace(str(folder), "")) < 420, sentence
    for words in says:
        assert words in sentence, f"{words!r} is not in {sentence!r}"
    return sentence


def refused_by_command(
    cli: Run, command: Sequence[object], says: Sequence[str], folder: Path
) -> None:
    """Status 2 and one sentence on stderr, a traceback with --debug, and nothing changed."""
    before = tree(folder)
    answer = cli(*command)
    assert answer.status == 2
    assert "Traceback" not in answer.err
    lines = [line for line in answer.err.splitlines() if not line.startswith("Warning")]
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("nezha-lite: ")
    for words in says:
        assert words in lines[0], f"{words!r} is not in {lines[0]!r}"
    assert tree(folder) == before


def traced(monkeypatch: pytest.MonkeyPatch, command: Sequence[object]) -> None:
    """With --debug the same command raises what it otherwise says."""
    monkeypatch.setattr(sys, "argv", ["nezha-lite", "--debug", *map(str, command)])
    with pytest.raises(REFUSALS):
        main()
