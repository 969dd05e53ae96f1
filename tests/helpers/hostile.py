"""A small world whose every text tries to be markup, and a model fresh enough to hallucinate."""

import re

import torch

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds

HOSTILE = ("<script>alert(1)</script>", '<img src=x onerror="alert(1)">', "a & b <b>bold</b>")
MARKUP = '<img src=x onerror="alert(1)"> & $x$ <b>bold</b>'  # for figures, LaTeX included
ELEMENT = re.compile(r"<(script|img|i)\b")
N_ITEMS = 60


def hostile_ids() -> SemanticIds:
    """60 items on 216 IDs of three levels; some share one."""
    generator = torch.Generator().manual_seed(1)
    return SemanticIds.from_codes(torch.randint(0, 6, (N_ITEMS, 3), generator=generator), (6, 6, 6))


def hostile_dataset() -> InteractionDataset:
    """12 users with 15 items each."""
    generator = torch.Generator().manual_seed(2)
    sequences = torch.randint(0, N_ITEMS, (12, 15), generator=generator).tolist()
    return InteractionDataset(
        name="hostile",
        items=tuple(map(str, range(N_ITEMS))),
        users=tuple(f"user-{user} <i>" for user in range(12)),
        sequences=tuple(map(tuple, sequences)),
        texts=tuple(ItemText(f"thing {item} {HOSTILE[item % 3]}") for item in range(N_ITEMS)),
    )


def fresh_model(semantic_ids: SemanticIds, **settings: object) -> NezhaModel:
    """Random weights."""
    return NezhaModel.from_preset("tiny", semantic_ids, **settings).eval()
