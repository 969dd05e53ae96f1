"""What a generative recommender has to beat: recommenders that score items directly."""

from nezha_lite.evaluation.baselines.item_knn import ItemKnn, ItemKnnConfig
from nezha_lite.evaluation.baselines.sasrec import SasRec, SasRecConfig, train_sasrec
from nezha_lite.evaluation.baselines.scorer import ItemScorer, evaluate_scorer

__all__ = [
    "ItemKnn",
    "ItemKnnConfig",
    "ItemScorer",
    "SasRec",
    "SasRecConfig",
    "evaluate_scorer",
    "train_sasrec",
]
