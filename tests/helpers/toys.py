"""A world small enough to train on in a second: 30 users, 20 items, a model of width 16."""

import random

import torch
from transformers import Qwen3Config

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.model import NezhaModel
from nezha_lite.model.config import NezhaConfig
from nezha_lite.model.prompts import Vocabulary
from nezha_lite.semantic_ids import SemanticIds
from nezha_lite.semantic_ids.vectors.item_vectors import ItemVectorizer, VectorConfig

N_ITEMS = 20
COLOURS = ("red", "green", "blue", "white", "black")
THINGS = ("mug", "lamp", "chair", "rug")


def toy_dataset(users: int = 30, name: str = "toy") -> InteractionDataset:
    """Every user walks through the catalogue in steps of one, so the next item can be learnt."""
    draw = random.Random(5)
    sequences = []
    for _ in range(users):
        first, length = draw.randrange(N_ITEMS), draw.randrange(5, 10)
        sequences.append(tuple((first + step) % N_ITEMS for step in range(length)))
    texts = tuple(
        ItemText(f"{colour} {thing}", "Maker", ("home", thing), f"a {thing} in {colour}")
        for thing in THINGS
        for colour in COLOURS
    )
    return InteractionDataset(
        name=name,
        items=tuple(f"i{item}" for item in range(N_ITEMS)),
        users=tuple(f"u{user}" for user in range(users)),
        sequences=tuple(sequences),
        texts=texts,
    )


def fitted_vectorizer(
    config: VectorConfig | None = None, dataset: InteractionDataset | None = None
) -> ItemVectorizer:
    vectorizer = ItemVectorizer(config)
    vectorizer.fit_transform(dataset or toy_dataset())
    return vectorizer


def toy_ids() -> SemanticIds:
    """Unique IDs of three levels; 40 IDs could be written, 20 exist."""
    codes = [[item // 10, item // 2 % 5, item % 2] for item in range(N_ITEMS)]
    return SemanticIds.from_codes(codes, (2, 5, 4), [f"i{item}" for item in range(N_ITEMS)])


def shared_ids() -> SemanticIds:
    """Items 2j and 2j + 1 share an ID."""
    codes = [[item // 10, item // 2 % 5] for item in range(N_ITEMS)]
    return SemanticIds.from_codes(codes, (2, 7), [f"i{item}" for item in range(N_ITEMS)])


def toy_model(semantic_ids: SemanticIds | None = None, seed: int = 0, **settings) -> NezhaModel:
    """Fresh weights; the global random state is kept."""
    radices = (semantic_ids or toy_ids()).radices
    backbone = Qwen3Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=32,
        vocab_size=Vocabulary(radices).size,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
        tie_word_embeddings=True,
    )
    config = NezhaConfig.for_backbone(backbone, radices=radices, **{"max_items": 6} | settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NezhaModel(config)
