"""A disk that is full: the old file stays, nothing half-written lies beside it, and it is said.

A limit on the size of files stands for the disk.
"""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from nezha_lite.common.results import ResultRow, provenance, write_results
from nezha_lite.datasets import InteractionDataset, ItemText, write_folder
from nezha_lite.evaluation import Evaluation
from nezha_lite.evaluation.run_folders import claim, save_lists
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quantizers import make_quantizer
from nezha_lite.semantic_ids.spreadsheet import write_sid_map
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer, TokenizerConfig
from nezha_lite.semantic_ids.vectors.item_vectors import VectorConfig
from tests.faults.promises import tree
from tests.helpers.shops import Run
from tests.helpers.toys import fitted_vectorizer, toy_dataset

pytestmark = pytest.mark.fault_class("data: a full disk")

LIMIT = 700  # bytes: all that is written here is larger


def shop(folder: Path) -> InteractionDataset:
    return InteractionDataset(
        name="shop",
        items=tuple(map(str, range(200))),
        users=("ann",),
        sequences=(tuple(range(200)),),
        texts=tuple(ItemText(f"thing {item}") for item in range(200)),
    )


def many_ids() -> SemanticIds:
    return SemanticIds.from_codes([[item // 20, item % 20] for item in range(200)])


def figures(path: Path) -> None:
    row = ResultRow(
        kind="quality",
        dataset="toy",
        model={"preset": "tiny"},
        metrics={f"recall@{k}": 0.5 for k in range(50)},
        seconds=1.0,
        **provenance("cpu"),
    )
    write_results(path, [row])


def lists(path: Path) -> None:
    import numpy as np

    counts = np.zeros(50, dtype=np.int64)
    save_lists(path, Evaluation(counts, counts, [[1, 2]] * 50, counts, counts, 10), {})


def tokenizer(path: Path) -> None:
    config = TokenizerConfig(levels=2, codes=4, vectors=VectorConfig(dim=6))
    ItemTokenizer(config).fit(toy_dataset()).save(path)


def quantizer(path: Path) -> None:
    vectors = torch.randn(60, 64, generator=torch.Generator().manual_seed(3))
    make_quantizer("rq-kmeans", 2, 8).fit(vectors).save(path)


# What is written, and by whom: the path is that of a file or a folder.
WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "semantic IDs": ("ids.safetensors", lambda path: many_ids().save(path)),
    "semantic IDs in JSON": ("ids.json", lambda path: many_ids().save(path)),
    "item vectors": ("vectors", fitted_vectorizer(VectorConfig(dim=6)).save),
    "a quantizer": ("quantizer.safetensors", quantizer),
    "figures": ("figures.json", figures),
    "lists": ("lists.safetensors", lists),
    "a data set": ("shop", lambda path: write_folder(shop(path), path)),
    "a map of IDs": ("map.csv", lambda path: write_sid_map(path, many_ids(), shop(path))),
    "a run folder": ("run", lambda path: claim(path, {"seeds": list(range(900))})),
}


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond LIMIT; Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refused(write: Callable[[Path], object], path: Path) -> str:
    with full_disk(), pytest.raises(OSError, match="File too large") as caught:
        write(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_keeps_the_old_state(name: str, tmp_path: Path) -> None:
    file, write = WRITERS[name]
    path = tmp_path / file
    assert file.split(".")[0] in refused(write, path)
    assert not [left for left in tree(tmp_path).values() if left is not None]

    if name in ("a data set", "a run folder"):
        return  # they refuse to replace one that is there
    write(path)
    before = tree(tmp_path)
    refused(write, path)
    assert tree(tmp_path) == before


def test_a_tokenizer_stays_as_it_was(tmp_path: Path) -> None:
    """Its several files cannot be replaced in one step: they are written beside it first."""
    tokenizer(tmp_path / "old")
    before = tree(tmp_path)
    refused(tokenizer, tmp_path / "old")
    assert tree(tmp_path) == before
    ItemTokenizer.load(tmp_path / "old")


def test_the_command_line_says_it_in_one_line(tmp_path: Path, cli: Run) -> None:
    rows = "".join(f"ann,{item},{item}\n" for item in range(200))
    (tmp_path / "orders.csv").write_text(f"user,item,time\n{rows}")
    with full_disk():
        answer = cli("import", tmp_path / "orders.csv", tmp_path / "out")
    assert answer.status == 2
    (line,) = answer.err.splitlines()
    assert "out.times.safetensors" in line  # the first one to be written
    assert "nothing was written" in line
    assert not list((tmp_path / "out").iterdir())


def test_folders_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    """Nobody can make files in /proc, not even who may do anything elsewhere."""
    place = Path("/proc/self/fdinfo")
    if not place.is_dir():
        pytest.skip("there is no such folder here")
    for name in ("semantic IDs", "figures", "lists", "item vectors", "a quantizer", "a map of IDs"):
        file, write = WRITERS[name]
        with pytest.raises(OSError, match=file):
            write(place / file)


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps("mine"))
    before = tree(tmp_path)
    for name, (file, write) in WRITERS.items():
        if name not in ("a data set", "a run folder"):
            with pytest.raises(OSError, match="file"):
                write(tmp_path / "file" / file)
    assert tree(tmp_path) == before
