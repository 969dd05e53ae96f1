"""What a generative recommender has to beat: recommenders that score items directly."""

from nezha_lite.baselines.item_knn import ItemKnn, ItemKnnConfig
from nezha_lite.baselines.ranking import ItemScorer, evaluate_scorer
from nezha_lite.baselines.sasrec import SasRec, SasRecConfig, train_sasrec

__all__ = [
    "ItemKnn",
    "ItemKnnConfig",
    "ItemScorer",
    "SasRec",
    "SasRecConfig",
    "evaluate_scorer",
    "train_sasrec",
]
