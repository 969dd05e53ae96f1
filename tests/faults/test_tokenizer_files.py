"""Item vectors, quantizers and tokenizers on disk: damaged, or saying what cannot be."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from nezha_lite.common.files import damage_named, parse_json, read_tensors, write_tensors
from nezha_lite.semantic_ids.quantizers import QUANTIZERS, load_quantizer, make_quantizer
from nezha_lite.semantic_ids.tokenizer import ItemTokenizer, TokenizerConfig
from nezha_lite.semantic_ids.vectors.item_vectors import ItemVectorizer, VectorConfig
from nezha_lite.semantic_ids.vectors.tfidf import TfidfVectors
from tests.faults.promises import Fault, each, refused
from tests.faults.stored_files import DAMAGE, changed
from tests.helpers.toys import fitted_vectorizer, toy_dataset

pytestmark = pytest.mark.fault_class("data: vectors and quantizers")

SENTENCES = [text.sentence() for text in toy_dataset().texts or ()]
VECTORS, QUANTIZER = "vectors.safetensors", "quantizer.safetensors"
NAN = float("nan")


def with_json(key: str, name: str, value: Any) -> Callable[[Path], None]:
    """One field of the JSON in the file's metadata; ... takes it away, a text is all of it."""

    def put(_: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        content = json.loads(metadata[key])
        *outer, inner = name.split(".")
        place = content[outer[0]] if outer else content
        if value is ...:
            del place[inner]
        else:
            place[inner] = value
        metadata[key] = json.dumps(content)

    return lambda path: changed(path, put)


def with_text(key: str, text: str | None) -> Callable[[Path], None]:
    def put(_: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        del metadata[key]
        if text is not None:
            metadata[key] = text

    return lambda path: changed(path, put)


def with_tensor(
    name: str, change: Callable[[torch.Tensor], torch.Tensor] | None
) -> Callable[[Path], None]:
    def put(tensors: dict[str, torch.Tensor], _: dict[str, str]) -> None:
        found = tensors.pop(name)
        if change is not None:
            tensors[name] = change(found)

    return lambda path: changed(path, put)


def fault(name: str, damage: Callable[[Path], object], *says: str) -> Fault:
    return Fault(name, damage, says)


DAMAGED = [fault(name, damage) for name, damage in DAMAGE.items()]


# ---- item vectors --------------------------------------------------------------------------------


@each(
    [
        *DAMAGED,
        fault("settings nested deep", with_text("item_vectors", "[" * 99_999), "too deeply"),
        fault("settings a list", with_text("item_vectors", "[]")),
        fault("settings missing", with_text("item_vectors", None), "item_vectors"),
        fault("no config", with_json("item_vectors", "config", ...), "config"),
        fault("config a text", with_json("item_vectors", "config", "tfidf")),
        fault("an unknown source", with_json("item_vectors", "config.sources", ["x"]), "sources"),
        fault("a source twice", with_json("item_vectors", "config.sources", ["tfidf"] * 2)),
        fault("a dim of 0", with_json("item_vectors", "config.dim", 0), "dim is 0"),
        fault("a dim of text", with_json("item_vectors", "config.dim", "6"), "dim is '6'"),
        fault("a dim of NaN", with_json("item_vectors", "config.dim", NAN), "dim is nan"),
        fault("a negative seed", with_json("item_vectors", "config.seed", -1), "seed is -1"),
        fault("a weight of NaN", with_json("item_vectors", "config.weights", [NAN]), "weights"),
        fault("weights of text", with_json("item_vectors", "config.weights", ["1"]), "weights"),
        fault("an unknown setting", with_json("item_vectors", "config.colour", 1), "colour"),
        fault("no widths", with_json("item_vectors", "widths", ...), "widths"),
        fault("widths a text", with_json("item_vectors", "widths", "6"), "widths"),
        fault("widths too many", with_json("item_vectors", "widths", [6, 6]), "widths"),
        fault("another width", with_json("item_vectors", "widths", [7]), "widths"),
        fault("a width below 0", with_json("item_vectors", "widths", [-6]), "widths"),
        fault("another dim", with_json("item_vectors", "tfidf.dim", 10**9), "columns"),
        fault("no settings of TF-IDF", with_json("item_vectors", "tfidf", None)),
        fault("no terms", with_tensor("terms", None), "terms"),
        fault("terms that are no text", with_tensor("terms", lambda t: t + 128)),
        fault("fewer weights of terms", with_tensor("idf", lambda t: t[1:]), "idf"),
        fault("weights that are NaN", with_tensor("idf", lambda t: t * NAN), "idf", "NaN"),
        fault("infinite directions", with_tensor("directions", lambda t: t / 0), "infinite"),
        fault("directions of one number", with_tensor("directions", lambda t: t[0, 0])),
        fault("whole directions", with_tensor("directions", lambda t: t.long()), "directions"),
    ]
)
def test_bad_item_vectors_are_refused(fault: Fault, tmp_path: Path) -> None:
    fitted_vectorizer(VectorConfig(dim=6)).save(tmp_path)
    fault.make(tmp_path / VECTORS)
    refused(lambda: ItemVectorizer.load(tmp_path), (VECTORS, *fault.says), tmp_path)


@each(
    [
        *DAMAGED,
        fault("settings nested deep", with_text("tfidf", "[" * 99_999), "too deeply"),
        fault("settings a number", with_text("tfidf", "3")),
        fault("a dim of text", with_json("tfidf", "dim", "6")),
        fault("a dim of a billion", with_json("tfidf", "dim", 10**9), "columns"),
        fault("directions that are NaN", with_tensor("directions", lambda t: t * NAN), "NaN"),
    ]
)
def test_bad_tfidf_vectors_are_refused(fault: Fault, tmp_path: Path) -> None:
    path = tmp_path / "tfidf.safetensors"
    tensors, settings = TfidfVectors(6).fit(SENTENCES).state()
    write_tensors(path, tensors, {"tfidf": json.dumps(settings)})
    fault.make(path)

    def read() -> TfidfVectors:
        with damage_named(path, "does not hold TF-IDF vectors"):
            tensors, metadata = read_tensors(path)
            return TfidfVectors.from_state(tensors, parse_json(metadata["tfidf"]))

    refused(read, ("tfidf.safetensors", *fault.says), tmp_path)


# ---- quantizers ----------------------------------------------------------------------------------


@cache
def quantizer_bytes(kind: str, folder: Path) -> bytes:
    vectors = torch.randn(60, 8, generator=torch.Generator().manual_seed(3))
    made = make_quantizer(kind, 2, 4)
    made.fit(vectors).save(folder / f"{kind}.safetensors")
    return (folder / f"{kind}.safetensors").read_bytes()


def of_kind(kind: str, tmp_path: Path, folder: Path) -> Path:
    (tmp_path / QUANTIZER).write_bytes(quantizer_bytes(kind, folder))
    return tmp_path / QUANTIZER


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantizers")


@each(DAMAGED)
def test_a_damaged_quantizer_is_refused(fault: Fault, tmp_path: Path, fitted: Path) -> None:
    path = of_kind("rq-kmeans", tmp_path, fitted)
    fault.make(path)
    refused(lambda: load_quantizer(path), (QUANTIZER,), tmp_path)


def all_tensors(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def put(tensors: dict[str, torch.Tensor], _: dict[str, str]) -> None:
        for name, value in tensors.items():
            tensors[name] = change(value) if value.ndim else value

    return lambda path: changed(path, put)


@pytest.mark.parametrize("kind", [kind for kind in QUANTIZERS if kind != "random"])
@each(
    [
        fault("another kind", with_text("quantizer", "magic"), "'magic'", "rq-kmeans"),
        fault("no kind", with_text("quantizer", None), "None"),
        fault("config nested deep", with_text("config", "[" * 99_999), "too deeply"),
        fault("config a list", with_text("config", "[]")),
        fault("config missing", with_text("config", None), "config"),
        fault("no levels", with_json("config", "levels", 0), "levels is 0"),
        fault("a billion levels", with_json("config", "levels", 10**9)),
        fault("levels of text", with_json("config", "levels", "2"), "levels is '2'"),
        fault("codes beyond the keys", with_json("config", "codes", 2**40), "int64"),
        fault("a level more", with_json("config", "levels", 3)),
        fault("fewer codes", with_json("config", "codes", 2)),
        fault("a level less", with_json("config", "levels", 1)),
        fault("an unknown setting", with_json("config", "colour", 1), "colour"),
        fault("numbers that are NaN", all_tensors(lambda t: t * NAN), "NaN"),
        fault("infinite numbers", all_tensors(lambda t: t / 0), "infinite"),
        fault("a dimension less", all_tensors(lambda t: t[..., 0])),
        fault("half as precise", all_tensors(lambda t: t.long())),
        fault("a dimension more", all_tensors(lambda t: t[None])),
        fault("no numbers", all_tensors(lambda t: t[:0])),
    ]
)
def test_a_quantizer_that_cannot_be_is_refused(
    kind: str, fault: Fault, tmp_path: Path, fitted: Path
) -> None:
    path = of_kind(kind, tmp_path, fitted)
    fault.make(path)
    refused(lambda: load_quantizer(path), (QUANTIZER, *fault.says), tmp_path)


# ---- tokenizers ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TokenizerConfig(levels=2, codes=4, vectors=VectorConfig(dim=6))
    return ItemTokenizer(config).fit(toy_dataset()).save(tmp_path_factory.mktemp("tokenizer"))


def settings(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "tokenizer.json").write_text(text)


@each(
    [
        fault("settings cut", settings('{"levels": '), "line 1"),
        fault("settings a list", settings("[]")),
        fault("settings null", settings("null")),
        fault("settings nested deep", settings("[" * 99_999), "too deeply"),
        fault("settings without vectors", settings('{"levels": 2}'), "vectors"),
        fault("vectors a list", settings('{"vectors": []}')),
        fault("an unknown setting", settings('{"vectors": {}, "colour": 1}'), "colour"),
        fault("levels of text", settings('{"vectors": {}, "levels": "2"}'), "levels is '2'"),
        fault("an unknown quantizer", settings('{"vectors": {}, "quantizer": "x"}'), "'x'"),
        fault("collisions a list", settings('{"vectors": {}, "collisions": []}'), "collisions"),
        fault("settings of another one", settings('{"vectors": {}}')),
    ]
)
def test_bad_tokenizer_settings_are_refused(fault: Fault, tmp_path: Path, tokenizer: Path) -> None:
    for path in tokenizer.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(tokenizer)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    ItemTokenizer.load(tmp_path)
    fault.make(tmp_path)
    refused(lambda: ItemTokenizer.load(tmp_path), fault.says, tmp_path)
