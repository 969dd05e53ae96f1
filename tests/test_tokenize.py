"""From a catalogue to semantic IDs in one call."""

from dataclasses import replace

import pytest
import torch
from toys import N_ITEMS, toy_dataset

from nezha_lite.collaborative import collaborative_vectors
from nezha_lite.datasets import ItemText
from nezha_lite.quantizers import RQVAE, RQKMeans, RQKMeansConfig, RQVAEConfig
from nezha_lite.text import tfidf_vectors
from nezha_lite.tokenize import build_semantic_ids, item_vectors, tokenize

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
    vectors = tfidf_vectors([text.sentence() for text in dataset.texts])
    assert torch.equal(ids.codes, RQKMeans().fit(vectors).encode(vectors))
    assert ids.radices == (64, 64, 64)


def test_missing_or_wrong_inputs_are_named() -> None:
    bare = replace(toy_dataset(), texts=None)
    with pytest.raises(ValueError, match="'toy' has no item texts for some-encoder"):
        item_vectors(bare, encoder="some-encoder")
    with pytest.raises(ValueError, match="codes is 65, but 20 items"):
        build_semantic_ids(bare, codes=65)
    ids = tokenize(bare, RQKMeans(FEW), torch.eye(N_ITEMS))
    assert ids.n_distinct == N_ITEMS
    with pytest.raises(ValueError, match="vectors has 19 rows, but there are 20 items"):
        tokenize(bare, RQKMeans(FEW), torch.eye(19))
    with pytest.raises(ValueError, match="collisions is 'ignored'"):
        tokenize(toy_dataset(), collisions="ignored")


def test_without_texts_behaviour_tells_items_apart() -> None:
    bare = replace(toy_dataset(), texts=None)
    expected = collaborative_vectors(bare.train_sequences(), bare.n_items)
    assert torch.equal(item_vectors(bare), expected)
    assert build_semantic_ids(bare, levels=2, codes=4).n_distinct == N_ITEMS


# ---- by name -------------------------------------------------------------------------------------

RELEASED = tuple((item // 4, item % 2) for item in range(N_ITEMS))  # pairs share an ID


def test_auto_takes_released_ids_where_they_exist() -> None:
    dataset = replace(toy_dataset(), released_codes=RELEASED)
    for source in ("auto", "released"):
        shared = build_semantic_ids(dataset, source, collisions="shared")
        assert shared.codes.tolist() == [list(codes) for codes in RELEASED]
        assert shared.radices == (5, 5)
        assert shared.items == dataset.items
        unique = build_semantic_ids(dataset, source)
        assert unique.radices == (5, 5, 2)
        assert unique.n_distinct == N_ITEMS
    built = build_semantic_ids(dataset, "rq-kmeans", levels=2, codes=3, collisions="shared")
    assert built.codes.tolist() != shared.codes.tolist()


def test_auto_builds_ids_where_none_were_released() -> None:
    arguments = {"levels": 2, "codes": 3, "seed": 4, "collisions": "shared"}
    built = build_semantic_ids(toy_dataset(), "auto", **arguments)
    by_hand = tokenize(
        toy_dataset(), RQKMeans(RQKMeansConfig(levels=2, codes=3, seed=4)), collisions="shared"
    )
    assert torch.equal(built.codes, by_hand.codes)
    with pytest.raises(ValueError, match=r"no index\.json with released semantic IDs"):
        build_semantic_ids(toy_dataset(), "released")


def test_rq_vae_by_name() -> None:
    arguments = {"levels": 2, "codes": 4, "collisions": "shared"}
    built = build_semantic_ids(toy_dataset(), "rq-vae", seed=1, **arguments)
    by_hand = tokenize(
        toy_dataset(), RQVAE(RQVAEConfig(levels=2, codes=4, seed=1)), collisions="shared"
    )
    assert torch.equal(built.codes, by_hand.codes)
    assert built.radices == (4, 4)


def test_an_unknown_source_is_named() -> None:
    with pytest.raises(ValueError, match="source is 'opq'"):
        build_semantic_ids(toy_dataset(), "opq")
