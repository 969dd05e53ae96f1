"""Evaluation: are the right items in the lists, and how sure is that?"""

from nezha_lite.evaluation.metrics import (
    Evaluation,
    evaluate,
    evaluate_popularity,
    ndcg_at,
    overlap_at,
    recall_at,
)
from nezha_lite.evaluation.statistics import agreement, bootstrap_interval

__all__ = [
    "Evaluation",
    "agreement",
    "bootstrap_interval",
    "evaluate",
    "evaluate_popularity",
    "ndcg_at",
    "overlap_at",
    "recall_at",
]
