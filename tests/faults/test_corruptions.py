"""Sound files with bits flipped, cut, doubled or blanked, as a failing disk or network does it.

Each either still reads, or is refused in one sentence: no other exception, nothing that hangs, and
nothing written. What reads must be sound in itself, which its class checks.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nezha_lite.common.results import ResultRow, provenance, read_results, write_results
from nezha_lite.datasets import load_folder, read_tables
from nezha_lite.decoding.recommender import Recommender
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.quantizers import load_quantizer, make_quantizer
from nezha_lite.semantic_ids.spreadsheet import read_sid_map, write_sid_map
from nezha_lite.semantic_ids.vectors.item_vectors import ItemVectorizer, VectorConfig
from nezha_lite.training import read_training_record
from tests.faults.promises import REFUSALS
from tests.faults.test_model_folders import model_folder
from tests.helpers.shops import write_dataset
from tests.helpers.toys import fitted_vectorizer, toy_dataset, toy_ids

pytestmark = pytest.mark.fault_class("data: files corrupted at random")

Corruption = tuple[str, float, float, int]
CORRUPTIONS: st.SearchStrategy[Corruption] = st.tuples(
    st.sampled_from(["flip", "cut", "blank", "double", "swap", "insert"]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 255),
)


def corrupted(content: bytes, corruption: Corruption) -> bytes:
    """One change of a file's bytes; its place and length are shares of the file."""
    how, first, second, byte = corruption
    start, end = sorted((int(first * len(content)), int(second * len(content))))
    short = content[start : min(end, start + 64)]
    return {
        "flip": content[:start] + bytes([content[start] ^ byte]) + content[start + 1 :],
        "cut": content[:start],
        "blank": content[:start] + bytes(end - start) + content[end:],
        "double": content[:end] + short + content[end:],
        "swap": content[:start] + content[end:] + content[start:end],
        "insert": content[:start] + bytes([byte]) + content[start:],
    }[how]


def dataset(folder: Path) -> None:
    write_dataset(folder / "shop", toy_dataset())
    index = {f"i{n}": [f"<a_{n // 10}>", f"<b_{n % 10}>"] for n in range(20)}
    (folder / "shop" / "shop.index.json").write_text(json.dumps(index))


def table(folder: Path) -> None:
    rows = [f"ann,{n % 7},2024-01-{n % 28 + 1:02}\n" for n in range(60)]
    (folder / "orders.csv").write_text("user,item,time\n" + "".join(rows))


def figures(folder: Path) -> None:
    measured = {"metrics": {"recall@10": 0.5}, "per_seed": {"recall@10": [0.4, 0.6]}}
    row = ResultRow(
        kind="quality",
        dataset="toy",
        model={"preset": "tiny"},
        seeds=[0, 1],
        seconds=1.0,
        **measured,
        **provenance("cpu"),
    )
    write_results(folder / "figures.json", [row, row])


def quantizer(folder: Path) -> None:
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(3))
    make_quantizer("opq", 2, 4).fit(vectors).save(folder / "opq.safetensors")


def usable(recommender: Recommender) -> None:
    """Flipped bits of weights are other weights: any finite ones make some list."""
    (ranked,) = recommender.recommend([[0, 1]], k=3)
    assert len(ranked) == 3


# The folder's maker, the file that is corrupted, what reads it, and how often it is tried.
CASES: dict[str, tuple[Callable[[Path], object], str, Callable[[Path], object], int]] = {
    "histories": (dataset, "shop/shop.inter.json", lambda f: load_folder(f / "shop"), 60),
    "item texts": (dataset, "shop/shop.item.json", lambda f: load_folder(f / "shop"), 60),
    "released IDs": (dataset, "shop/shop.index.json", lambda f: load_folder(f / "shop"), 60),
    "a table": (table, "orders.csv", lambda f: read_tables(f / "orders.csv"), 60),
    "semantic IDs": (
        lambda f: toy_ids().save(f / "ids.safetensors"),
        "ids.safetensors",
        lambda f: SemanticIds.load(f / "ids.safetensors"),
        80,
    ),
    "semantic IDs in JSON": (
        lambda f: toy_ids().save(f / "ids.json"),
        "ids.json",
        lambda f: SemanticIds.load(f / "ids.json"),
        60,
    ),
    "a map of IDs": (
        lambda f: write_sid_map(f / "map.csv", toy_ids(), toy_dataset()),
        "map.csv",
        lambda f: read_sid_map(f / "map.csv"),
        60,
    ),
    "figures": (figures, "figures.json", lambda f: read_results(f / "figures.json"), 60),
    "item vectors": (
        lambda f: fitted_vectorizer(VectorConfig(dim=4)).save(f),
        "vectors.safetensors",
        ItemVectorizer.load,
        60,
    ),
    "a quantizer": (
        quantizer,
        "opq.safetensors",
        lambda f: load_quantizer(f / "opq.safetensors"),
        60,
    ),
    "a model's settings": (model_folder, "config.json", lambda f: Recommender.load(f), 80),
    "a model's weights": (
        model_folder,
        "model.safetensors",
        lambda f: usable(Recommender.load(f)),
        60,
    ),
    "a training's record": (model_folder, "training.json", read_training_record, 40),
}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_corrupted_file_reads_or_is_refused(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    make, file, read, examples = CASES[name]
    make(tmp_path)
    read(tmp_path)
    whole = (tmp_path / file).read_bytes()
    names = sorted(path.name for path in tmp_path.rglob("*"))
    tried: set[bytes] = set()

    @settings(max_examples=examples, suppress_health_check=[HealthCheck.nested_given])
    @given(CORRUPTIONS)
    def check(corruption: Corruption) -> None:
        content = corrupted(whole, corruption)
        tried.add(content)
        (tmp_path / file).write_bytes(content)
        try:
            read(tmp_path)
        except REFUSALS as error:
            sentence = str(error)
            assert sentence.isprintable(), repr(sentence)
            assert Path(file).name in sentence or "item" in sentence, sentence
        assert (tmp_path / file).read_bytes() == content
        assert sorted(path.name for path in tmp_path.rglob("*")) == names

    check()
    assert len(tried) > examples / 2
    record_property("tried", len(tried))
