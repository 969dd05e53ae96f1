"""The study: variants (each differs from `nezha` in one thing), presets, systems, comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nezha_lite.common.checks import Checked, Count, check
from nezha_lite.decoding import Verification
from nezha_lite.evaluation.baselines import ItemKnnConfig, SasRecConfig
from nezha_lite.evaluation.metrics import EvaluatedBeam
from nezha_lite.model.config import PRESETS as BACKBONES
from nezha_lite.semantic_ids.collisions import Collisions
from nezha_lite.training.config import TrainingConfig

HEAD: tuple[str, Verification] = ("nezha", "prefix")
BACKBONE: tuple[str, Verification] = ("autoregressive", "prefix")
BOTH = (HEAD, BACKBONE)


@dataclass(frozen=True)
class Variant:
    """A model to train, by its differences from `nezha`, and how its test users are decoded.

    Attributes:
        says: its description in a table, a few words.
        settings: fields of `NezhaConfig` that differ.
        ids: fields of `Identifiers` that differ.
        decoded: (decoder, verification) pairs.
        teacher: one of `TEACHERS`, whose lists the draft head learns; "" is none. A variant's name
            is that variant's backbone: then training goes on from its weights, at a quarter of the
            learning rate.
        head_agreement: whether agreement and hallucination are measured as well.
    """

    says: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    ids: Mapping[str, Any] = field(default_factory=dict)
    decoded: tuple[tuple[str, Verification], ...] = (HEAD,)
    teacher: str = ""
    head_agreement: bool = False


_STRONG = {"item_memory": True, "candidate_embeddings": 1}
VARIANTS: Mapping[str, Variant] = {
    "nezha": Variant(
        "joint loss, placeholders, transition",
        decoded=(*BOTH, ("nezha", "off"), ("nezha", "final"), ("parallel-heads", "prefix")),
        head_agreement=True,
    ),
    "backbone-only": Variant(
        "trained to write codes one by one; no draft head",
        settings={"draft_weight": 0.0},
        decoded=(BACKBONE,),
    ),
    "untied": Variant(
        "input and output embeddings of the backbone are not shared", {"tied": False}, decoded=BOTH
    ),
    "backbone-only-untied": Variant(
        "code by code alone, embeddings not shared",
        {"draft_weight": 0.0, "tied": False},
        decoded=(BACKBONE,),
    ),
    "self-taught": Variant(
        "then learns the lists of its own backbone",
        decoded=BOTH,
        teacher="nezha",
        head_agreement=True,
    ),
    "head-only": Variant("the draft loss alone (the paper's)", {"next_code_weight": 0.0}),
    "no-placeholders": Variant("the head reads h_0 alone", {"placeholders": False}),
    "no-transition": Variant("parallel heads, trained so", {"transition": "none"}),
    "three-levels": Variant(
        "a level more, the paper's number; the same codes a level",
        ids={"levels": 3},
        decoded=(*BOTH, ("nezha", "off"), ("parallel-heads", "prefix")),
        head_agreement=True,
    ),
    "item-memory": Variant("an embedding for each item in the history", {"item_memory": True}),
    "candidates": Variant(
        "the last code is chosen among items that exist", {"candidate_embeddings": 1}
    ),
    "lists": Variant("learns a teacher's lists, too", teacher="blend"),
    "strong": Variant("memory, candidates and lists", _STRONG, decoded=BOTH, teacher="blend"),
    "strong-three-levels": Variant(
        "the same with a level more; candidates from level 2 on",
        {**_STRONG, "candidate_embeddings": 2},
        ids={"levels": 3, "codes": 256},
        teacher="blend",
    ),
}
# The paper's method, and what each part of it is good for.
PLAIN = ("nezha", "backbone-only", "head-only", "no-placeholders", "no-transition", "three-levels")
# What closes the gap to item-level models.
MEMORY = ("nezha", "item-memory", "candidates", "lists", "strong", "strong-three-levels")
# Whether the head is as good as the backbone, as both are trained longer.
SACRIFICE = ("nezha", "backbone-only", "untied", "backbone-only-untied", "self-taught")


@dataclass(frozen=True)
class Identifiers:
    """How items get their IDs: a tokenizer of `TOKENIZERS` and its shape."""

    tokenizer: str = "rq-kmeans-both"
    levels: int = 2
    codes: int = 512
    collisions: Collisions = "next-best"


@dataclass(frozen=True)
class StudyConfig(Checked):
    """All settings that affect a study's figures.

    Attributes:
        preset: backbone, one of `config.PRESETS`.
        settings: fields of `NezhaConfig` that all variants share.
        ids: how items get their IDs. A run's seed is also the quantizer's.
        training: of all variants; each run replaces its seed.
        sasrec, knn: the baselines' settings.
        variants: names of VARIANTS that are trained.
        list_length: items of a teacher's list.
        seeds: of the runs of every variant.
        beam: beam width, and length of the lists.
        validation_users: number of users whose NDCG after each epoch selects the best epoch.
        closer_users: test users for hallucination by beam width and in changed catalogues.
        exact_users: test users for whom head and backbone score the whole catalogue.
        beams: widths at which hallucinations are counted.
        removed: shares of the items that are removed from the catalogue after training.
    """

    preset: str = "tiny"
    settings: Mapping[str, Any] = field(default_factory=lambda: {"dropout": 0.1})
    ids: Identifiers = field(default_factory=Identifiers)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(epochs=12, learning_rate=4e-3)
    )
    sasrec: SasRecConfig = field(default_factory=lambda: SasRecConfig(epochs=14))
    knn: ItemKnnConfig = field(default_factory=ItemKnnConfig)
    variants: tuple[str, ...] = PLAIN
    list_length: Count = 8
    seeds: tuple[int, ...] = (0, 1, 2)
    beam: EvaluatedBeam = 20
    validation_users: Count = 1500
    closer_users: Count = 1000
    exact_users: Count = 200
    beams: tuple[int, ...] = (10, 20, 50, 128)
    removed: tuple[float, ...] = (0.1, 0.2, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        different = len(self.seeds) == len(set(self.seeds)) > 0
        check(different, "seeds", list(self.seeds), "one or more different numbers")
        unknown = sorted(set(self.variants) - set(VARIANTS))
        check(not unknown, "variants", unknown, f"names out of {', '.join(VARIANTS)}")
        # Otherwise these would fail after hours of training.
        check(self.preset in BACKBONES, "preset", self.preset, f"one of {sorted(BACKBONES)}")
        check(min(self.beams, default=1) >= 1, "beams", list(self.beams), "numbers of at least 1")
        shares = all(0 <= share < 1 for share in self.removed)
        check(shares, "removed", list(self.removed), "shares in [0, 1)")


PRESETS: Mapping[str, StudyConfig] = {
    # About an hour for Beauty on two CPU cores.
    "quick": StudyConfig(),
    # For a GPU; bf16 by itself where the GPU has it.
    "full": StudyConfig(
        preset="small",
        settings={"dropout": 0.2},
        training=TrainingConfig(epochs=40, batch_rows=256, learning_rate=3e-3, patience=6),
        sasrec=SasRecConfig(epochs=100, patience=6),
        beam=50,
        validation_users=5000,
    ),
    # What closes the gap to item-level models: under an hour a seed for Beauty on one core.
    "memory": StudyConfig(
        settings={"dropout": 0.15},
        training=TrainingConfig(epochs=10, learning_rate=4e-3),
        sasrec=SasRecConfig(epochs=16),
        variants=MEMORY,
        beam=50,
        validation_users=3000,
    ),
    # The head against its backbone, epoch by epoch.
    "sacrifice": StudyConfig(
        ids=Identifiers(levels=3, codes=256),
        training=TrainingConfig(epochs=40, learning_rate=4e-3),
        variants=SACRIFICE,
    ),
    # For the course: the synthetic shop, in two minutes.
    "sample": StudyConfig(
        ids=Identifiers(codes=64),
        training=TrainingConfig(epochs=6, learning_rate=4e-3),
        sasrec=SasRecConfig(epochs=6, learning_rate=3e-3),
        seeds=(0,),
        validation_users=500,
        closer_users=300,
        exact_users=100,
        beams=(10, 50),
        removed=(0.2, 0.5),
    ),
}
"""Studies by name. Their settings were tuned on validation users of Beauty, not on test users."""


# ---- what is compared ----------------------------------------------------------------------------

COUNTED = ("popularity", "item-knn")  # not trained, so a study has one run of each
NOT_GENERATIVE = (*COUNTED, "sasrec", "blend")


@dataclass(frozen=True)
class System:
    """A trained model, or a baseline, and how its lists are decoded."""

    name: str
    decoder: str = "nezha"
    verification: str = "prefix"

    @property
    def generative(self) -> bool:
        """Whether it is a variant of NEZHA, and not a baseline."""
        return self.name not in NOT_GENERATIVE

    @property
    def label(self) -> str:
        """Short and unique: "nezha", or "nezha, autoregressive", or "nezha, off".

        For rows about training, whose decoder is "", it is the name.
        """
        own = VARIANTS[self.name].decoded[0] if self.generative else None
        if not self.decoder or own in (None, (self.decoder, self.verification)):
            return self.name
        how = self.verification if self.decoder == "nezha" else self.decoder
        return f"{self.name}, {how}"


NEZHA, ITS_BACKBONE = System("nezha"), System("nezha", "autoregressive")
BACKBONE_ONLY = System("backbone-only", "autoregressive")
THREE_LEVELS, STRONG = System("three-levels"), System("strong")
# Each question is a pair; a gain is the first system's figure minus the second's.
COMPARISONS: tuple[tuple[str, System, System], ...] = (
    ("the same weights, code by code", NEZHA, ITS_BACKBONE),
    ("a model trained for code by code alone", NEZHA, BACKBONE_ONLY),
    ("what the joint loss does to the backbone", ITS_BACKBONE, BACKBONE_ONLY),
    (
        "the same weights, code by code, at three levels",
        THREE_LEVELS,
        System("three-levels", "autoregressive"),
    ),
    ("untied, code by code", System("untied"), System("untied", "autoregressive")),
    (
        "untied, a model trained for code by code alone",
        System("untied"),
        System("backbone-only-untied", "autoregressive"),
    ),
    ("untied embeddings", System("untied"), NEZHA),
    ("self-taught, code by code", System("self-taught"), System("self-taught", "autoregressive")),
    ("its own backbone's lists", System("self-taught"), NEZHA),
    ("the draft loss alone", NEZHA, System("head-only")),
    ("no placeholders", NEZHA, System("no-placeholders")),
    ("no transition, trained so", NEZHA, System("no-transition")),
    ("no transition, while decoding only", NEZHA, System("nezha", "parallel-heads")),
    ("finished drafts verified only", NEZHA, System("nezha", verification="final")),
    ("nothing verified", NEZHA, System("nezha", verification="off")),
    ("a level more", NEZHA, THREE_LEVELS),
    ("item-kNN", NEZHA, System("item-knn", "item-knn", "items")),
    ("SASRec, full cross-entropy", NEZHA, System("sasrec", "sasrec", "items")),
    ("item memory", System("item-memory"), NEZHA),
    ("candidate embeddings", System("candidates"), NEZHA),
    ("a teacher's lists", System("lists"), NEZHA),
    ("memory, candidates and lists", STRONG, NEZHA),
    ("all three, code by code", STRONG, System("strong", "autoregressive")),
    ("all three, a level more", STRONG, System("strong-three-levels")),
    ("all three, against item-kNN", STRONG, System("item-knn", "item-knn", "items")),
    ("all three, against SASRec", STRONG, System("sasrec", "sasrec", "items")),
    ("all three, against its teacher", STRONG, System("blend", "blend", "items")),
)


def all_systems() -> list[System]:
    """Everything that the study decodes, baselines first."""
    return [System(name, name, "items") for name in NOT_GENERATIVE] + [
        System(name, *how) for name, variant in VARIANTS.items() for how in variant.decoded
    ]


# ---- published figures --------------------------------------------------------------------------
# All of them rank the whole catalogue, leave one out, on the 5-core data of 2014. None was measured
# here, so figures and tables mark them as published.


@dataclass(frozen=True)
class Published:
    """One system in one publication.

    Attributes:
        name: of the system.
        dataset: of `load_dataset`.
        metrics: named as ours.
        source: the publication.
        second_hand: whether the figure is quoted from another publication.
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
    return {"recall@10": recall, "ndcg@10": ndcg}


_TIGER = "Rajput et al., NeurIPS 2023, arXiv 2305.05065"
_LETTER = "Wang et al., CIKM 2024, arXiv 2405.07314; beam 20"
_QUOTED = "quoted figure, mean of 3 seeds; the original was not checked"

PUBLISHED: tuple[Published, ...] = (
    Published("TIGER", "beauty", _figures(0.0648, 0.0384), _TIGER),
    Published("LETTER-TIGER", "beauty", _figures(0.0672, 0.0364), _LETTER),
    Published("SASRec, full CE", "beauty", _figures(0.0859, 0.0503), _QUOTED, second_hand=True),
    Published("TIGER", "toys", _figures(0.0712, 0.0432), _TIGER),
)
