"""What the study compares: systems, the pairs that answer its questions, published figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nezha_lite.evaluation.study.config import VARIANTS

NOT_GENERATIVE = ("popularity", "item-knn", "sasrec")


@dataclass(frozen=True)
class System:
    """A way to get lists: a trained thing and how it is decoded."""

    name: str
    decoder: str
    verification: str

    @property
    def label(self) -> str:
        """Short and unique: "nezha", or "nezha, autoregressive", or "nezha, off".

        Of a training alone, whose decoder is "", it is the name.
        """
        own = VARIANTS[self.name].decoded[0] if self.name in VARIANTS else None
        if not self.decoder or own in (None, (self.decoder, self.verification)):
            return self.name
        how = self.verification if self.decoder == "nezha" else self.decoder
        return f"{self.name}, {how}"


NEZHA = System("nezha", "nezha", "prefix")
# Each question is a pair: what is asked of the first is what it has over the second.
COMPARISONS: tuple[tuple[str, System, System], ...] = (
    ("the same weights, code by code", NEZHA, System("nezha", "autoregressive", "prefix")),
    (
        "a model trained for code by code alone",
        NEZHA,
        System("backbone-only", "autoregressive", "prefix"),
    ),
    (
        "what the joint loss does to the backbone",
        System("nezha", "autoregressive", "prefix"),
        System("backbone-only", "autoregressive", "prefix"),
    ),
    (
        "the same weights, code by code, at three levels",
        System("three-levels", "nezha", "prefix"),
        System("three-levels", "autoregressive", "prefix"),
    ),
    ("the draft loss alone", NEZHA, System("head-only", "nezha", "prefix")),
    ("no placeholders", NEZHA, System("no-placeholders", "nezha", "prefix")),
    ("no transition, trained so", NEZHA, System("no-transition", "nezha", "prefix")),
    ("no transition, while decoding only", NEZHA, System("nezha", "parallel-heads", "prefix")),
    ("finished drafts verified only", NEZHA, System("nezha", "nezha", "final")),
    ("nothing verified", NEZHA, System("nezha", "nezha", "off")),
    ("a level more", NEZHA, System("three-levels", "nezha", "prefix")),
    ("item-kNN", NEZHA, System("item-knn", "item-knn", "items")),
    ("SASRec, full cross-entropy", NEZHA, System("sasrec", "sasrec", "items")),
)


def all_systems() -> list[System]:
    """Everything that the study decodes, baselines first."""
    return [System(name, name, "items") for name in NOT_GENERATIVE] + [
        System(name, *how) for name, variant in VARIANTS.items() for how in variant.decoded
    ]


# ---- published figures --------------------------------------------------------------------------
# All of them rank the whole catalogue, leave one out, on the 5-core data of 2014. They stand beside
# ours, never among them: none was measured here.


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
