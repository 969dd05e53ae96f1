"""Evaluation: are the right items in the lists, and how sure is that?"""

from nezha_lite.evaluation.metrics import (
    Evaluation,
    agreement,
    bootstrap_interval,
    evaluate,
    evaluate_popularity,
    ndcg_at,
    overlap_at,
    recall_at,
)

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
