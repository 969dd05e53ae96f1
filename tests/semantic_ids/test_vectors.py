"""Item vectors side by side: blocks and weights, new items, files, and nothing looked at ahead."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nezha_lite.datasets import ItemText
from nezha_lite.semantic_ids.vectors.collaborative import collaborative_vectors
from nezha_lite.semantic_ids.vectors.encoder import encoder_vectors
from nezha_lite.semantic_ids.vectors.item_vectors import ItemVectorizer, VectorConfig
from nezha_lite.semantic_ids.vectors.tfidf import TfidfVectors
from tests.helpers.tiny_encoder import save_bert
from tests.helpers.toys import N_ITEMS, fitted_vectorizer, toy_dataset

DATASET = toy_dataset()
SENTENCES = [text.sentence() for text in DATASET.texts or ()]
TRAINING = DATASET.train_sequences()
NEW = (ItemText("red mug", "Maker"), ItemText("!?"), ItemText("oil lamp", "title_4"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bert")
    save_bert(folder)
    return str(folder)


def config_of(sources: tuple[str, ...], bert: str, **changes: Any) -> VectorConfig:
    encoder = bert if "encoder" in sources else None
    return VectorConfig(sources, **({"dim": 6, "encoder": encoder} | changes))  # type: ignore[arg-type]


SOURCES = [
    ("tfidf",),
    ("encoder",),
    ("collaborative",),
    ("tfidf", "collaborative"),
    ("collaborative", "encoder"),
    ("encoder", "tfidf", "collaborative"),
]


@pytest.mark.parametrize("sources", SOURCES, ids="+".join)
def test_blocks_stand_side_by_side_scaled_by_their_share(
    sources: tuple[str, ...], bert: str
) -> None:
    weights = (1.0, 3.0, 4.0)[: len(sources)]
    blocks = {
        "tfidf": TfidfVectors(6, 2).fit_transform(SENTENCES),
        "encoder": encoder_vectors(SENTENCES, bert, progress=False),
        "collaborative": collaborative_vectors(TRAINING, N_ITEMS, 6, seed=2),
    }
    vectorizer = ItemVectorizer(config_of(sources, bert, weights=weights, seed=2))
    vectors = vectorizer.fit_transform(DATASET)
    shares = [weight / sum(weights) for weight in weights]
    scaled = [blocks[s] * share**0.5 for s, share in zip(sources, shares, strict=True)]
    torch.testing.assert_close(vectors, torch.cat(scaled, dim=1))
    cosines = sum(share * blocks[s] @ blocks[s].T for s, share in zip(sources, shares, strict=True))
    torch.testing.assert_close(vectors @ vectors.T, cosines)
    assert vectors.dtype == torch.float32
    # Only the ratios of weights count.
    doubled = config_of(sources, bert, weights=tuple(2 * w for w in weights), seed=2)
    torch.testing.assert_close(ItemVectorizer(doubled).fit_transform(DATASET), vectors)


def test_the_default_is_tfidf_bit_by_bit() -> None:
    assert torch.equal(
        ItemVectorizer().fit_transform(DATASET), TfidfVectors().fit_transform(SENTENCES)
    )


@pytest.mark.parametrize("sources", [s for s in SOURCES if s != ("collaborative",)], ids="+".join)
def test_new_items_are_placed_by_text_and_left_neutral_in_behaviour(
    sources: tuple[str, ...], bert: str
) -> None:
    vectorizer = ItemVectorizer(config_of(sources, bert))
    old = vectorizer.fit_transform(DATASET)
    width = 16 if "encoder" in sources else 0
    behaviour = torch.zeros(old.shape[1], dtype=torch.bool)
    start = 0
    for source in sources:
        columns = width if source == "encoder" else 6
        behaviour[start : start + columns] = source == "collaborative"
        start += columns
    again = vectorizer.transform(DATASET.texts)
    torch.testing.assert_close(again[:, ~behaviour], old[:, ~behaviour], atol=1e-5, rtol=0)
    assert not again[:, behaviour].any()
    new = vectorizer.transform(NEW)
    assert new.shape == (3, old.shape[1])
    assert not new[1].any()  # no word, no vector
    assert new[0].any()
    assert new[2].any()
    assert vectorizer.transform([]).shape == (0, old.shape[1])
    assert not vectorizer.transform([ItemText("")] * 2).any()


@pytest.mark.parametrize("sources", [("collaborative",), ("tfidf", "collaborative")], ids="+".join)
def test_what_is_held_out_changes_nothing(sources: tuple[str, ...], bert: str) -> None:
    # Other last two items, the same training part.
    held_out = tuple((*sequence[:-2], 3, 17) for sequence in DATASET.sequences)
    assert held_out != DATASET.sequences
    other = replace(DATASET, sequences=held_out)
    config = config_of(sources, bert)
    assert torch.equal(
        ItemVectorizer(config).fit_transform(DATASET), ItemVectorizer(config).fit_transform(other)
    )
    trained = replace(DATASET, sequences=tuple((*s, 3, 17) for s in DATASET.sequences))
    assert not torch.equal(
        ItemVectorizer(config).fit_transform(DATASET), ItemVectorizer(config).fit_transform(trained)
    )


@pytest.mark.parametrize("sources", SOURCES, ids="+".join)
def test_what_was_fitted_survives_its_folder(
    sources: tuple[str, ...], bert: str, tmp_path: Path
) -> None:
    config = config_of(sources, bert, weights=(1.0, 2.0, 0.5)[: len(sources)])
    fitted = fitted_vectorizer(config)
    folder = fitted.save(tmp_path / "deep" / "vectors")
    fitted.save(folder)  # replaces what was there
    loaded = ItemVectorizer.load(folder)
    assert loaded.config == config
    assert [path.name for path in folder.iterdir()] == ["vectors.safetensors"]
    if sources == ("collaborative",):
        with pytest.raises(ValueError, match="only vectors with 'tfidf' or 'encoder' can place"):
            loaded.transform(NEW)
    else:
        assert torch.equal(loaded.transform(NEW), fitted.transform(NEW))


def test_a_broken_or_missing_file_is_named(tmp_path: Path, bert: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no vectors\.safetensors"):
        ItemVectorizer.load(tmp_path)
    folder = fitted_vectorizer(config_of(("tfidf",), bert)).save(tmp_path)
    path = folder / "vectors.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-10], b"", whole.replace(b'\\"dim\\": 6', b'\\"dim\\": 7')):
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"vectors\.safetensors does not hold an item vector"):
            ItemVectorizer.load(folder)


def test_a_changed_encoder_is_refused(tmp_path: Path) -> None:
    save_bert(tmp_path)
    vectorizer = fitted_vectorizer(config_of(("encoder",), str(tmp_path)))
    vectorizer.transform(NEW)
    save_bert(tmp_path, seed=1)
    with pytest.raises(ValueError, match="is not the one at fitting"):
        vectorizer.transform(NEW)


def test_the_cache_serves_old_items_and_takes_in_new_ones(tmp_path: Path, bert: str) -> None:
    config = config_of(("encoder",), bert, cache=str(tmp_path))
    vectorizer = ItemVectorizer(config)
    old = vectorizer.fit_transform(DATASET)
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 1
    assert torch.equal(vectorizer.transform(DATASET.texts), old)
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 1
    vectorizer.transform(NEW)
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 2


def test_a_source_with_nothing_to_learn_from_says_so(bert: str) -> None:
    bare = replace(DATASET, texts=None)
    with pytest.raises(ValueError, match="'toy' has no item texts for tfidf"):
        ItemVectorizer().fit_transform(bare)
    with pytest.raises(ValueError, match=f"'toy' has no item texts for {bert}"):
        ItemVectorizer(config_of(("encoder", "collaborative"), bert)).fit_transform(bare)
    wordless = replace(DATASET, texts=(ItemText("title_1"),) * N_ITEMS)
    for sources in (("tfidf",), ("encoder",)):
        with pytest.raises(ValueError, match="none of the 20 items of 'toy' has a word"):
            ItemVectorizer(config_of(sources, bert)).fit_transform(wordless)
    short = replace(DATASET, sequences=tuple(s[:2] for s in DATASET.sequences))
    with pytest.raises(ValueError, match="no training sequence holds two different items"):
        ItemVectorizer(config_of(("collaborative",), bert)).fit_transform(short)
    with pytest.raises(RuntimeError, match="call fit_transform or load first"):
        ItemVectorizer().transform(NEW)
    with pytest.raises(RuntimeError, match="call fit_transform or load first"):
        ItemVectorizer().save("nowhere")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sources": ()}, r"sources is \(\), but must be a tuple"),
        ({"sources": "tfidf"}, "sources is 'tfidf', but must be a tuple"),
        ({"sources": ("tf-idf",)}, "must be a tuple of some of"),
        ({"sources": ("tfidf", "tfidf")}, "at most once"),
        ({"dim": 0}, "dim is 0, but must be a whole number of at least 1"),
        ({"dim": 2.5}, "dim is 2.5"),
        ({"seed": -1}, "seed is -1"),
        ({"max_length": 0}, "max_length is 0"),
        ({"weights": (1.0, 2.0)}, "one positive number for each of"),
        ({"weights": (0.0,)}, "one positive number"),
        ({"weights": (float("nan"),)}, "one positive number"),
        ({"weights": (float("inf"),)}, "one positive number"),
        ({"sources": ("encoder",)}, "encoder is None and sources is"),
        ({"encoder": "some/name"}, "encoder is 'some/name' and sources is"),
    ],
)
def test_a_wrong_setting_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VectorConfig(**fields)


def test_a_config_is_json_ready() -> None:
    config = VectorConfig(("tfidf", "collaborative"), weights=(1.0, 2.0))
    assert VectorConfig(**asdict(config)) == config
