"""Figures that others published on the same data and split, to stand beside ours, never among them.

All of them rank the whole catalogue, leave one out, on the 5-core data of 2014. None was measured
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Published:
    """One system in one publication.

    Attributes:
        name: of the system.
        dataset: of `load_dataset`.
        metrics: named as ours.
        source: who says so.
        second_hand: whether it was taken from somebody who quotes the source.
    """

    name: str
    dataset: str
    metrics: Mapping[str, float] = field(hash=False)
    source: str
    second_hand: bool = False

    @property
    def label(self) -> str:
        """For a table or a figure."""
        return f"{self.name} ({'second-hand' if self.second_hand else 'paper'})"


def _figures(recall: float, ndcg: float) -> Mapping[str, float]:
    return MappingProxyType({"recall@10": recall, "ndcg@10": ndcg})


_TIGER = "Rajput et al., NeurIPS 2023, arXiv 2305.05065"
_LETTER = "Wang et al., CIKM 2024, arXiv 2405.07314; beam 20"
_QUOTED = "quoted figure, mean of 3 seeds; the original was not checked"

PUBLISHED: tuple[Published, ...] = (
    Published("TIGER", "beauty", _figures(0.0648, 0.0384), _TIGER),
    Published("LETTER-TIGER", "beauty", _figures(0.0672, 0.0364), _LETTER),
    Published("SASRec, full CE", "beauty", _figures(0.0859, 0.0503), _QUOTED, second_hand=True),
    Published("TIGER", "toys", _figures(0.0712, 0.0432), _TIGER),
)
