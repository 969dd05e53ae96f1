"""From a catalogue to semantic IDs in one call."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.semantic_ids.quantizers import (
    QUANTIZERS,
    RQVAE,
    RQKMeans,
    RQKMeansConfig,
    RQVAEConfig,
    make_quantizer,
)
from nezha_lite.semantic_ids.tokenizer import (
    CollapseWarning,
    ItemTokenizer,
    TokenizerConfig,
    build_semantic_ids,
    default_vectors,
    item_vectors,
    named,
    tokenize,
)
from nezha_lite.semantic_ids.vectors.collaborative import collaborative_vectors
from nezha_lite.semantic_ids.vectors.item_vectors import VectorConfig
from nezha_lite.semantic_ids.vectors.tfidf import TfidfVectors
from tests.helpers.toys import N_ITEMS, toy_dataset

FEW = RQKMeansConfig(levels=2, codes=3)  # nine IDs for twenty items: some must be shared


def test_texts_become_unique_ids_in_catalogue_order() -> None:
    dataset = toy_dataset()
    ids = tokenize(dataset, RQKMeans(FEW))
    assert ids.items == dataset.items
    assert ids.n_distinct == N_ITEMS
    assert ids.levels == 3
    assert ids.radices[:2] == (3, 3)
    assert ids.collision_rate == 0.0

    shared = tokenize(dataset, RQKMeans(FEW), collisions="shared")
    assert shared.radices == (3, 3)
    assert shared.n_distinct <= 9
    assert torch.equal(shared.codes, ids.codes[:, :2])
    groups: dict[tuple[int, ...], list[int]] = {}
    for *prefix, extra in ids.codes.tolist():
        groups.setdefault(tuple(prefix), []).append(extra)
    assert all(extras == list(range(len(extras))) for extras in groups.values())
    assert ids.radices[2] == max(len(extras) for extras in groups.values())


def test_ids_follow_the_vectors() -> None:
    dataset = toy_dataset()
    vectors = torch.zeros(N_ITEMS, 3)
    vectors[:5, 0], vectors[5:12, 1], vectors[12:, 2] = 1.0, 1.0, 1.0
    quantizer = RQKMeans(RQKMeansConfig(levels=1, codes=3))
    ids = tokenize(dataset, quantizer, vectors, collisions="shared")
    firsts = ids.codes[:, 0].tolist()
    assert len({*firsts[:5]}) == len({*firsts[5:12]}) == len({*firsts[12:]}) == 1
    assert len(set(firsts)) == 3
    assert torch.equal(quantizer.encode(vectors), ids.codes)  # it was fitted in place


def test_alike_texts_share_codes() -> None:
    texts = tuple(ItemText(("red wool scarf", "steel garden spade")[i % 2]) for i in range(N_ITEMS))
    ids = tokenize(replace(toy_dataset(), texts=texts), collisions="shared")
    assert ids.n_distinct == 2
    assert torch.equal(ids.codes[0::2], ids.codes[:1].expand(10, -1))
    assert torch.equal(ids.codes[1::2], ids.codes[1:2].expand(10, -1))
    unique = tokenize(replace(toy_dataset(), texts=texts))
    assert unique.radices == (64, 64, 64, 10)
    assert unique.n_distinct == N_ITEMS


def test_the_default_is_reproducible_and_equals_its_parts() -> None:
    dataset = toy_dataset()
    ids = tokenize(dataset, collisions="shared")
    assert torch.equal(ids.codes, tokenize(dataset, collisions="shared").codes)
    vectors = TfidfVectors().fit_transform([text.sentence() for text in dataset.texts])
    assert torch.equal(ids.codes, RQKMeans().fit(vectors).encode(vectors))
    assert ids.radices == (64, 64, 64)


def test_missing_or_wrong_inputs_are_named() -> None:
    bare = replace(toy_dataset(), texts=None)
    ids = tokenize(bare, RQKMeans(FEW), torch.eye(N_ITEMS))
    assert ids.n_distinct == N_ITEMS
    with pytest.raises(ValueError, match="vectors has 19 rows, but there are 20 items"):
        tokenize(bare, RQKMeans(FEW), torch.eye(19))
    with pytest.raises(ValueError, match="collisions is 'ignored'"):
        tokenize(toy_dataset(), RQKMeans(FEW), collisions="ignored")
    with pytest.raises(ValueError, match="collisions is 'ignored'"):
        TokenizerConfig(collisions="ignored")
    with pytest.raises(ValueError, match="quantizer is 'kmeans'"):
        TokenizerConfig("kmeans")
    with pytest.raises(ValueError, match="levels is 0"):
        TokenizerConfig(levels=0)


def test_without_texts_behaviour_tells_items_apart() -> None:
    bare = replace(toy_dataset(), texts=None)
    expected = collaborative_vectors(bare.train_sequences(), bare.n_items)
    assert torch.equal(item_vectors(bare), expected)
    config = TokenizerConfig(levels=2, codes=4, vectors=default_vectors(bare))
    assert build_semantic_ids(bare, "auto", config).n_distinct == N_ITEMS


def test_the_more_popular_item_keeps_the_code_that_two_want() -> None:
    sequences = ((1, 1, 1, 0, 2, 2, 2),)  # item 1 twice as often in the training part
    texts = (ItemText("same words"), ItemText("same words"), ItemText("other things"))
    shop = InteractionDataset("shop", ("a", "b", "c"), ("u",), sequences, texts)
    ids = tokenize(shop, RQKMeans(RQKMeansConfig(levels=1, codes=3)), collisions="next-best")
    plain = tokenize(shop, RQKMeans(RQKMeansConfig(levels=1, codes=3)), collisions="shared")
    assert plain.codes[0] == plain.codes[1]
    assert ids.codes[1] == plain.codes[1]
    assert ids.n_distinct == 3


# ---- collapse ------------------------------------------------------------------------------------


def test_a_collapse_is_never_silent() -> None:
    same = replace(toy_dataset(), texts=(ItemText("one mug"),) * N_ITEMS)
    with pytest.warns(CollapseWarning) as caught:
        ids = tokenize(same, RQKMeans(FEW), collisions="shared")
    assert ids.n_distinct == 1
    assert any("20" in str(warning.message) for warning in caught)


# ---- the whole tokenizer -------------------------------------------------------------------------

SMALL = TokenizerConfig(levels=2, codes=4)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_a_tokenizer_equals_its_parts_and_comes_back_from_its_folder(
    quantizer: str, tmp_path: Path
) -> None:
    dataset = toy_dataset()
    config = replace(SMALL, quantizer=quantizer, seed=3)
    fitted = ItemTokenizer(config).fit(dataset)
    by_hand = tokenize(dataset, make_quantizer(quantizer, 2, 4, 3))
    assert torch.equal(fitted.semantic_ids.codes, by_hand.codes)
    assert torch.equal(fitted.plain_ids.codes, fitted.semantic_ids.codes[:, :2])
    again = ItemTokenizer.load(fitted.save(tmp_path / "ids"))
    assert again.config == config
    assert torch.equal(again.semantic_ids.codes, fitted.semantic_ids.codes)
    new = (ItemText("purple mug"), ItemText("green lamp, tall")), ("n1", "n2")
    codes = [tokenizer.add(new[1], new[0]).semantic_ids.codes for tokenizer in (fitted, again)]
    assert torch.equal(*codes)
    assert torch.equal(codes[0][:N_ITEMS], by_hand.codes)
    assert fitted.semantic_ids.items[-2:] == ("n1", "n2")


def test_behaviour_joins_the_texts(tmp_path: Path) -> None:
    both = replace(SMALL, vectors=VectorConfig(sources=("tfidf", "collaborative")))
    dataset = toy_dataset()
    fitted = ItemTokenizer(both).fit(dataset)
    texts = ItemTokenizer(SMALL).fit(dataset)
    assert not torch.equal(fitted.plain_ids.codes, texts.plain_ids.codes)
    again = ItemTokenizer.load(fitted.save(tmp_path / "ids"))
    assert again.config.vectors == both.vectors


def test_a_tokenizer_that_cannot_answer_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="call fit or load first"):
        _ = ItemTokenizer(SMALL).semantic_ids
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer\.json"):
        ItemTokenizer.load(tmp_path)
    folder = ItemTokenizer(SMALL).fit(toy_dataset()).save(tmp_path / "ids")
    (folder / "tokenizer.json").write_text('{"quantizer": "rq-kmeans"}')
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer's settings"):
        ItemTokenizer.load(folder)
    (folder / "tokenizer.json").write_text("[]")
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer's settings"):
        ItemTokenizer.load(folder)


def test_parts_of_different_tokenizers_are_refused(tmp_path: Path) -> None:
    folder = ItemTokenizer(SMALL).fit(toy_dataset()).save(tmp_path / "ids")
    for other in (
        replace(SMALL, quantizer="lsh"),
        replace(SMALL, codes=5),
        replace(SMALL, vectors=VectorConfig(dim=8)),
    ):
        theirs = ItemTokenizer(other).fit(toy_dataset()).save(tmp_path / "theirs")
        mixed = tmp_path / "mixed"
        shutil.rmtree(mixed, ignore_errors=True)
        shutil.copytree(folder, mixed)
        shutil.copy(theirs / "tokenizer.json", mixed)
        with pytest.raises(ValueError, match="mixed mixes files of different tokenizers"):
            ItemTokenizer.load(mixed)


def test_an_interrupted_overwrite_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ItemTokenizer(SMALL).fit(toy_dataset())
    folder = old.save(tmp_path / "ids")
    (folder / "notes.txt").write_text("the user's own")
    other = ItemTokenizer(replace(SMALL, codes=5)).fit(toy_dataset())

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(other.quantizer, "save", full)
    with pytest.raises(OSError, match="No space left"):
        other.save(folder)
    assert torch.equal(ItemTokenizer.load(folder).semantic_ids.codes, old.semantic_ids.codes)
    assert not list(folder.glob(".*"))
    monkeypatch.undo()
    other.save(folder)
    assert ItemTokenizer.load(folder).config.codes == 5
    assert (folder / "notes.txt").read_text() == "the user's own"
    with pytest.raises(RuntimeError, match="call fit or load first"):
        ItemTokenizer(SMALL).save(tmp_path / "unfitted")
    assert not (tmp_path / "unfitted").exists()


@pytest.mark.parametrize(
    ("names", "texts", "words"),
    [
        (("a", "b"), (ItemText("w"),), "for 1 texts: there must be one name for each"),
        ("ab", (ItemText("w"), ItemText("v")), "names is 'ab' for 2 texts"),
        (("",), (ItemText("w"),), "name that is empty"),
        (("a",), ("just text",), "texts holds 'just text'"),
        (("i0",), (ItemText("w"),), "'i0' has a name that is taken"),
    ],
)
def test_new_items_that_make_no_sense_are_named(names: object, texts: object, words: str) -> None:
    fitted = ItemTokenizer(SMALL).fit(toy_dataset())
    with pytest.raises(ValueError, match=words):
        fitted.add(names, texts)
    assert fitted.semantic_ids.n_items == N_ITEMS


# ---- by name -------------------------------------------------------------------------------------

RELEASED = tuple((item // 4, item % 2) for item in range(N_ITEMS))  # pairs share an ID


def test_auto_takes_released_ids_where_they_exist() -> None:
    dataset = replace(toy_dataset(), released_codes=RELEASED)
    for source in ("auto", "released"):
        shared = build_semantic_ids(dataset, source, TokenizerConfig(collisions="shared"))
        assert shared.codes.tolist() == [list(codes) for codes in RELEASED]
        assert shared.radices == (5, 5)
        assert shared.items == dataset.items
        unique = build_semantic_ids(dataset, source)
        assert unique.radices == (5, 5, 2)
        assert unique.n_distinct == N_ITEMS
        with pytest.raises(ValueError, match="collisions is 'optimal', but released"):
            build_semantic_ids(dataset, source, TokenizerConfig(collisions="optimal"))
    built = build_semantic_ids(dataset, "rq-kmeans", SMALL)
    assert built.codes.tolist() != shared.codes.tolist()


def test_auto_builds_ids_where_none_were_released() -> None:
    config = TokenizerConfig(levels=2, codes=3, seed=4, collisions="shared")
    built = build_semantic_ids(toy_dataset(), "auto", config)
    by_hand = tokenize(
        toy_dataset(), RQKMeans(RQKMeansConfig(levels=2, codes=3, seed=4)), collisions="shared"
    )
    assert torch.equal(built.codes, by_hand.codes)
    with pytest.raises(ValueError, match=r"no index\.json with released semantic IDs"):
        build_semantic_ids(toy_dataset(), "released")


def test_a_quantizer_by_name_wins_over_the_configuration() -> None:
    built = build_semantic_ids(toy_dataset(), "rq-vae", replace(SMALL, seed=1))
    by_hand = tokenize(toy_dataset(), RQVAE(RQVAEConfig(levels=2, codes=4, seed=1)))
    assert torch.equal(built.codes, by_hand.codes)


def test_a_name_decides_quantizer_and_vectors_and_nothing_else() -> None:
    shape = TokenizerConfig("opq", 2, (4, 5), VectorConfig(dim=8), "shared", seed=7)
    plain = named("rq-vae", shape)
    assert plain == replace(shape, quantizer="rq-vae")
    both = named("rq-kmeans-both", shape)
    assert both.vectors.sources == ("tfidf", "collaborative")
    assert both == replace(shape, quantizer="rq-kmeans", vectors=both.vectors)
    with pytest.raises(ValueError, match="tokenizer is 'magic'"):
        named("magic", shape)


def test_ids_from_a_file_or_a_tokenizers_folder(tmp_path: Path) -> None:
    fitted = ItemTokenizer(SMALL).fit(toy_dataset())
    folder = fitted.save(tmp_path / "ids")
    alone = fitted.semantic_ids.save(tmp_path / "ids.json")
    for place in (folder, alone):
        read = build_semantic_ids(toy_dataset(), str(place))
        assert torch.equal(read.codes, fitted.semantic_ids.codes)
    other = replace(toy_dataset(), items=tuple(f"x{item}" for item in range(N_ITEMS)))
    with pytest.raises(ValueError, match=r"ids\.json names 20 items, but .*: no name"):
        build_semantic_ids(other, str(alone))
    with pytest.raises(ValueError, match="IDs are asked from 'nowhere'"):
        build_semantic_ids(toy_dataset(), "nowhere")
