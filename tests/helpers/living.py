"""A small shop for the hallucination lab: shared IDs, categories, and titles that mean harm."""

import torch

from nezha_lite.datasets import InteractionDataset, ItemText
from nezha_lite.model import NezhaModel
from nezha_lite.semantic_ids import SemanticIds
from tests.helpers.hostile import HOSTILE

CATEGORIES = ("Bath", "<i>Garden</i> & $x$", "Pets")
N_ITEMS, RADIX = 60, 6


def catalogue(levels: int = 3) -> SemanticIds:
    """Random IDs; the last ten items share those of the first ten."""
    draw = torch.Generator().manual_seed(1)
    codes = torch.randint(0, RADIX, (N_ITEMS, levels), generator=draw)
    codes[-10:] = codes[:10]
    return SemanticIds.from_codes(codes, (RADIX,) * levels)


def dataset(texts: bool = True) -> InteractionDataset:
    draw = torch.Generator().manual_seed(2)
    sequences = torch.randint(0, N_ITEMS, (12, 15), generator=draw).tolist()
    named = tuple(
        ItemText(f"thing {item} {HOSTILE[item % 3]}", "", (CATEGORIES[item % 3], " Home "))
        for item in range(N_ITEMS)
    )
    return InteractionDataset(
        name="toy",
        items=tuple(map(str, range(N_ITEMS))),
        users=tuple(f"user-{user} <i>" for user in range(12)),
        sequences=tuple(map(tuple, sequences)),
        texts=named if texts else None,
    )


IDS = catalogue()


def random_model(ids: SemanticIds) -> NezhaModel:
    """Always the same; the global random state is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NezhaModel.from_preset("tiny", ids).eval()
