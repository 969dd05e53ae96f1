"""How good are semantic IDs? One report for any `SemanticIds`, of any origin."""

from nezha_lite.semantic_ids.quality.code_usage import LevelUse
from nezha_lite.semantic_ids.quality.prefixes import item_categories
from nezha_lite.semantic_ids.quality.report import IdQuality, PrefixQuality, id_quality

__all__ = ["IdQuality", "LevelUse", "PrefixQuality", "id_quality", "item_categories"]
